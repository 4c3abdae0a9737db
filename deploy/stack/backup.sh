#!/usr/bin/env bash
# Copies the data of the running stack to a folder: database.dump, files.tar, authority.tar (the authority that signs
# its certificates, with its key), SHA256SUMS. Nothing has to stop.
# usage: backup.sh [folder]      (default: backups/<time>)
set -euo pipefail
cd "$(dirname "$0")/../.."
read -ra compose <<<"${COMPOSE:-docker compose}"
services=$("${compose[@]}" config --services)
if ! grep -qx postgres <<<"$services"; then
    echo "the database is elsewhere: back it up there (pg_dump); its backup first, then that of the files" >&2
    exit 1
fi
folder=${1:-backups/$(date -u +%Y%m%dT%H%M%SZ)}
umask 077
mkdir -p "$(dirname "$folder")"
mkdir "$folder"
partial() { echo "the backup in $folder is not complete" >&2; }
trap partial ERR

in_postgres() { "${compose[@]}" exec -T postgres "$@"; }
in_secrets() { "${compose[@]}" run --rm --no-deps -T secrets "$@"; }
in_ingest() { "${compose[@]}" exec -T video-ingest-service "$@"; }

# By what was written: every object that the dump names is in the archive, with its very bytes.
check_objects() {
    in_postgres pg_restore --data-only --table=stored_object --file=- <"$folder/database.dump" |
        { grep -oE '^[0-9a-f]{64}' || true; } | sort >"$folder/.named"
    in_ingest python -c "$(cat deploy/stack/objects_of.py)" <"$folder/files.tar" | sort >"$folder/.kept"
    missing=$(comm -23 "$folder/.named" "$folder/.kept" | wc -l)
    objects=$(wc -l <"$folder/.kept")
    rm "$folder/.named" "$folder/.kept"
    if [ "$missing" -gt 0 ]; then
        echo "objects missing or damaged: $missing; GET /datasets/…/verify tells which" >&2
        return 1
    fi
}

# The database first: whatever its rows name was in the store before them, and is not removed from it within
# the hour. Uploads and exports on their way are left out; they begin anew.
in_postgres pg_dump -U postgres --format=custom lerobot >"$folder/database.dump"
# tar ends with 1 where a file got another name or went while it was read.
in_ingest sh -c 'tar -C /files --create --exclude=./.incoming --exclude=./.exports/.building . || [ $? -eq 1 ]' \
    >"$folder/files.tar"

in_secrets tar -C /secrets/proxy --create . >"$folder/authority.tar"

store=$(in_ingest printenv STORE_URL)
case $store in
s3://*) told="without the files in $store; keep their versions there" ;;
*)
    check_objects
    told="$objects objects, all checked"
    ;;
esac
for file in database.dump files.tar authority.tar; do
    printf '%s  %s\n' "$(in_postgres sha256sum <"$folder/$file" | cut -d' ' -f1)" "$file"
done >"$folder/SHA256SUMS"
echo "$folder: $(du -sh "$folder" | cut -f1); $told"
