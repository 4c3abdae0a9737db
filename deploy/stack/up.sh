#!/usr/bin/env bash
# Builds and starts the stack, waits until every service is ready, and tells how to go on. Run it again after
# an update: what changed is built and replaced, migrations first.
set -euo pipefail
cd "$(dirname "$0")/../.."
read -ra compose <<<"${COMPOSE:-docker compose}"

# Whatever runs as several replicas goes on as so many.
scale=()
for service in telemetry-service video-ingest-service export-service export-worker; do
    replicas=$("${compose[@]}" ps --quiet "$service" | wc -l)
    [ "$replicas" -lt 2 ] || scale+=(--scale "$service=$replicas")
done
"${compose[@]}" up --build --detach --wait ${scale[@]+"${scale[@]}"}
address=$("${compose[@]}" port proxy 8000)
cat <<EOF

LeRobot backend on http://$address
  robots    lerobot-teleoperate … --backend_url=ws://localhost:${address##*:} --robot_id=robot_A
  look      http://$address/sessions   /robots   /datasets   /exports   /openapi.json
  export    export-to-dataset --session_id 1 --repo_id my-user/my-new-dataset --backend_url http://$address
  scale     ${compose[*]} up --detach --scale telemetry-service=3 --scale export-worker=2
  data      docker volumes; make backup copies them to backups/
EOF
