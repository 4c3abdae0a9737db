"""`lerobot-backend`: the whole backend in one process, with its own PostgreSQL.

`lerobot-backend adopt` takes over the files of a database that is lost for good, and exits.
`lerobot-backend psql` opens psql on the database of a backend that runs, for reading.
"""

import asyncio
import socket
import sys

from teleop_export.arrow import give_memory_back
from teleop_export.hub.settings import HubSettings
from teleop_runtime.logs import configure_logs
from teleop_runtime.serving.app import CannotStart
from teleop_runtime.serving.graceful import until_asked_to_end
from teleop_runtime.serving.serve import serve
from teleop_runtime.settings import load_settings, read_command_line

from teleop_backend.adopt import adopt_files
from teleop_backend.app import create_app
from teleop_backend.settings import LocalSettings, postgres_of

BANNER = """\
LeRobot backend on http://{here}:{port}
  robots    lerobot-teleoperate … --backend_url=ws://{robots}:{port} --robot_id=robot_A
  look      http://{here}:{port}/sessions   /robots   /docs   /metrics
  data      {data_dir} (PostgreSQL), {backup_dir} (files)
  database  {database_url}
  access    {access}
Ctrl-C stops it."""

ACCESS = {
    "local": "this machine only, no token needed",
    "lab": "every machine that can reach it, WITHOUT a token: only for networks you trust",
}


def main() -> None:
    """Serve until SIGTERM or Ctrl-C; exits with a message if a person must change something first."""
    adopting = sys.argv[1:] == ["adopt"]
    if not adopting:
        read_command_line(__doc__, LocalSettings, HubSettings)
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
        here=here,
        robots=robots,
        access=ACCESS[settings.exposure],
        database_url=postgres_of(settings).url(),
    )
    serve(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        started=lambda: print(banner, flush=True),
    )


def addresses_for(host: str) -> tuple[str, str]:
    """What to connect to from this machine, and what robots connect to, if the backend listens on `host`."""
    if host in ("localhost", "127.0.0.1"):
        return host, "localhost"
    if host in ("0.0.0.0", "::", ""):  # noqa: S104
        return "localhost", _address_in_the_network()
    name = f"[{host}]" if ":" in host else host
    return name, name


def _address_in_the_network() -> str:
    """This machine's address where its packets go out; its name if it has no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: only the way there is looked up, to an address kept for documentation.
            probe.connect(("203.0.113.1", 9))
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])


def adopt(settings: LocalSettings) -> None:
    """Take over the files, and tell what is back; SystemExit if that can't be, or was stopped."""
    try:
        told = asyncio.run(until_asked_to_end(adopt_files(settings)))
    except CannotStart as error:
        sys.exit(str(error))
    if told is None:
        sys.exit("stopped before all files were taken over; run the same command again to go on")
    print(told)
