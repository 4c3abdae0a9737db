"""Connections to PostgreSQL: one pool for this service's tables and its jobs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from teleop_runtime.libpq import bounded
from teleop_runtime.logs import get_logger
from teleop_schema.errors import StorageUnavailable

log = get_logger(__name__)

type Connection = psycopg.AsyncConnection[DictRow]
type Pool = AsyncConnectionPool[Connection]

CONNECTIONS = 8
CONNECT_TIMEOUT_S = 5.0
# The pool waits longer and longer between attempts, and begins anew after this long.
RECONNECT_S = 2.0


@asynccontextmanager
async def open_pool(database_url: str) -> AsyncIterator[Pool]:
    """A pool of up to CONNECTIONS connections; waits for the database as long as it takes."""
    pool = AsyncConnectionPool(
        bounded(database_url),
        connection_class=psycopg.AsyncConnection[DictRow],
        kwargs={"row_factory": dict_row, "application_name": "lerobot-backend"},
        min_size=1,
        max_size=CONNECTIONS,
        timeout=CONNECT_TIMEOUT_S,
        reconnect_timeout=RECONNECT_S,
        check=AsyncConnectionPool.check_connection,
        open=False,
    )
    await pool.open()
    try:
        while not await _answers(pool):
            log.warning("waiting for the database")
        yield pool
    finally:
        await pool.close()


async def name_of(pool: Pool) -> str:
    """The name of the database, which it was given when it was made and which no other has (8 characters)."""
    async with connect(pool) as connection:
        row = await (
            await connection.execute("SELECT left(id::text, 8) AS name FROM installation")
        ).fetchone()
    assert row is not None  # noqa: S101
    return str(row["name"])


async def _answers(pool: Pool) -> bool:
    try:
        async with pool.connection():
            return True
    except PoolTimeout:
        return False


@asynccontextmanager
async def connect(pool: Pool) -> AsyncIterator[Connection]:
    """A connection, its work committed at the end unless that raised; raises StorageUnavailable."""
    try:
        async with pool.connection() as connection:
            yield connection
    except (psycopg.OperationalError, PoolTimeout) as error:
        raise StorageUnavailable() from error
