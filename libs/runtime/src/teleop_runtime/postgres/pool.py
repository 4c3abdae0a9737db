"""Connections to PostgreSQL."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
from teleop_schema.connections import DURABLE, PREPARE
from teleop_schema.errors import BackendError, NoSpace, StorageUnavailable

from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.pulse import ANSWER_WITHIN_S, Pulse, patiently, soon
from teleop_runtime.postgres.readiness import REVISION, STATE, judge
from teleop_runtime.serving.app import CannotStart
from teleop_runtime.serving.starting import tell_waiting
from teleop_runtime.trouble import FULL, ROOM, USED_UP, trouble_of

log = get_logger(__name__)

type Pool = "asyncpg.Pool[asyncpg.Record]"
type Connection = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

# A busy server takes a second; one behind a dead connection never answers.
CONNECT_TIMEOUT_S = 5.0
# Time limit for closing a connection that may be dead; the process is about to end.
CLOSE_TIMEOUT_S = 1.0
# Time limit for resetting a connection; one that can't even do that is dropped.
ROLLBACK_TIMEOUT_S = 5.0
# A full disk is told for so long after something did not fit: as long as robots and agents pause at most.
FULL_TOLD_S = 60.0
# Pause between attempts while the database is away at the start.
RETRY_S = 1.0
SHARED_SESSIONS = (
    "DATABASE_URL points to a pooler that shares sessions between its clients (PgBouncer: pool_mode = "
    "transaction or statement); set pool_mode = session, or connect directly to PostgreSQL"
)

# Of the pools that are open; asyncpg's own class has no place for it.
_pulses: dict[Pool, Pulse] = {}
# When the database last had no room for what was written through a pool, by the monotonic clock.
_full_at: dict[Pool, float] = {}


@asynccontextmanager
async def open_pool(database_url: str, *, max_size: int) -> AsyncIterator[Pool]:
    """A pool of at most `max_size` connections while the block runs; waits for the database to be there.

    At the end, its connections are closed in order, or at once if they hang.
    """
    pool = await _connect(database_url, max_size)
    _pulses[pool] = Pulse(database_url)
    try:
        yield pool
    finally:
        del _pulses[pool]
        _full_at.pop(pool, None)
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
                # asyncpg's own reset would also undo the settings that every session needs.
                reset=_prepare_again,
            )
        except (OSError, asyncpg.PostgresError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            log.warning("waiting for the database", error=reason)
            tell_waiting(f"the database can't be reached: {reason}")
            await asyncio.sleep(RETRY_S)


async def _prepare(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.execute(PREPARE, timeout=CONNECT_TIMEOUT_S)


async def _prepare_again(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Reset a returned connection as asyncpg does, and apply the session's settings again, which
    that undoes."""
    await connection.execute(connection.get_reset_query() + PREPARE)


async def _refuse_shared_sessions(database_url: str) -> None:
    """Raise CannotStart if a pooler lets clients share a session, or if settings of a session do not stay.

    In that case, advisory locks, prepared statements and `synchronous_commit` would not work.
    """
    async with _plainly_connected(database_url) as first, _plainly_connected(database_url) as second:
        await _prepare(first)
        pids = {await each.fetchval("SELECT pg_backend_pid()") for each in (first, second)}
        durable = await first.fetchval("SELECT current_setting('synchronous_commit')")
    # Two clients with one server process: the second got the first one's session.
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
        # Not closed in order: a server that hangs would not answer the goodbye.
        connection.terminate()


async def check_database(pool: Pool) -> None:
    """For readiness: raises the reason why the database can't be used now."""
    async with connected(pool, timeout_s=ANSWER_WITHIN_S) as connection:
        state = await connection.fetchrow(STATE)
        assert state is not None  # noqa: S101
        revision = await connection.fetchval(REVISION) if state["readable"] else None
    judge(read_only=state["read_only"], migrated=state["migrated"], revision=revision)


