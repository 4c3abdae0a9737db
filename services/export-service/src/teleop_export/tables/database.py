"""Connections to PostgreSQL: one pool for this service's tables and its jobs."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from socket import SHUT_RDWR, socket

import asyncpg
import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool
from teleop_runtime.postgres.libpq import bounded
from teleop_runtime.postgres.pool import SHARED_SESSIONS, once_usable
from teleop_runtime.postgres.pulse import ANSWER_WITHIN_S, Pulse, comes, hear, patiently
from teleop_runtime.postgres.readiness import REVISION, STATE, judge
from teleop_runtime.serving.app import CannotStart
from teleop_runtime.trouble import trouble_of
from teleop_schema.connections import PREPARE
from teleop_schema.errors import StorageUnavailable

type Connection = psycopg.AsyncConnection[DictRow]

# Requests, the queue's listener and the workers of one process.
CONNECTIONS = 8
# All connections may be at work on large plans, which take seconds; clients wait for 60 s.
LENT_WITHIN_S = 30.0
# The pool waits longer and longer between attempts, and starts again with short pauses after this long.
RECONNECT_S = 2.0


class PsycopgPool(AsyncConnectionPool[Connection]):
    """Connections, and whether the server says anything to those who wait for one."""

    pulse: Pulse


@asynccontextmanager
async def open_pool(database_url: str) -> AsyncIterator[PsycopgPool]:
    """A pool of up to CONNECTIONS connections; waits for the database as long as it takes.

    Raises CannotStart if a pooler in between shares sessions, see `teleop_runtime.postgres.pool`.
    """
    pool = PsycopgPool(
        bounded(database_url),
        connection_class=psycopg.AsyncConnection[DictRow],
        kwargs={"row_factory": dict_row, "application_name": "lerobot-backend"},
        min_size=1,
        max_size=CONNECTIONS,
        timeout=LENT_WITHIN_S,
        reconnect_timeout=RECONNECT_S,
        configure=_prepare,
        check=_answers_soon,
        open=False,
    )
    pool.pulse = Pulse(database_url)
    await pool.open()
    try:
        await once_usable(partial(_refuse_shared_sessions, pool))
        yield pool
    finally:
        await pool.close()


async def name_of(pool: PsycopgPool) -> str:
    """The name of the database, which it was given when it was made and which no other has (8 characters)."""

    async def ask() -> str:
        async with connect(pool) as connection:
            row = await (
                await connection.execute("SELECT left(id::text, 8) AS name FROM installation")
            ).fetchone()
        assert row is not None  # noqa: S101
        return str(row["name"])

    return await once_usable(ask)


async def _refuse_shared_sessions(pool: PsycopgPool) -> None:
    pids = set()
    async with connect(pool) as first, connect(pool) as second:
        for each in (first, second):
            row = await (await each.execute("SELECT pg_backend_pid() AS pid")).fetchone()
            assert row is not None  # noqa: S101
            pids.add(row["pid"])
            # A pooler gives the session to the next client now, if it does so at all.
            await each.commit()
    if len(pids) == 1:
        raise CannotStart(SHARED_SESSIONS)


async def check_database(pool: PsycopgPool) -> None:
    """For readiness: raises the reason why the database can't be worked with now."""
    async with connect(pool) as connection:
        state = await (await connection.execute(STATE)).fetchone()
        assert state is not None  # noqa: S101
        known = await (await connection.execute(REVISION)).fetchone() if state["readable"] else None
    revision = None if known is None else known["revision"]
    judge(read_only=state["read_only"], migrated=state["migrated"], revision=revision)


async def _prepare(connection: Connection) -> None:
    await connection.execute(PREPARE)
    await connection.commit()


async def _answers_soon(connection: Connection) -> None:
    """Raise unless the server says a word within ANSWER_WITHIN_S.

    A frozen one would be waited for without end, and a psycopg that is cancelled asks that server once more.
    """
    asked = asyncio.ensure_future(AsyncConnectionPool.check_connection(connection))
    try:
        await comes(asked, ANSWER_WITHIN_S)
    finally:
        if not asked.done():
            _cut(connection)
            # Whoever does not wait any longer may close the connection, which libpq must not be using then.
            await asyncio.wait([asked])
            hear(asked)
    await asked


def _cut(connection: Connection) -> None:
    with suppress(OSError, psycopg.Error), socket(fileno=os.dup(connection.fileno())) as line:
        # Not closed: psycopg waits for this very socket, and hears that it has ended.
        line.shutdown(SHUT_RDWR)


@asynccontextmanager
async def connect(pool: PsycopgPool) -> AsyncIterator[Connection]:
    """A connection, its work committed at the end unless that raised; raises StorageUnavailable."""
    try:
        connection = await _lent(pool)
        try:
            async with connection:
                yield connection
        finally:
            await pool.putconn(connection)
    except psycopg.Error as error:
        trouble = trouble_of(error)
        if trouble is None and isinstance(error, psycopg.OperationalError):
            trouble = StorageUnavailable()
        if trouble is None:
            raise
        raise trouble from error


async def _lent(pool: PsycopgPool) -> Connection:
    """A connection of the pool that answers; raises psycopg.Error, or StorageUnavailable with the reason."""

    def hopeless(heard: Exception) -> bool:
        # Whoever is refused a new connection may still get one of the pool's, if all of these are at work.
        return isinstance(heard, OSError) or pool.get_stats()["pool_size"] < CONNECTIONS

    try:
        return await patiently(pool.getconn(), pool.pulse, hopeless=hopeless, give_back=pool.putconn)
    except (OSError, asyncpg.PostgresError) as error:
        raise trouble_of(error) or StorageUnavailable() from error
