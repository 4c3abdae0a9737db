"""`python -m teleop_telemetry.access robots add robot_A`: on the database of telemetry-service."""

import sys

from teleop_runtime.logs import configure_logs
from teleop_runtime.settings import load_settings

from teleop_telemetry.access.command import run
from teleop_telemetry.access.installation import Installation
from teleop_telemetry.settings import TelemetrySettings


def find() -> Installation:
    """The database of the service, and the stack's proxy as others reach it."""
    settings = load_settings(TelemetrySettings)
    configure_logs(settings.log_level)
    scheme = "https" if settings.tls else "http"
    server = f"{scheme}://{settings.tls or 'localhost'}:{settings.public_port}"
    return Installation(settings.database_url, server, settings.own_authority, settings.robot_quota_bytes)


if __name__ == "__main__":
    sys.exit(run("python -m teleop_telemetry.access", find, sys.argv[1:]))
