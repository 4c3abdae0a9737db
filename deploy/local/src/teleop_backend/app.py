"""All services in one process, on an embedded PostgreSQL: `uvicorn teleop_backend.app:app --port 8000`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from starlette.applications import Starlette
from teleop_export.app import export_part
from teleop_export.arrow import give_memory_back
from teleop_export.hub.settings import HubSettings
from teleop_export.webhooks.settings import WebhookSettings
from teleop_runtime.background import Background
from teleop_runtime.gate import access_part
from teleop_runtime.logs import configure_logs, get_logger
from teleop_runtime.serving.app import Running, ServicePart, assemble_for
from teleop_runtime.serving.serve import adapt_uvicorn
from teleop_runtime.settings import load_settings
from teleop_runtime.trouble import FULL, ROOM
from teleop_schema.errors import NoSpace
from teleop_schema.migrate import migrate
from teleop_telemetry.app import telemetry_part
from teleop_video_ingest.app import ingest_part

from teleop_backend.console import console_part
from teleop_backend.postgres import EmbeddedPostgres, PostgresFailed, running
from teleop_backend.reading import prepare_reader
from teleop_backend.settings import LocalSettings, postgres_of
from teleop_backend.tls import ServerTls, tls_for

log = get_logger(__name__)

# PostgreSQL writes its log (WAL) to files of this size, and needs room for one to recover.
LOG_FILE_BYTES = 16 * 1024 * 1024
# How long a dead PostgreSQL goes unnoticed; services wait for it meanwhile.
WATCH_EVERY_S = 1.0
# No robot can have this name, because it begins with a dot.
EXPORTS_FOLDER = ".exports"


def postgres_part(postgres: EmbeddedPostgres) -> ServicePart:
    """The database as a part: started and migrated before the services, stopped after them."""

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[Running]:
        async with running(postgres), Background() as background:
            background.every(
                WATCH_EVERY_S, "watch over PostgreSQL", partial(_keep_running, postgres), vital=True
            )
            await asyncio.to_thread(migrate, postgres.url())
            await asyncio.to_thread(prepare_reader, postgres)
            yield Running(state={}, checks=background.checks())

    return ServicePart(name="postgres", operations=[], lifespan=lifespan)


async def _keep_running(postgres: EmbeddedPostgres) -> None:
    """Start the database again if it has died; the services wait for it meanwhile.

    Raises NoSpace if its disk is full: without room for its log, PostgreSQL ends, and does not start.
    """
    if postgres.pid is None:
        log.error("PostgreSQL has died, starting it again", log=str(postgres.log))
        try:
            await asyncio.to_thread(postgres.ensure_running)
        except (PostgresFailed, OSError) as error:
            if postgres.free_bytes < LOG_FILE_BYTES:
                raise NoSpace(FULL, hint=ROOM) from error
            raise


def create_app(settings: LocalSettings, tls: ServerTls | None = None) -> Starlette:
    """The whole backend, with its data in `settings.data_dir` and its files in `settings.backup_dir`.

    tls  what the server shows to its clients; None: plain HTTP
    """
    postgres = postgres_of(settings)
    parts = [
        postgres_part(postgres),
        access_part(postgres.url()),
        telemetry_part(
            postgres.url(),
            str(settings.backup_dir),
            settings.retention_days,
            None if tls is None else tls.authority,
            settings.robot_quota_bytes,
        ),
        ingest_part(
            postgres.url(),
            str(settings.backup_dir),
            max_open_uploads=settings.max_open_uploads,
            robot_quota_bytes=settings.robot_quota_bytes,
        ),
        export_part(
            postgres.url(),
            settings.backup_dir / EXPORTS_FOLDER,
            str(settings.backup_dir),
            load_settings(HubSettings),
            load_settings(WebhookSettings),
        ),
        console_part(),
    ]
    if tls is not None:
        parts.append(tls.part())
    return assemble_for(settings, "lerobot-backend", parts)


def __getattr__(name: str) -> Starlette:
    """`app`, created when uvicorn asks for it, so that importing this module starts nothing."""
    if name != "app":
        raise AttributeError(name)
    settings = load_settings(LocalSettings)
    # uvicorn started this process, so none of our mains has done this.
    configure_logs(settings.log_level)
    give_memory_back()
    tls = tls_for(settings)
    adapt_uvicorn(None if tls is None else tls.context)
    return create_app(settings, tls)
