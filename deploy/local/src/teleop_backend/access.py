"""`lerobot-backend robots`, `people`, `tokens`, `admin-link`, `erase`: on a running backend's database."""

import sys

from teleop_runtime.logs import configure_logs
from teleop_runtime.settings import load_settings
from teleop_telemetry.access.command import run
from teleop_telemetry.access.installation import Installation

from teleop_backend.addresses import addresses_for
from teleop_backend.postgres import SUPERUSER
from teleop_backend.psql import running_server
from teleop_backend.settings import LocalSettings, postgres_of
from teleop_backend.tls import own_authority


def main() -> int:
    """The exit status; SystemExit if no backend runs here."""
    settings = load_settings(LocalSettings)
    configure_logs(settings.log_level)

    def find() -> Installation:
        postgres = postgres_of(settings)
        try:
            url = running_server(postgres).socket_url(SUPERUSER)
            authority = own_authority(settings)
        except OSError as error:
            reason = f"{postgres.folder} can't be read ({error.strerror})"
            sys.exit(f"{reason}; run this as the user that runs the backend")

        _, robots = addresses_for(settings.host)
        scheme = "https" if settings.tls else "http"
        return Installation(
            url, f"{scheme}://{settings.tls or robots}:{settings.port}", authority, settings.robot_quota_bytes
        )

    return run("lerobot-backend", find, sys.argv[1:])
