"""`lerobot-backend psql`: psql on the database of a backend that runs, with a role that only reads."""

import argparse
import os
import shutil
import sys

from teleop_runtime.settings import load_settings
from teleop_schema.commands.command_line import Parser
from teleop_schema.migrations.reader import READER

from teleop_backend.postgres import EmbeddedPostgres, RunningServer
from teleop_backend.reading import reader_address
from teleop_backend.settings import LocalSettings, postgres_of

EXAMPLES = """\
examples:
  lerobot-backend psql
  lerobot-backend psql --csv -c 'SELECT id, robot_id, frames FROM session_overview'
  lerobot-backend psql -c 'SELECT make_session_view(7)' -c 'SELECT * FROM session_7 LIMIT 3'
  lerobot-backend psql --dsn
docs/tables.md describes what can be read."""


def main() -> None:
    """Become psql, or print an address; SystemExit if no backend runs, or there is no psql."""
    parser = Parser(
        prog="lerobot-backend psql",
        usage="lerobot-backend psql [--dsn] [argument of psql …]",
        description=f"Open psql on the database of the backend that runs here, with the role {READER!r}: it "
        "reads what is documented, and changes nothing.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--dsn", action="store_true", help="print the address for pandas, polars, DuckDB or Grafana, and exit"
    )
    given, words = parser.parse_known_args()
    postgres = postgres_of(load_settings(LocalSettings))
    try:
        server = running_server(postgres)
        if given.dsn:
            print(reader_address(postgres.folder, server))
            return
    except OSError as error:
        sys.exit(
            f"{postgres.folder} can't be read ({error.strerror}); run this as the user that runs the backend"
        )
    address = server.socket_url(READER)
    # The user's own first: it can edit lines.
    psql = shutil.which("psql") or shutil.which("psql", path=str(postgres.programs.folder))
    if psql is None:
        sys.exit(f"psql is not installed (Debian: apt install postgresql-client); the address is {address}")
    os.execv(psql, [psql, "--dbname", address, *words])  # noqa: S606


def running_server(postgres: EmbeddedPostgres) -> RunningServer:
    """The server on this folder; SystemExit if none runs."""
    if server := postgres.found():
        return server
    sys.exit(
        f"no backend is running on {postgres.folder}; start it (make run), or name the folder of another one "
        "with LEROBOT_BACKEND_DATA_DIR"
    )
