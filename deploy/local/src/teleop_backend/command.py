"""`lerobot-backend`: the whole backend in one process, with its own PostgreSQL.

`lerobot-backend adopt` takes over the files of a database that is lost for good, and exits.
`lerobot-backend psql` opens psql on the database of a backend that runs, for reading.
`lerobot-backend robots`, `people`, `tokens` and `admin-link` say which robots and people may use it.
`lerobot-backend erase` erases a session, or a backed-up dataset, for good.
"""

import asyncio
import socket
import sys

from teleop_export.arrow import give_memory_back
from teleop_export.hub.settings import HubSettings
from teleop_export.webhooks.settings import WebhookSettings
from teleop_runtime.access.far_end import can_tell_accounts
from teleop_runtime.logs import configure_logs
from teleop_runtime.serving.app import CannotStart
from teleop_runtime.serving.graceful import until_asked_to_end
from teleop_runtime.serving.serve import serve
from teleop_runtime.settings import load_settings, read_command_line

from teleop_backend.addresses import addresses_for
from teleop_backend.adopt import adopt_files
from teleop_backend.app import create_app
from teleop_backend.settings import LocalSettings, postgres_of
from teleop_backend.tls import tls_for

BANNER = """\
LeRobot backend on {http}://{here}:{port}
  robots    lerobot-teleoperate … --backend_url={ws}://{robots}:{port} --robot_id=robot_A
  look      {http}://{here}:{port}   /docs   /metrics
  data      {data_dir} (PostgreSQL), {backup_dir} (files)
  database  {database_url}
  access    {access}
Ctrl-C stops it."""

OWN = "your account on this machine needs no token; all others do (lerobot-backend robots add, tokens add)"
ALL = "no account on this machine needs a token: this system does not tell them apart; other machines do"
TRUSTED = "whoever can reach it, WITHOUT a token: only for networks you trust"
FOR_KNOWN = "whoever has a token or has signed in (lerobot-backend robots add robot_A, people add anna)"


def main() -> None:
    """Serve until SIGTERM or Ctrl-C; exits with a message if a person must change something first."""
    adopting = sys.argv[1:] == ["adopt"]
    if not adopting:
        read_command_line(__doc__, LocalSettings, HubSettings, WebhookSettings)
    settings = load_settings(LocalSettings)
    configure_logs(settings.log_level)
    give_memory_back()
    if adopting:
        adopt(settings)
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            sys.exit(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; "
                "choose another port with LEROBOT_BACKEND_PORT (a second backend also needs its own "
                "folders: LEROBOT_BACKEND_DATA_DIR, LEROBOT_BACKEND_BACKUP_DIR)"
            )
    here, robots = addresses_for(settings.host)
    banner = BANNER.format(
        **settings.model_dump(),
        http="https" if settings.tls else "http",
        ws="wss" if settings.tls else "ws",
        here=here,
        robots=settings.tls or robots,
        access=_access(settings),
        database_url=postgres_of(settings).url(),
    )
    tls = tls_for(settings)
    serve(
        create_app(settings, tls),
        host=settings.host,
        port=settings.port,
        started=lambda: print(banner, flush=True),
        tls=None if tls is None else tls.context,
    )


def _access(settings: LocalSettings) -> str:
    if settings.trust_network:
        return TRUSTED
    if settings.exposure != "local":
        return FOR_KNOWN
    return OWN if can_tell_accounts() else ALL


def adopt(settings: LocalSettings) -> None:
    """Take over the files, and tell what is back; SystemExit if that can't be, or was stopped."""
    try:
        told = asyncio.run(until_asked_to_end(adopt_files(settings)))
    except CannotStart as error:
        sys.exit(str(error))
    if told is None:
        sys.exit("stopped before all files were taken over; run the same command again to go on")
    print(told)
