"""`python -m teleop_telemetry.access robots add robot_A`: on the database of telemetry-service."""

import sys

from teleop_runtime.logs import configure_logs
from teleop_runtime.settings import load_settings

from teleop_telemetry.access.command import run
from teleop_telemetry.settings import TelemetrySettings

# The stack's proxy, as its own machine reaches it.
SERVER = "http://localhost:8000"


def database_url() -> str:
    """That of the service."""
    settings = load_settings(TelemetrySettings)
    configure_logs(settings.log_level)
    return settings.database_url


if __name__ == "__main__":
    sys.exit(run("python -m teleop_telemetry.access", database_url, SERVER, sys.argv[1:]))
