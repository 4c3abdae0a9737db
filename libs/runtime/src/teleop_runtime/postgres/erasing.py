"""Erasures: what was erased for good, and how each service does its share of it.

A row of `erasure` says what is erased, from the moment it is asked for, forever. Each service looks for
erasures of which its share is not done, does it step by step, and counts each step in the transaction that
takes it, so a process that dies in the middle is followed by another that goes on. Whoever adds something to
a session or dataset holds off erasures of it first (`check_session`, `check_dataset`), and so either
comes before the erasure, which then removes it, or is refused.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

import asyncpg
from teleop_schema.errors import BackendError, DatasetErased, SessionErased, SessionNotFound
from teleop_schema.identifiers import MAX_ID

from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.pool import Connection, Pool, connected
from teleop_runtime.trouble import trouble_of

log = get_logger(__name__)

Service = Literal["export-service", "video-ingest-service", "telemetry-service"]

# How soon a service sees that there is something to erase, for a person who waits; it takes one query of a
# few rows.
ERASE_EVERY_S = 2.0
# Time limit for all shares of one round: millions of frames, or files of a slow bucket.
ROUND_TIMEOUT_S = 6 * 3600.0


# One replica of a service at a time. What it erases is counted once.
TRY_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('erasing by ' || $1, 33))"
UNLOCK = "SELECT pg_advisory_unlock(hashtextextended('erasing by ' || $1, 33))"

# Exports name many sessions, so those that are asked for hold off all erasures, each for milliseconds.
EXPORTS_LOCK = 7_264_981_033
LOCK_EXPORTS = f"SELECT pg_advisory_xact_lock({EXPORTS_LOCK})"
HOLD_EXPORTS = f"SELECT pg_advisory_xact_lock_shared({EXPORTS_LOCK})"
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 33))"
HOLD = "SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 33))"

# A session is done only once nothing of the others refers to it any more.
OPEN = """
SELECT e.id, e.session_id, e.stream_id, e.robot_id, e.dataset
  FROM erasure e JOIN erasure_share s ON s.erasure_id = e.id
 WHERE s.service = $1 AND s.done_at IS NULL
   AND ($1 <> 'telemetry-service'
        OR NOT EXISTS (SELECT FROM erasure_share other
                        WHERE other.erasure_id = e.id AND other.service <> $1 AND other.done_at IS NULL))
 ORDER BY e.id
"""
# The stream is the session's own name, whatever number a restored database gives it.
OF_STREAM = "SELECT session_id, robot_id, asked_by, asked_at FROM erasure WHERE stream_id = $1"
# A number stands for the session that has it now.
OF_NUMBER = """
SELECT e.session_id, e.robot_id, e.asked_by, e.asked_at FROM erasure e
 WHERE e.session_id = $1
   AND NOT EXISTS (SELECT FROM teleop_session s WHERE s.id = $1 AND s.stream_id <> e.stream_id)
"""
OF_DATASET = "SELECT asked_by, asked_at FROM erasure WHERE robot_id = $1 AND dataset = $2"

COUNT = """
UPDATE erasure_share
   SET removed = jsonb_set(removed, ARRAY[$3], to_jsonb(coalesce((removed->>$3)::bigint, 0) + $4::bigint))
 WHERE erasure_id = $1 AND service = $2
"""
PENDING = "SELECT unnest(pending) FROM erasure_share WHERE erasure_id = $1 AND service = $2"
ADD_PENDING = """
UPDATE erasure_share SET pending = ARRAY(SELECT DISTINCT unnest(pending || $3::text[]))
 WHERE erasure_id = $1 AND service = $2
"""
SETTLE = """
UPDATE erasure_share SET pending = array_remove(pending, $3) WHERE erasure_id = $1 AND service = $2
"""
FINISH = """
UPDATE erasure_share SET done_at = now(), problem = NULL
 WHERE erasure_id = $1 AND service = $2 AND pending = '{}'
