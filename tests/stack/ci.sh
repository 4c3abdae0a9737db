#!/usr/bin/env bash
# `make test-stack` on a fresh Debian machine where this is root, as in CI: installs and starts an engine if there
# is none, and what stand-ins of base images are made with. At home, install docker as you like.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v dockerd >/dev/null || ! command -v debootstrap >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends docker.io debootstrap >/dev/null
fi
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
make test-stack
