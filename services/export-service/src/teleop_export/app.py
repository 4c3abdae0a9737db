"""Composition of export-service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from teleop_runtime.background import Background
from teleop_runtime.gate import access_part
from teleop_runtime.postgres import pool as asyncpg_pool
from teleop_runtime.postgres.erasing import ERASE_EVERY_S, Erasing
from teleop_runtime.serving.app import Running, ServicePart, assemble_for
from teleop_runtime.serving.guard import Bound
from teleop_runtime.serving.openapi.document import Described
from teleop_runtime.settings import load_settings
from teleop_runtime.store import open_store
from teleop_runtime.trouble import FILES_FROZEN, FROZEN

from teleop_export.api import asking, endpoints, events, push_endpoints
from teleop_export.api.addresses import NAMES, TAGS
from teleop_export.api.told import ToldExports
from teleop_export.errors import ExportNotFound
from teleop_export.hub.pusher import Pusher
from teleop_export.hub.settings import HubSettings
from teleop_export.settings import ExportSettings
from teleop_export.tables.database import check_database, name_of, open_pool
from teleop_export.tables.export_table import ExportTable
from teleop_export.tables.push_table import PushTable
from teleop_export.tables.session_table import SessionReader
from teleop_export.webhooks import endpoints as webhook_endpoints
from teleop_export.webhooks.sender import Sender
from teleop_export.webhooks.settings import WebhookSettings
from teleop_export.webhooks.table import WebhookTable
from teleop_export.work import queue_watch
from teleop_export.work.erasing import ExportEraser
from teleop_export.work.folders import Folders
from teleop_export.work.jobs import MAKING, PUSHING, Jobs
from teleop_export.worker import Worker, working

# Less than the 5 s that the chart's readiness probe waits: the answer then says what is wrong.
READY_TIMEOUT_S = 2.0
# Of erasures: one holds the lock, one works.
ERASING_CONNECTIONS = 2


def export_part(
    database_url: str,
    export_root: Path,
    store_url: str,
    hub: HubSettings,
    webhooks: WebhookSettings,
    *,
    work_here: bool = True,
) -> ServicePart:
    """export-service as a part of a server; `work_here`: with workers of its own."""

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[Running]:
        async with (
            open_pool(database_url) as pool,
            asyncpg_pool.open_pool(database_url, max_size=ERASING_CONNECTIONS) as erasing_pool,
        ):
            folders = await asyncio.to_thread(Folders, export_root, await name_of(pool))
            exports = ExportTable(pool)
            pushes = PushTable(pool)
            jobs, push_jobs = Jobs(pool, MAKING), Jobs(pool, PUSHING)
            await jobs.open()
            await push_jobs.open()
            webhook_table, allowed = WebhookTable(pool), webhooks.allowed
            workers: list[Worker | Pusher | Sender] = []
            if work_here:
                store = await asyncio.to_thread(open_store, store_url)
                workers = [
                    Worker(database_url, exports, jobs, folders, store),
                    Pusher(pushes, push_jobs, folders, hub),
                    Sender(webhook_table, allowed),
                ]

            async with Background() as background, working(*workers) as work:
                background.every(
                    queue_watch.LOOK_EVERY_S, "length of the queue", partial(queue_watch.look, pool)
                )

                eraser = ExportEraser(erasing_pool, pool, folders, webhook_table.forget_session)
                erasing = Erasing(erasing_pool, "export-service", eraser.erase)
                background.every(ERASE_EVERY_S, "erasing of exports", erasing.once)

                making = {"export folder": partial(_check_writable, folders)} if work_here else {}
                yield Running(
                    state={
                        "exports": exports,
                        "told_exports": ToldExports(exports, folders),
                        "bound_export_id": Bound(exports.robots_of, ExportNotFound.of),
                        "export_folders": folders,
                        "export_jobs": jobs,
                        "export_pushes": pushes,
                        "hub_namespaces": hub.namespaces,
                        "export_followers": events.Followers(),
                        "recorded_sessions": SessionReader(pool),
                        "webhooks": webhook_table,
                        "webhooks_allowed": allowed,
                    },
                    checks={"export database": partial(check_database, pool), **making, **work.checks()},
                    silent={"export database": FROZEN, "export folder": FILES_FROZEN},
                    drain=work.stop,
                )

    operations = (
        *asking.OPERATIONS,
        *endpoints.OPERATIONS,
        *events.OPERATIONS,
        *push_endpoints.OPERATIONS,
        *webhook_endpoints.OPERATIONS,
    )
    return ServicePart(
        name="export-service",
        operations=operations,
        lifespan=lifespan,
        described=Described(TAGS | webhook_endpoints.TAGS, NAMES | webhook_endpoints.NAMES),
    )


async def _check_writable(folders: Folders) -> None:
    async with asyncio.timeout(READY_TIMEOUT_S):
        await asyncio.to_thread(folders.check_writable)


def create_app(settings: ExportSettings) -> Starlette:
    """export-service as a server of its own."""
    part = export_part(
        settings.database_url,
        settings.export_root,
        settings.store_url,
        load_settings(HubSettings),
        load_settings(WebhookSettings),
        work_here=settings.work_here,
    )
    return assemble_for(settings, "export-service", [access_part(settings.database_url), part])
