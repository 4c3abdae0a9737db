"""Connections to PostgreSQL."""

import asyncio

import asyncpg

from teleop_runtime.logs import get_logger

log = get_logger(__name__)

type Pool = "asyncpg.Pool[asyncpg.Record]"
type Connection = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

CONNECT_TIMEOUT_S = 10.0
RETRY_S = 1.0


async def open_pool(database_url: str, *, max_size: int) -> Pool:
    """A pool of at most `max_size` connections; waits for the database as long as it takes."""
    while True:
        try:
            return await asyncpg.create_pool(
                database_url,
                min_size=1,
                max_size=max_size,
                timeout=CONNECT_TIMEOUT_S,
                server_settings={"application_name": "lerobot-backend", "synchronous_commit": "on"},
            )
        except (OSError, asyncpg.PostgresError, TimeoutError) as error:
            log.warning("waiting for the database", error=str(error))
            await asyncio.sleep(RETRY_S)
