"""Connections to PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from teleop_schema.errors import BackendError

from teleop_runtime.logs import get_logger
from teleop_runtime.trouble import USED_UP

log = get_logger(__name__)

type Pool = "asyncpg.Pool[asyncpg.Record]"
type Connection = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

CONNECT_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
ROLLBACK_TIMEOUT_S = 5.0
RETRY_S = 1.0
# The server ends a transaction whose client is out of reach after 10 + 3 * 5 s, and lets go of its locks.
SERVER_SETTINGS = {
    "application_name": "lerobot-backend",
    "synchronous_commit": "on",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    # A statement whose caller has given up and closed its connection ends, instead of running to its end.
    "client_connection_check_interval": "1s",
}


@asynccontextmanager
async def open_pool(database_url: str, *, max_size: int) -> AsyncIterator[Pool]:
    """A pool of at most `max_size` connections while the block runs; waits for the database to be there.

    In the end its connections are closed in order, or at once if they hang.
    """
    pool = await _connect(database_url, max_size)
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await pool.close()
        except TimeoutError:
            pool.terminate()


async def _connect(database_url: str, max_size: int) -> Pool:
    while True:
        try:
            return await asyncpg.create_pool(
                database_url,
                min_size=1,
                max_size=max_size,
                timeout=CONNECT_TIMEOUT_S,
                server_settings=SERVER_SETTINGS,
            )
        except (OSError, asyncpg.PostgresError, TimeoutError) as error:
            log.warning("waiting for the database", error=str(error))
            await asyncio.sleep(RETRY_S)


@asynccontextmanager
async def connected(pool: Pool, *, timeout_s: float) -> AsyncIterator[Connection]:
    """A connection for a block that is over within `timeout_s`, or raises TimeoutError.

    A connection on which anything else than the database's own answer was heard is not used again: asyncpg
    would wait without end for a server that hangs, and raises errors outside of its own tree after a lost
    connection.
    """
    async with _acquired(pool, timeout_s) as connection:
        try:
            async with asyncio.timeout(timeout_s):
                yield connection
        except (asyncpg.PostgresError, BackendError):
            raise
        except BaseException:
            connection.terminate()
            raise


@asynccontextmanager
async def _acquired(pool: Pool, timeout_s: float) -> AsyncIterator[Connection]:
    """A connection of the pool; raises ConnectionError if none can be made.

    Only here is it known that a missing file is PostgreSQL's socket. What the process has used up stays what
    it is.
    """
    try:
        connection = await pool.acquire(timeout=timeout_s)
    except (ConnectionError, TimeoutError):
        raise
    except OSError as error:
        if error.errno in USED_UP:
            raise
        raise ConnectionError(f"the database can't be reached: {error}") from error
    try:
        yield connection
    finally:
        await pool.release(connection)


@asynccontextmanager
async def transaction(pool: Pool, *, timeout_s: float, snapshot: bool = False) -> AsyncIterator[Connection]:
    """A transaction that is over within `timeout_s`, or raises TimeoutError; rolled back if the block raises.

    snapshot  all of it sees the database as of one moment
    """
    async with connected(pool, timeout_s=timeout_s) as connection:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ" if snapshot else "BEGIN")
        try:
            yield connection
            await connection.execute("COMMIT")
        except (asyncpg.PostgresError, BackendError):
            await _roll_back(connection)
            raise


async def _roll_back(connection: Connection) -> None:
    try:
        await connection.execute("ROLLBACK", timeout=ROLLBACK_TIMEOUT_S)
    except Exception:
        connection.terminate()
