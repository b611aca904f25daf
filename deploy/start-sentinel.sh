#!/bin/sh
# Starts a Sentinel that watches one primary. It rewrites its own configuration, so that is a file of its own.
set -eu
umask 077
config=${TMPDIR:-/tmp}/sentinel.conf
cat > "$config" <<END
port ${SENTINEL_PORT:-26379}
protected-mode no
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel monitor appointments ${PRIMARY_HOST:?} ${PRIMARY_PORT:-6379} ${SENTINEL_QUORUM:-2}
sentinel auth-user appointments sentinel
sentinel auth-pass appointments ${REDIS_SENTINEL_PASSWORD:?}
sentinel down-after-milliseconds appointments 2000
sentinel failover-timeout appointments 10000
sentinel parallel-syncs appointments 1
END
exec "${REDIS_SERVER:-redis-server}" "$config" --sentinel
