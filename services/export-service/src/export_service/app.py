"""Composition of export-service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from teleop_runtime.app import Part, Running, assemble

from export_service import endpoints
from export_service.database import open_pool
from export_service.export_table import ExportTable
from export_service.folders import Folders
from export_service.jobs import MAKING, Jobs
from export_service.session_table import SessionTable
from export_service.settings import ExportSettings
from export_service.worker import Worker, running, stop


def export_part(database_url: str, export_root: Path) -> Part:
    """export-service as a part of a server, with a worker of its own."""

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[Running]:
        folders = await asyncio.to_thread(Folders, export_root)
        async with open_pool(database_url) as pool:
            exports = ExportTable(pool)
            jobs = Jobs(pool, MAKING)
            await jobs.open()

            async def check_database() -> None:
                async with asyncio.timeout(2), pool.connection() as connection:
                    await connection.execute("SELECT 1")

            async with running(Worker(database_url, exports, jobs, folders)) as worker:
                yield Running(
                    state={
                        "exports": exports,
                        "export_folders": folders,
                        "export_jobs": jobs,
                        "recorded_sessions": SessionTable(pool),
                    },
                    checks={"export database": check_database},
                    drain=partial(stop, worker),
                )

    return Part(name="export-service", operations=endpoints.OPERATIONS, lifespan=lifespan)


def create_app(settings: ExportSettings) -> Starlette:
    """export-service as a server of its own."""
    part = export_part(settings.database_url, settings.export_root)
    return assemble("export-service", [part], exposure=settings.exposure)
