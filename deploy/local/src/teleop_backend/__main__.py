"""`lerobot-backend`: the whole backend in one process, with its own PostgreSQL.

`lerobot-backend adopt` takes over the files of a database that is lost for good, and exits.
"""

import socket
import sys

from teleop_export.arrow import give_memory_back
from teleop_export.hub.settings import HubSettings
from teleop_runtime.logs import configure_logs
from teleop_runtime.serving.app import CannotStart
from teleop_runtime.serving.serve import serve
from teleop_runtime.settings import load_settings, read_command_line

from teleop_backend.adopt import adopt_files
from teleop_backend.app import create_app
from teleop_backend.postgres import EmbeddedPostgres
from teleop_backend.settings import LocalSettings

BANNER = """\
LeRobot backend on http://{host}:{port}
  robots    lerobot-teleoperate … --backend_url=ws://localhost:{port} --robot_id=robot_A
  look      http://{host}:{port}/sessions   /robots   /openapi.json   /metrics
  data      {data_dir} (PostgreSQL), {backup_dir} (files)
  database  {database_url}
  access    {access}
Ctrl-C stops it."""

ACCESS = {
    "local": "this machine only, no token needed",
    "lab": "every machine that can reach it, WITHOUT a token: only for networks you trust",
}


def main() -> None:
    adopting = sys.argv[1:] == ["adopt"]
    if not adopting:
        read_command_line(__doc__, LocalSettings, HubSettings)
    settings = load_settings(LocalSettings)
    configure_logs(settings.log_level)
    give_memory_back()
    if adopting:
        try:
            print(adopt_files(settings))
        except CannotStart as error:
            sys.exit(str(error))
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
    banner = BANNER.format(
        **settings.model_dump(),
        access=ACCESS[settings.exposure],
        database_url=EmbeddedPostgres(settings.data_dir).url(),
    )
    serve(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        started=lambda: print(banner, flush=True),
    )


if __name__ == "__main__":
    main()
