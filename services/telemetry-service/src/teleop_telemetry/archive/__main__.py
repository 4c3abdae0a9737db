"""`python -m teleop_telemetry.archive`: archive old sessions now, restore them, end sessions
that never ended."""

import argparse
import asyncio
import sys
from datetime import timedelta

from teleop_runtime.logs import configure_logs
from teleop_runtime.postgres.pool import open_pool
from teleop_runtime.serving.app import CannotStart
from teleop_runtime.settings import load_settings
from teleop_runtime.store import open_store
from teleop_schema.commands.command_line import Parser
from teleop_schema.errors import BackendError
from teleop_schema.words import counted

from teleop_telemetry.archive.adopting import adopt
from teleop_telemetry.archive.restoring import restore_partition, restore_session
from teleop_telemetry.archive.retention import RETENTION_CONNECTIONS, Retention
from teleop_telemetry.archive.session_files import SessionFiles, archive_address
from teleop_telemetry.settings import TelemetrySettings
from teleop_telemetry.tables.session_table import SessionTable


def main() -> int:
    """Exit status 0 if it was done, 1 if not; the reason is on standard error."""
    arguments = _parser().parse_args()
    settings = load_settings(TelemetrySettings)
    configure_logs(settings.log_level)
    try:
        print(asyncio.run(_run(arguments, settings)))
    except BackendError as error:
        print(f"{error.detail}{f'; {error.hint}' if error.hint else ''}", file=sys.stderr)
        return 1
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> Parser:
    parser = Parser(prog="python -m teleop_telemetry.archive", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="archive and drop old partitions, once")
    run.add_argument("--days", type=int, help="how many days old; default: TELEMETRY_RETENTION_DAYS")
    restore = commands.add_parser("restore", help="load archived frames back into the database")
    which = restore.add_mutually_exclusive_group(required=True)
    which.add_argument("--session", type=int)
    which.add_argument("--partition", type=int, help="partition P holds the sessions P000 to P999")
    commands.add_parser("adopt", help="take over the sessions and the archive of a lost database")
    interrupt = commands.add_parser("interrupt", help="end a session whose robot won't come back")
    interrupt.add_argument("--session", type=int, required=True)
    return parser


async def _run(arguments: argparse.Namespace, settings: TelemetrySettings) -> str:
    async with open_pool(settings.database_url, max_size=RETENTION_CONNECTIONS) as pool:
        if arguments.command == "interrupt":
            await SessionTable(pool, RETENTION_CONNECTIONS).interrupt(arguments.session)
            return f"session {arguments.session} is interrupted"
        if settings.store_url is None:
            raise BackendError("STORE_URL is not set: point it to the archive, as for video-ingest-service")
        store = await asyncio.to_thread(open_store, archive_address(settings.store_url))
        if arguments.command == "adopt":
            return str(await adopt(pool, store))
        files = SessionFiles(store, settings.database_url)
        if arguments.command == "restore":
            if arguments.session is not None:
                frames = await restore_session(pool, files, arguments.session)
            else:
                frames = await restore_partition(pool, files, arguments.partition)
            return f"in the database again: {counted(frames, 'frame')}"
        days = settings.retention_days if arguments.days is None else arguments.days
        if days < 1:
            raise BackendError(
                "set --days or TELEMETRY_RETENTION_DAYS: how old sessions must be to be archived"
            )
        dropped = await Retention(pool, files, timedelta(days=days)).once()
    if dropped is None:
        return "another replica is archiving right now"
    return (
        "\n".join(
            f"partition {each.part}: {counted(each.sessions, 'session')}, "
            f"{counted(each.frames, 'frame')} archived and dropped"
            for each in dropped
        )
        or "nothing is old enough to archive"
    )


if __name__ == "__main__":
    sys.exit(main())
