"""Applications served in the test's own process, on real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from starlette.applications import Starlette
from teleop_runtime.serving.serve import SERVER_OPTIONS

from teleop_testing.waiting import PATIENCE_S

# The server closes a connection that nobody uses for 5 s. It shares its loop with the test: after something
# has held that, the test could ask over a connection that is just being closed.
KEPT_S = 1.0


def client_of(address: str) -> httpx.AsyncClient:
    """A client for a server that runs in the test's own process."""
    kept = httpx.Limits(keepalive_expiry=KEPT_S)
    return httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S, limits=kept)


@asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[str]:
    """`host:port` of `app`, served as every service is."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, **SERVER_OPTIONS))
    # Not `serve`: signals belong to the test run.
    task = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
        if task.done():
            task.result()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task
