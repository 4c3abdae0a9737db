#!/usr/bin/env bash
# Builds and starts the stack, waits until every service is ready, and tells how to go on. Run it again after
# an update: what changed is built and replaced, migrations first.
set -euo pipefail
cd "$(dirname "$0")/../.."
read -ra compose <<<"${COMPOSE:-docker compose}"
. deploy/stack/settings.sh

# Whatever runs as several replicas goes on as so many.
scale=()
for service in telemetry-service video-ingest-service export-service export-worker; do
    replicas=$("${compose[@]}" ps --quiet "$service" | wc -l)
    [ "$replicas" -lt 2 ] || scale+=(--scale "$service=$replicas")
done
before=$("${compose[@]}" port proxy 8000 2>/dev/null || true)
"${compose[@]}" up --build --detach --wait ${scale[@]+"${scale[@]}"}
address=$("${compose[@]}" port proxy 8000)
port=${address##*:}

# Robots on other machines need an address of this one; where nobody else may connect, there is none.
case ${address%:*} in
127.* | '[::1]') here=$address robots=localhost:$port ;;
0.0.0.0 | '[::]')
    here=localhost:$port
    robots=$(hostname -I 2>/dev/null || ipconfig getifaddr en0 2>/dev/null || true)
    robots=${robots%% *}
    robots=${robots:-<this machine>}:$port
    ;;
*) here=$address robots=$address ;;
esac
tls=$("${compose[@]}" exec -T proxy printenv LEROBOT_BACKEND_TLS 2>/dev/null || true)
# Its certificate is for these two.
[ -z "$tls" ] || here=localhost:$port robots=$tls:$port
s=${tls:+s}
given=$(settings_given)
in_access="${compose[*]} exec telemetry-service python -m teleop_telemetry.access"
# Whoever has to sign in needs a way in: a new link each time, which the next one replaces.
trusted=$("${compose[@]}" exec -T telemetry-service printenv LEROBOT_BACKEND_TRUST_NETWORK 2>/dev/null || true)
case $trusted in
[yYtT1]* | [oO][nN]) link='' access="whoever can reach it, WITHOUT a token: only for networks you trust" ;;
*)
    access="whoever has a token, or has signed in"
    link=$("${compose[@]}" exec -T telemetry-service python -m teleop_telemetry.access admin-link \
        --server "http$s://$robots" 2>/dev/null | head -n 1 || true)
    ;;
esac
cat <<EOF

LeRobot backend on http$s://$here
  access    $access
  let in    $in_access robots add robot_A --server http$s://$robots
            $in_access people add anna --role operator --server http$s://$robots
  robots    lerobot-teleoperate … --backend_url=ws$s://$robots --robot_id=robot_A
  look      http$s://$here   /docs
  export    export-to-dataset --session_id 1 --repo_id my-user/my-new-dataset --backend_url http$s://$here
  scale     ${given:+$given }${compose[*]} up --detach --scale telemetry-service=3 --scale export-worker=2
  data      docker volumes; make backup copies them to backups/
EOF
if [ -n "$link" ]; then
    echo "  sign in   $link"
    echo "            as admin, once, within 15 minutes; who else may do what: docs/howto/who-may-do-what.md"
fi
if [ -n "$given" ]; then
    echo "The next command has to be given the same again, unless it is in the file .env: $given"
fi
if [ -n "$before" ] && [ "$before" != "$address" ]; then
    echo "Until now the backend was on $before: LEROBOT_BACKEND_HOST and LEROBOT_BACKEND_PORT were others."
fi