"""
STUMBLE = "UPDATE erasure_share SET problem = $3 WHERE erasure_id = $1 AND service = $2"


@dataclass(frozen=True)
class Share:
    """What one service has to erase: a session, or a robot's dataset.

    session_id, stream_id  None: a dataset
    dataset                its name; None: a session
    """

    service: Service
    id: int
    session_id: int | None
    stream_id: UUID | None
    robot_id: str
    dataset: str | None

    async def count(self, connection: Connection, what: str, number: int) -> None:
        """Note that so many more were removed, in the transaction that removes them."""
        if number:
            await connection.execute(COUNT, self.id, self.service, what, number)

    async def pending(self, connection: Connection) -> list[str]:
        """What is still to be removed although no row refers to it."""
        return [row[0] for row in await connection.fetch(PENDING, self.id, self.service)]

    async def add_pending(self, connection: Connection, names: Sequence[str]) -> None:
        """Remember what to remove, before the rows go that refer to it."""
        if names:
            await connection.execute(ADD_PENDING, self.id, self.service, list(names))

    async def settle(self, connection: Connection, name: str) -> None:
        """One of `pending` is done with."""
        await connection.execute(SETTLE, self.id, self.service, name)

    async def finish(self, connection: Connection) -> None:
        """The share is done; nothing happens while something is pending."""
        await connection.execute(FINISH, self.id, self.service)


class Erasing:
    """Does a service's share of each erasure, one after the other, in one replica at a time."""

    def __init__(self, pool: Pool, service: Service, erase: Callable[[Share], Awaitable[None]]) -> None:
        """`erase` does one share, or goes on with it, and finishes it; what it raises is noted, and it is
        called again."""
        self._pool = pool
        self._service: Service = service
        self._erase = erase

    async def once(self) -> None:
        """Do what there is; raises the first unexpected error, once all shares were tried."""
        async with connected(self._pool, timeout_s=ROUND_TIMEOUT_S) as connection:
            if not await connection.fetchval(TRY_LOCK, self._service):
                return
            try:
                rows = await connection.fetch(OPEN, self._service)
                failed = [await self._try(connection, Share(self._service, *row)) for row in rows]
            finally:
                await connection.execute(UNLOCK, self._service)
        # Only now: one session that can't be erased must not keep the others.
        for error in failed:
            if error is not None:
                raise error

    async def _try(self, connection: Connection, share: Share) -> Exception | None:
        try:
            await self._erase(share)
        except Exception as error:
            known = error if isinstance(error, BackendError) else trouble_of(error)
            told = known.detail if known else f"something went wrong: {error}; the log has the details"
            await connection.execute(STUMBLE, share.id, share.service, told)
            log.warning("an erasure waits", erasure=share.id, service=share.service, problem=told)
            return None if known else error
        return None


async def lock_erased(connection: Connection, key: str) -> None:
    """Wait for whoever adds to what is about to be erased; until the transaction ends, others wait.

    key  of `key_of`
    """
    await connection.execute(LOCK_EXPORTS)
    await connection.execute(LOCK, key)


def key_of(stream_id: UUID | None, robot_id: str, dataset: str | None) -> str:
    """What an erasure locks: a stream, or a robot's dataset."""
    return str(stream_id) if dataset is None else f"{robot_id}/{dataset}"


async def check_stream(connection: Connection, stream_id: UUID) -> None:
    """Raise SessionErased if the session of that stream was erased."""
    row = await connection.fetchrow(OF_STREAM, stream_id)
    if row is not None:
        raise _session_erased(row, "session")


async def lacking_session(connection: Connection, session_id: int) -> SessionErased | SessionNotFound:
    """Why there is no session with that number: somebody has erased it, or it never was."""
    row = await connection.fetchrow(OF_NUMBER, min(session_id, MAX_ID))
    return SessionNotFound.of(session_id) if row is None else _session_erased(row, "session_id")


async def check_session(
    connection: Connection, session: int | UUID, *, robot_id: str, hold: UUID | None = None
) -> None:
    """Raise SessionErased if the robot's session with that number, or of that stream, was erased.

    hold  the stream, whose erasure waits until the transaction ends; None: nothing is added
    """
    if hold is not None:
        await connection.execute(HOLD, key_of(hold, "", None))
    row = None
    if isinstance(session, UUID):
        row = await connection.fetchrow(OF_STREAM, session)
    elif 1 <= session <= MAX_ID:
        row = await connection.fetchrow(OF_NUMBER, session)
    if row is not None and row["robot_id"] == robot_id:
        raise _session_erased(row, "session")


async def check_dataset(connection: Connection, robot_id: str, dataset: str, *, hold: bool) -> None:
    """Raise DatasetErased if that dataset of the robot was erased.

    hold  whether its erasure waits until the transaction ends, because something is added
    """
    if hold:
        await connection.execute(HOLD, key_of(None, robot_id, dataset))
    row = await connection.fetchrow(OF_DATASET, robot_id, dataset)
    if row is not None:
        raise DatasetErased(
            f"dataset {dataset!r} of robot {robot_id!r} {told_erased(row['asked_by'], row['asked_at'])}",
            field="dataset",
            hint="what the robot still has of it stays there; record under another name",
        )


def _session_erased(row: asyncpg.Record, field: str) -> SessionErased:
    told = told_erased(row["asked_by"], row["asked_at"])
    return SessionErased(f"session {row['session_id']} {told}", field=field)


def told_erased(asked_by: str, asked_at: datetime) -> str:
    """That something was erased, by whom and when, and what follows."""
    when = f"{asked_at.astimezone(UTC):%Y-%m-%d %H:%M UTC}"
    return f"was erased for good by {asked_by} on {when}, and is not taken again"
