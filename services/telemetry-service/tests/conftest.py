"""telemetry-service running in this process on a real socket, and a robot that speaks its protocol."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest_asyncio
import uvicorn
from telemetry_service.app import create_app
from telemetry_service.settings import TelemetrySettings


@asynccontextmanager
async def serving(database_url: str) -> AsyncIterator[str]:
    """`host:port` of a telemetry-service on `database_url`."""
    app = create_app(TelemetrySettings(database_url=database_url, _env_file=None))
    config = uvicorn.Config(
        app, port=0, ws="websockets-sansio", ws_per_message_deflate=False, log_config=None, lifespan="on"
    )
    server = uvicorn.Server(config)
    # Signals belong to the test run.
    task = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
        if task.done():
            task.result()
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"127.0.0.1:{port}"
    server.should_exit = True
    await task


@pytest_asyncio.fixture
async def service(database_url) -> AsyncIterator[str]:
    """Address of a telemetry-service on this test's own database."""
    async with serving(database_url) as address:
        yield address
