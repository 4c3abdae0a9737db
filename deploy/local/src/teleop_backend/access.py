"""`lerobot-backend robots` and `lerobot-backend tokens`: on the database of a backend that runs."""

import sys

from teleop_runtime.logs import configure_logs
from teleop_runtime.settings import load_settings
from teleop_telemetry.access.command import run

from teleop_backend.addresses import addresses_for
from teleop_backend.postgres import SUPERUSER
from teleop_backend.psql import running_server
from teleop_backend.settings import LocalSettings, postgres_of


def main() -> int:
    """The exit status; SystemExit if no backend runs here."""
    settings = load_settings(LocalSettings)
    configure_logs(settings.log_level)

    def database_url() -> str:
        postgres = postgres_of(settings)
        try:
            return running_server(postgres).socket_url(SUPERUSER)
        except OSError as error:
            reason = f"{postgres.folder} can't be read ({error.strerror})"
            sys.exit(f"{reason}; run this as the user that runs the backend")

    _, robots = addresses_for(settings.host)
    return run("lerobot-backend", database_url, f"http://{robots}:{settings.port}", sys.argv[1:])
