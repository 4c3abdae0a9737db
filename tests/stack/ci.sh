#!/usr/bin/env bash
# `make test-stack` on a fresh Debian machine where this is root, as in CI: installs what is missing of an engine,
# of what stand-ins of base images are made with, of an S3 server, of players, of what checks alerts and of other
# clients than ours; starts the engine if none runs. Whatever of that is not to be had, this fails. At home, install
# docker as you like.
set -euo pipefail
cd "$(dirname "$0")/../.."

declare -A packages=([dockerd]=docker.io [debootstrap]=debootstrap
    [ceph-mon]=ceph-mon [ceph-osd]=ceph-osd [radosgw]=radosgw [chromium]=chromium [ffmpeg]=ffmpeg
    [promtool]=prometheus [mkfs.xfs]=xfsprogs [curl]=curl [npm]=npm [pgbouncer]=pgbouncer)
missing=()
for program in "${!packages[@]}"; do
    command -v "$program" >/dev/null || missing+=("${packages[$program]}")
done
if [ ${#missing[@]} -gt 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
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
