#!/usr/bin/env bash
# `with_engine.sh COMMAND…`: run a command as root while a Docker engine runs; one is started for it if none does.
set -euo pipefail

if ! docker info >/dev/null 2>&1; then
    log=$(mktemp)
    dockerd >"$log" 2>&1 &
    engine=$!
    trap 'kill "$engine" && wait "$engine" || true' EXIT
    for _ in $(seq 60); do
        docker info >/dev/null 2>&1 && break
        kill -0 "$engine" || break
        sleep 1
    done
    docker info >/dev/null || { tail -20 "$log" >&2; exit 1; }
fi
"$@"
