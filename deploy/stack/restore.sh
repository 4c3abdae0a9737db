#!/usr/bin/env bash
# Brings a backup into a stack that holds nothing yet, and starts it.
# usage: restore.sh backups/<time>
set -euo pipefail
cd "$(dirname "$0")/../.."
read -ra compose <<<"${COMPOSE:-docker compose}"
. deploy/stack/settings.sh
folder=${1:-}
if [ -n "$folder" ] && [ ! -e "$folder" ]; then
    echo "$folder does not exist; ls backups/ shows which backups there are" >&2
    exit 2
fi
if [ -n "$folder" ] && [ ! -f "$folder/SHA256SUMS" ]; then
    echo "$folder is not a whole backup: it has no SHA256SUMS" >&2
    exit 2
fi
if [ -z "$folder" ]; then
    echo "say which backup to restore: make restore FROM=backups/<time>" >&2
    exit 2
fi
services=(proxy telemetry-service video-ingest-service export-service export-worker)

in_postgres() { "${compose[@]}" exec -T postgres "$@"; }
in_secrets() { "${compose[@]}" run --rm --no-deps -T secrets "$@"; }
in_files() { "${compose[@]}" run --rm --no-deps -T video-ingest-service "$@"; }
query() { in_postgres psql -U postgres -d lerobot --no-align --tuples-only --command "$1"; }

is_empty() {
    [ "$(query "SELECT to_regclass('robot') IS NULL")" = t ] && return
    [ "$(query "SELECT NOT EXISTS (SELECT FROM robot) AND NOT EXISTS (SELECT FROM stored_object)
                       AND NOT EXISTS (SELECT FROM export)")" = t ] &&
        [ -z "$(in_files find /files -type f ! -name .owner -print -quit)" ]
}
insist_on_emptiness() {
    if ! is_empty; then
        echo "this stack holds data already; restore into an empty one, for example" >&2
        echo "  COMPOSE_PROJECT_NAME=restored LEROBOT_BACKEND_PORT=8001 make restore FROM=$folder" >&2
        echo "or remove what this one holds, for good: ${compose[*]} down --volumes" >&2
        exit 1
    fi
}

# A stack that is in use goes on as it is, and is refused before anything is built.
if [ "$(query "SELECT to_regclass('robot') IS NOT NULL" 2>/dev/null || true)" = t ]; then
    insist_on_emptiness
fi
"${compose[@]}" build --quiet >/dev/null
"${compose[@]}" up --detach --wait postgres
insist_on_emptiness
# The roles and the schema of a new stack, nothing else; its services stand still meanwhile.
"${compose[@]}" stop "${services[@]}"
"${compose[@]}" run --rm -T migrate
insist_on_emptiness
while read -r sum file; do
    if [ "$(in_postgres sha256sum <"$folder/$file" | cut -d' ' -f1)" != "$sum" ]; then
        echo "$folder/$file is not what was backed up" >&2
        exit 1
    fi
done <"$folder/SHA256SUMS"

in_postgres dropdb -U postgres --force lerobot
in_postgres createdb -U postgres --owner migration lerobot
in_postgres pg_restore -U postgres -d lerobot --exit-on-error --single-transaction <"$folder/database.dump"
in_files tar -C /files --extract --preserve-permissions <"$folder/files.tar"
in_files sync
# Robots know this backend by its authority. Backups of older versions have none.
if [ -f "$folder/authority.tar" ]; then
    in_secrets tar -C /secrets/proxy --extract --preserve-permissions <"$folder/authority.tar"
    in_secrets python /opt/setup/make_secrets.py
fi
# A backup of an older version gets the migrations that it lacks.
"${compose[@]}" up --detach --wait
given=$(settings_given)
tls=$("${compose[@]}" exec -T proxy printenv LEROBOT_BACKEND_TLS 2>/dev/null || true)
echo "restored from $folder; http${tls:+s}://$("${compose[@]}" port proxy 8000)"
if [ -n "$given" ]; then
    echo "Give later commands the same settings: $given"
fi