async def check_room(pool: Pool) -> None:
    """For people who ask whether a service is ready: raises NoSpace if the database's disk was full lately.

    Reading goes on then, and only whoever writes finds out.
    """
    if time.monotonic() - _full_at.get(pool, -math.inf) < FULL_TOLD_S:
        raise NoSpace(FULL, hint=ROOM)


async def once_usable[T](ask: Callable[[], Awaitable[T]]) -> T:
    """The result of `ask`, after waiting until the database answers and is migrated."""
    while True:
        try:
            return await ask()
        except Exception as error:
            trouble = error if isinstance(error, StorageUnavailable) else trouble_of(error)
            if trouble is None:
                raise
            log.warning("waiting to start", error=trouble.detail, hint=trouble.hint)
            tell_waiting(f"{trouble.detail}; {trouble.hint}" if trouble.hint else trouble.detail)
        await asyncio.sleep(RETRY_S)


@asynccontextmanager
async def connected(pool: Pool, *, timeout_s: float) -> AsyncIterator[Connection]:
    """A connection for a block, which raises TimeoutError if it takes longer than `timeout_s`.

    Raises DatabaseSilent if the server does not answer within ANSWER_WITHIN_S. A busy one may take
    `timeout_s` until it has a connection, and as long again for the block.

    A connection is not used again after anything but an answer of the database: asyncpg would wait forever
    for a server that hangs, and raises errors outside of its own tree after a lost connection.
    """
    async with _acquired(pool, timeout_s) as connection:
        try:
            # Detects a frozen server. Takes 0.1 ms; asyncpg's own reset after each use takes 0.4 ms.
            await soon(connection.execute("SELECT"))
            async with asyncio.timeout(timeout_s):
                yield connection
        # The database has answered, or we refuse something ourselves: the connection is sound.
        except (asyncpg.PostgresError, BackendError) as error:
            if isinstance(error, asyncpg.DiskFullError):
                _note_full(pool)
            raise
        except BaseException:
            connection.terminate()
            raise


@asynccontextmanager
async def _acquired(pool: Pool, timeout_s: float) -> AsyncIterator[Connection]:
    """A connection from the pool; raises ConnectionError if none can be made.

    Only here is it certain that a missing file is PostgreSQL's socket. An error because the process has run
    out of something is raised unchanged.
    """
    try:
        connection = await _acquire(pool, timeout_s)
    # They say already what is the matter.
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


async def _acquire(pool: Pool, timeout_s: float) -> Connection:
    getting = pool.acquire(timeout=timeout_s)
    if (pulse := _pulses.get(pool)) is None:
        return await getting
    # A refusal reaches whoever needs a new connection by itself. The others wait for one of the pool's.
    return await patiently(
        getting,
        pulse,
        hopeless=lambda heard: isinstance(heard, OSError),
        give_back=pool.release,
    )


@asynccontextmanager
async def transaction(pool: Pool, *, timeout_s: float, snapshot: bool = False) -> AsyncIterator[Connection]:
    """A transaction, which raises TimeoutError after `timeout_s`, and is rolled back if the block raises.

    snapshot  whether all of it sees the database as of one moment
    """
    async with connected(pool, timeout_s=timeout_s) as connection:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ" if snapshot else "BEGIN")
        try:
            yield connection
            await connection.execute("COMMIT")
        # For anything else, `connected` ends the connection, and the server rolls back by itself.
        except (asyncpg.PostgresError, BackendError):
            await _roll_back(connection)
            raise


def _note_full(pool: Pool) -> None:
    last = _full_at.get(pool, -math.inf)
    _full_at[pool] = now = time.monotonic()
    if now - last >= FULL_TOLD_S:
        log.error(FULL, hint=ROOM)


async def _roll_back(connection: Connection) -> None:
    try:
        await connection.execute("ROLLBACK", timeout=ROLLBACK_TIMEOUT_S)
    except Exception:
        connection.terminate()
