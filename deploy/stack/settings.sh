# For the other scripts: which settings of compose.yaml, and of the files beside it, this command was given.

# In front of a command they give it the same; what nobody else may see is named as the shell's own variable.
settings_given() {
    local name given=()
    for name in COMPOSE_PROJECT_NAME COMPOSE_FILE COMPOSE_PROFILES LEROBOT_BACKEND_HOST LEROBOT_BACKEND_PORT \
        LEROBOT_BACKEND_DOMAIN LEROBOT_BACKEND_TLS LEROBOT_BACKEND_TRUST_NETWORK LEROBOT_BACKEND_NAMES \
        LEROBOT_BACKEND_PROXIES LEROBOT_BACKEND_FORWARD_AUTH LEROBOT_BACKEND_FORWARD_AUTH_USER \
        LEROBOT_BACKEND_FORWARD_AUTH_GROUPS GRAFANA_PORT TELEMETRY_RETENTION_DAYS INGEST_MAX_OPEN_UPLOADS LOG_LEVEL \
        LEROBOT_BACKEND_ROBOT_QUOTA_GB LEROBOT_BACKEND_SQL_PORT LEROBOT_BACKEND_HUB_NAMESPACES LEROBOT_BACKEND_WEBHOOKS STORE_URL AWS_REGION AWS_ENDPOINT_URL; do
        [ -z "${!name:-}" ] || given+=("$(printf '%s=%q' "$name" "${!name}")")
    done
    for name in DATABASE_URL AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY HF_TOKEN; do
        [ -z "${!name:-}" ] || given+=("$name=\"\$$name\"")
    done
    echo "${given[*]-}"
}
