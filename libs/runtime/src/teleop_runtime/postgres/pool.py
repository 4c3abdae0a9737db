"""Connections to PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
from teleop_schema.connections import DURABLE, PREPARE
from teleop_schema.errors import BackendError, StorageUnavailable

from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.readiness import REVISION, STATE, judge
from teleop_runtime.serving.app import CannotStart
from teleop_runtime.trouble import USED_UP, trouble_of

log = get_logger(__name__)

type Pool = "asyncpg.Pool[asyncpg.Record]"
type Connection = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

# A server that is busy takes a second; one behind a dead line never answers.
CONNECT_TIMEOUT_S = 5.0
# Longer a server that is well does not take to say a word, whatever it has to do: a frozen one is noticed.
ANSWER_WITHIN_S = 3.0
# Of a connection that may be dead: the process is about to end.
CLOSE_TIMEOUT_S = 1.0
# A connection that can't even do that is thrown away.
ROLLBACK_TIMEOUT_S = 5.0
# While the database is away at the start.
RETRY_S = 1.0
SHARED_SESSIONS = (
    "DATABASE_URL points to a pooler that shares sessions between its clients (PgBouncer: pool_mode = "
    "transaction or statement); set pool_mode = session, or connect directly to PostgreSQL"
)


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
            await _refuse_shared_sessions(database_url)
            return await asyncpg.create_pool(
                database_url,
                min_size=1,
                max_size=max_size,
                timeout=CONNECT_TIMEOUT_S,
                init=_prepare,
                reset=_prepare_again,
            )
        except (OSError, asyncpg.PostgresError, TimeoutError) as error:
            log.warning("waiting for the database", error=str(error) or type(error).__name__)
            await asyncio.sleep(RETRY_S)


async def _prepare(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.execute(PREPARE, timeout=CONNECT_TIMEOUT_S)


async def _prepare_again(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """What asyncpg does when a connection is given back, which also takes away what was set."""
    await connection.execute(connection.get_reset_query() + PREPARE)


async def _refuse_shared_sessions(database_url: str) -> None:
    """Raise CannotStart if a pooler gives clients one session, or what is set in one does not hold.

    Then advisory locks, prepared statements and `synchronous_commit` would hold for nobody.
    """
    async with _plainly_connected(database_url) as first, _plainly_connected(database_url) as second:
        await _prepare(first)
        pids = {await each.fetchval("SELECT pg_backend_pid()") for each in (first, second)}
        durable = await first.fetchval("SELECT current_setting('synchronous_commit')")
    if len(pids) == 1:
        raise CannotStart(SHARED_SESSIONS)
    if durable not in DURABLE:
        raise CannotStart(
            f"synchronous_commit is {durable} and can't be set to on, which every acknowledgement "
            "depends on; check the pooler between the services and PostgreSQL"
        )


@asynccontextmanager
async def _plainly_connected(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(
        database_url, timeout=CONNECT_TIMEOUT_S, command_timeout=CONNECT_TIMEOUT_S, statement_cache_size=0
    )
    try:
        yield connection
    finally:
        connection.terminate()


async def check_database(pool: Pool) -> None:
    """For readiness: raises the reason why the database can't be worked with now."""
    async with connected(pool, timeout_s=ANSWER_WITHIN_S) as connection:
        state = await connection.fetchrow(STATE)
        assert state is not None  # noqa: S101
        revision = await connection.fetchval(REVISION) if state["readable"] else None
    judge(read_only=state["read_only"], migrated=state["migrated"], revision=revision)


async def once_usable[T](ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` gives once the database can be asked and is migrated; waits for both."""
    while True:
        try:
            return await ask()
        except Exception as error:
            trouble = error if isinstance(error, StorageUnavailable) else trouble_of(error)
            if trouble is None:
                raise
            log.warning("waiting to start", error=trouble.detail, hint=trouble.hint)
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
            # A frozen server is found out here. Costs 0.07 ms; what asyncpg sets back after each use, 0.4 ms.
            async with asyncio.timeout(min(timeout_s, ANSWER_WITHIN_S)):
                await connection.execute("SELECT")
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
