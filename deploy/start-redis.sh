#!/bin/sh
# Starts Redis with the users of users.acl, which let nobody in until they have passwords: those of the environment.
# An argument that is given here, such as --maxmemory, is handed on.
set -eu
umask 077
for variable in REDIS_ADMIN_PASSWORD REDIS_PASSWORD REDIS_NEIGHBOUR_PASSWORD; do
  eval "value=\${$variable:-}"
  case $value in
    '' | *[!A-Za-z0-9]*) echo "$variable has to be letters and digits, one at least" >&2; exit 1 ;;
  esac
done
sed -e "/^user default /s/\$/ >$REDIS_ADMIN_PASSWORD/" \
    -e "/^user appointment_service /s/\$/ >$REDIS_PASSWORD/" \
    -e "/^user neighbour /s/\$/ >$REDIS_NEIGHBOUR_PASSWORD/" \
    "${USERS_FILE:-/etc/redis/users.acl}" > "${TMPDIR:-/tmp}/users.acl"
exec "${REDIS_SERVER:-redis-server}" --aclfile "${TMPDIR:-/tmp}/users.acl" "$@"
