#!/bin/sh
# Prints an .env for docker-compose.yml with a fresh secret for everything that needs one: sh deploy/new-env.sh > .env
set -eu
secret() { LC_ALL=C tr -dc 'A-Za-z0-9' < /dev/urandom | head -c 48; }
for name in SECRET_KEY DB_ADMIN_PASSWORD DB_OWNER_PASSWORD DB_PASSWORD REDIS_ADMIN_PASSWORD REDIS_PASSWORD \
  REDIS_REPLICATION_PASSWORD REDIS_SENTINEL_PASSWORD METRICS_TOKEN GRAFANA_PASSWORD; do
  echo "$name=$(secret)"
done
