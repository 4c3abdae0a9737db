"""Composition of telemetry-service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from teleop_runtime.app import Check, Part, Running, assemble
from teleop_runtime.database import Pool, connected, open_pool
from teleop_runtime.logs import get_logger

from telemetry_service import frame_endpoints, session_endpoints
from telemetry_service.batcher import LANES, Batcher
from telemetry_service.connections import Connections
from telemetry_service.frame_endpoints import MAX_FRAME_READERS
from telemetry_service.frame_table import FrameTable
from telemetry_service.log_endpoint import log_telemetry
from telemetry_service.session_edits import SessionEdits
from telemetry_service.session_queries import SessionQueries
from telemetry_service.session_table import SessionTable
from telemetry_service.settings import TelemetrySettings

log = get_logger(__name__)

# Each kind of work has connections of its own, so that readers can never keep frames or robots waiting.
OPENING_CONNECTIONS = 5
READING_CONNECTIONS = 8
READY_TIMEOUT_S = 2.0
ABANDONED_AFTER_S = 300.0
SWEEP_EVERY_S = 60.0


def telemetry_part(database_url: str) -> Part:
    """telemetry-service as a part of a server."""

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[Running]:
        async with (
            open_pool(database_url, max_size=LANES) as commits,
            open_pool(database_url, max_size=OPENING_CONNECTIONS) as openings,
            open_pool(database_url, max_size=READING_CONNECTIONS) as pool,
        ):
            batcher = Batcher(FrameTable(commits))
            connections = Connections()
            sessions = SessionTable(openings, OPENING_CONNECTIONS)
            flushing = asyncio.create_task(batcher.run())
            sweeping = asyncio.create_task(_sweep(sessions))
            try:
                yield Running(
                    state={
                        "batcher": batcher,
                        "connections": connections,
                        "session_table": sessions,
                        "session_queries": SessionQueries(pool),
                        "session_edits": SessionEdits(pool),
                        "frame_readers": asyncio.Semaphore(MAX_FRAME_READERS),
                        "database_url": database_url,
                    },
                    checks=_checks(pool, flushing),
                    drain=connections.drain,
                )
            finally:
                for task in (flushing, sweeping):
                    task.cancel()
                await asyncio.gather(flushing, sweeping, return_exceptions=True)

    return Part(
        name="telemetry-service",
        operations=[*session_endpoints.OPERATIONS, *frame_endpoints.OPERATIONS],
        websockets=[WebSocketRoute("/ws/log/{robot_id:path}", log_telemetry)],
        lifespan=lifespan,
    )


def create_app(settings: TelemetrySettings) -> Starlette:
    """telemetry-service as a server of its own."""
    return assemble("telemetry-service", [telemetry_part(settings.database_url)], exposure=settings.exposure)


def _checks(pool: Pool, flushing: asyncio.Task[None]) -> dict[str, Check]:
    async def check_database() -> None:
        async with connected(pool, timeout_s=READY_TIMEOUT_S) as connection:
            await connection.fetchval("SELECT 1")

    async def check_batcher() -> None:
        if flushing.done():
            raise RuntimeError("the batcher has stopped")

    return {"database": check_database, "batcher": check_batcher}


async def _sweep(sessions: SessionTable) -> None:
    while True:
        await asyncio.sleep(SWEEP_EVERY_S)
        try:
            await sessions.interrupt_abandoned(ABANDONED_AFTER_S)
        except Exception as error:
            log.warning("abandoned sessions could not be marked, trying again", error=repr(error))
