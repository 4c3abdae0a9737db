#!/usr/bin/env bash
# Install what a fresh Debian lacks of an engine, of what stand-ins of base images are made with, of an S3 server, of
# players, of what checks alerts, of reverse proxies, of who issues certificates and of other clients than ours.
# Whatever of that is not to be had, this fails.
set -euo pipefail

declare -A packages=([dockerd]=docker.io [debootstrap]=debootstrap
    [ceph-mon]=ceph-mon [ceph-osd]=ceph-osd [radosgw]=radosgw [chromium]=chromium [ffmpeg]=ffmpeg
    [promtool]=prometheus [mkfs.xfs]=xfsprogs [curl]=curl [npm]=npm [pgbouncer]=pgbouncer [nginx]=nginx-light
    [caddy]=caddy [pebble]=pebble)
missing=()
for program in "${!packages[@]}"; do
    command -v "$program" >/dev/null || missing+=("${packages[$program]}")
done
if [ ${#missing[@]} -gt 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
fi
