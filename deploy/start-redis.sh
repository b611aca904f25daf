#!/bin/sh
# Starts Redis with the users of users.acl. None of them gets in before it has a password: here each gets the one of the
# environment, and one without a variable stays locked out. Arguments, such as --maxmemory, are handed on.
set -eu
umask 077
users=${TMPDIR:-/tmp}/users.acl
cp "${USERS_FILE:-/etc/redis/users.acl}" "$users"

give_password() { # user, variable
  eval "password=\${$2:-}"
  case $password in
    *[!A-Za-z0-9]*) echo "$2 can have letters and digits only" >&2; exit 1 ;;
    ?*) sed -e "/^user $1 /s/\$/ >$password/" "$users" > "$users.new" && mv "$users.new" "$users" ;;
  esac
}
give_password default REDIS_ADMIN_PASSWORD
give_password appointment_service REDIS_PASSWORD
give_password neighbour REDIS_NEIGHBOUR_PASSWORD
give_password event_reader REDIS_EVENTS_PASSWORD
give_password replica REDIS_REPLICATION_PASSWORD
give_password sentinel REDIS_SENTINEL_PASSWORD

if [ -n "${REDIS_REPLICATION_PASSWORD:-}" ]; then # every server may become a replica after a failover
  set -- --masteruser replica --masterauth "$REDIS_REPLICATION_PASSWORD" "$@"
fi
exec "${REDIS_SERVER:-redis-server}" --aclfile "$users" "$@"
