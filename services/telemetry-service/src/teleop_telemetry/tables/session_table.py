"""The one place that writes sessions: opening, taking over, ending."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from msgspec import UNSET
from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.erasing import check_stream
from teleop_runtime.postgres.pool import Connection, Pool, connected, transaction
from teleop_runtime.store import Store
from teleop_runtime.trouble import DatabaseSilent
from teleop_schema.columns import Column
from teleop_schema.errors import (
    Conflict,
    Fenced,
    NotYourStream,
    SessionArchived,
    SessionMismatch,
    StorageUnavailable,
)
from teleop_schema.instants import instant_of
from teleop_schema.messages import Event
from teleop_schema.session import SessionDescription

from teleop_telemetry.tables.event_rows import close_episodes, read_columns, store_events
from teleop_telemetry.tables.frame_partition import ensure_partition
from teleop_telemetry.tables.lost_copies import OTHER_BYTES, Copied, archived_copy, take_again
from teleop_telemetry.tables.numbers import SessionNumbers
from teleop_telemetry.tables.refusals import Refusal
from teleop_telemetry.tables.session_notes import note_session
from teleop_telemetry.tables.told import stripped

log = get_logger(__name__)

# Wait for the commit of the connection that is taken over, which has locked the row; then the robot retries.
TAKE_OVER_PATIENCE_S = 1.0
# Time limit for opening a session; a robot waits for its welcome.
OPEN_TIMEOUT_S = 10.0
# The same for the end.
FINISH_TIMEOUT_S = 10.0
# So long that nobody ends a recording by mistake that is paused overnight.
SILENT_FOR = timedelta(days=1)

SEE_ROBOT = """
INSERT INTO robot (robot_id, robot_type) VALUES ($1, $2)
ON CONFLICT (robot_id) DO UPDATE SET robot_type = $2, last_seen_at = now()
"""

# Two connections may open one stream at once: the second one finds no row here, and takes over.
CREATE = """
INSERT INTO teleop_session (id, stream_id, robot_id, robot_type, start_time, fps, task, state_names,
                            action_names, cameras, host, operator, delivery, secret_sha256, untold_times)
OVERRIDING SYSTEM VALUE
VALUES ($14, $1, $2, $3, $4, $5, $6, $7, $8, $9::jsonb, $10::jsonb, $11, $12, $13, 0)
ON CONFLICT (stream_id) DO NOTHING
RETURNING id, epoch, next_frame_index
"""

FIND = "SELECT robot_id, state_names, action_names, secret_sha256 FROM teleop_session WHERE stream_id = $1"

# The first one with a secret is the owner: older robots and servers knew none, nor operators.
# A person may have said since who that was.
TAKE_OVER = """
UPDATE teleop_session s
   SET epoch = epoch + 1, secret_sha256 = coalesce(secret_sha256, $2),
       operator = CASE WHEN NOT EXISTS (SELECT FROM session_change c
                                         WHERE c.session_id = s.id AND c.after ? 'operator')
                       THEN coalesce(operator, $3) ELSE operator END
 WHERE stream_id = $1
RETURNING id, epoch, next_frame_index, robot_id, state_names, action_names, secret_sha256
"""

# Compared once more: another connection may have taken the session over, or frames may be missing.
FINISH = """
UPDATE teleop_session
   SET status = $4, logged_frames = $5, end_time = coalesce(last_frame_time, start_time)
 WHERE id = $1 AND epoch = $2 AND next_frame_index = $3
RETURNING id
"""

NOTE_REFUSALS = """
INSERT INTO refused_frames (session_id, number, field, reason, frames)
SELECT $1, * FROM unnest($2::int[], $3::text[], $4::text[], $5::bigint[])
ON CONFLICT (session_id, number) DO UPDATE SET frames = EXCLUDED.frames
"""

# Ends only a commit of this service whose process hangs with the session's row locked; waits for others.
END_BLOCKERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE pid = ANY(pg_blocking_pids($1)) AND application_name = 'lerobot-backend' AND usename = current_user
"""

# With a new epoch, so that a connection that still hangs somewhere can't write any more.
INTERRUPT = """
UPDATE teleop_session
   SET status = 'interrupted', end_time = coalesce(last_frame_time, start_time), epoch = epoch + 1
 WHERE id = $1 AND status = 'recording' AND coalesce(last_commit_at, start_time) < now() - $2::interval
RETURNING next_frame_index
"""

# Only plain sessions: others are ended by their robot, which still has what is missing.
INTERRUPT_ABANDONED = """
UPDATE teleop_session SET status = 'interrupted', end_time = coalesce(last_frame_time, start_time)
 WHERE delivery = 'best_effort' AND status = 'recording'
   AND coalesce(last_commit_at, start_time) < now() - $1::interval
RETURNING id, next_frame_index
"""


@dataclass(frozen=True)
class OpenSession:
    """A session that this connection may write to; `columns` are those declared before."""

    id: int
    epoch: int
    next: int
    columns: tuple[Column, ...] = ()


class SessionTable:
    """Writes to `teleop_session` and `robot`."""

    def __init__(
        self,
        pool: Pool,
        connections: int,
        ended: Callable[[int], None] | None = None,
        store: Store | None = None,
    ) -> None:
        """`ended` is called for each session that a robot has ended.

        store  remembers which sessions there are; None: only the database does
        """
        self._pool = pool
        self._store = store
        self._numbers = SessionNumbers(pool, store)
        self._ended = ended
        # All but one, because if every connection waited for a row, none could end the process
        # that has locked it.
        self._places = asyncio.Semaphore(connections - 1)

    async def open(
        self,
        stream: UUID,
        robot_id: str,
        session: SessionDescription,
        *,
        delivery: str,
        secret: str | None = None,
    ) -> OpenSession:
        """The stream's session: created if it is new, otherwise taken over from the connection
        that wrote to it.

        secret  of the stream's writer; None: it made none

        Raises SessionErased, NotYourStream if the stream is known with another secret,
        SessionMismatch if it is known with another robot or other names, SessionArchived if
        its frames have left the database, StorageUnavailable if that takes too long: the robot may long be
        gone or on another connection, which must not lose the stream to this one.
        """
        # The database needs to recognise it, not to know it.
        digest = None if secret is None else sha256(secret.encode()).digest()
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S), self._places:
                while True:
                    opened = await self._take_over(stream, robot_id, session, digest)
                    if opened is None:
                        opened = await self._create(stream, robot_id, session, delivery, digest)
                    if opened is not None:
                        return opened
        # It is a TimeoutError as well, and says more than that it took too long.
        except DatabaseSilent:
            raise
        except TimeoutError:
            raise StorageUnavailable(
                f"the session could not be opened within {OPEN_TIMEOUT_S:.0f} s"
            ) from None

    async def finish(
        self,
        open_session: OpenSession,
        *,
        frames: int,
        logged: int | None,
        status: str,
        events: tuple[Event, ...] = (),
        refusals: Sequence[Refusal] = (),
    ) -> bool:
        """Close the session at `frames` frames; False if the database has another watermark.

        logged  how many the robot says it logged in all; None: nobody knows
        """
        session_id, epoch = open_session.id, open_session.epoch
        async with self._places, transaction(self._pool, timeout_s=FINISH_TIMEOUT_S) as connection:
            if await connection.fetchval(FINISH, session_id, epoch, frames, status, logged) is None:
                row = "SELECT epoch FROM teleop_session WHERE id = $1"
                # Either another connection has the session now, or this one's frames are not all there.
                if await connection.fetchval(row, session_id) != epoch:
                    raise Fenced()
                return False
            await store_events(connection, [(session_id, event) for event in events])
            await close_episodes(connection, session_id, frames, interrupted=status == "interrupted")
            await _note_refusals(connection, session_id, refusals)
            if self._store is not None:
                await note_session(connection, self._store, session_id)
        if self._ended is not None:
            self._ended(session_id)
        return True

    async def note_refusals(self, session_id: int, refusals: Sequence[Refusal]) -> None:
        """Store the refused frames of a session so far, replacing what was stored before."""
        async with connected(self._pool, timeout_s=FINISH_TIMEOUT_S) as connection:
            await _note_refusals(connection, session_id, refusals)

    async def interrupt_abandoned(self, after_s: float) -> None:
        """Mark plain sessions as interrupted that have been silent for `after_s`."""
        async with transaction(self._pool, timeout_s=FINISH_TIMEOUT_S) as connection:
            for session_id, frames in await connection.fetch(INTERRUPT_ABANDONED, timedelta(seconds=after_s)):
                await close_episodes(connection, session_id, frames, interrupted=True)

    async def interrupt(self, session_id: int) -> None:
        """End a session that has been silent for SILENT_FOR, whose robot will not end it; raises Conflict.

        Should the robot come back all the same, it takes the session up again.
        """
        async with transaction(self._pool, timeout_s=FINISH_TIMEOUT_S) as connection:
            frames = await connection.fetchval(INTERRUPT, session_id, SILENT_FOR)
            if frames is None:
                raise Conflict(
                    f"session {session_id} can't be ended: it is not recording, or its robot has been heard "
                    f"from in the last {SILENT_FOR / timedelta(hours=1):g} hours",
                    field="session",
                )
            await close_episodes(connection, session_id, frames, interrupted=True)

    async def _create(
        self,
        stream: UUID,
        robot_id: str,
        session: SessionDescription,
        delivery: str,
        secret_sha256: bytes | None,
    ) -> OpenSession | None:
        """None if somebody else has just made it."""
        # Not in the same transaction: a take-over locks the session first and then the robot, and the two
        # would wait for each other.
        async with connected(self._pool, timeout_s=OPEN_TIMEOUT_S) as connection:
            # A session that was erased since it was looked for is known as such by now.
            await check_stream(connection, stream)
            await connection.execute(SEE_ROBOT, robot_id, session.robot_type)
        # A transaction of its own: the number is given even if the session is not made, and never again.
        number = await self._numbers.take()
        async with transaction(self._pool, timeout_s=OPEN_TIMEOUT_S) as connection:
            values = _session_values(robot_id, session)
            row = await connection.fetchrow(CREATE, stream, *values, delivery, secret_sha256, number)
            if row is not None and self._store is not None:
                # Before anybody learns of the session, so that it
                # survives the database from its first frame on.
                await note_session(connection, self._store, number)
            return await _opened(connection, row)

    async def _take_over(
        self, stream: UUID, robot_id: str, session: SessionDescription, secret_sha256: bytes | None
    ) -> OpenSession | None:
        """None if there is no such stream yet."""
        async with transaction(self._pool, timeout_s=OPEN_TIMEOUT_S) as connection:
            # Before the row is locked: whoever may not have the stream does not hold up who may.
            known = await connection.fetchrow(FIND, stream)
            if known is None:
                return None
            _check_same(known, robot_id, session, secret_sha256)
            # While this waits for the row, whoever holds it may be a process that hangs.
            ending = asyncio.create_task(self._end_blockers(connection.get_server_pid()))
            try:
                row = await connection.fetchrow(TAKE_OVER, stream, secret_sha256, _operator(session))
            finally:
                ending.cancel()
                await asyncio.gather(ending, return_exceptions=True)
            if row is not None:
                _check_same(row, robot_id, session, secret_sha256)
                # With the row locked, which an erasure waits for.
                await check_stream(connection, stream)
                if archived := await archived_copy(connection, row["id"]):
                    row = await self._take_again(connection, archived)
                await connection.execute(SEE_ROBOT, robot_id, session.robot_type)
            return await _opened(connection, row)

    async def _take_again(self, connection: Connection, archived: Copied) -> asyncpg.Record | None:
        """The session, which takes its frames again, if the archive has lost them.

        Raises SessionArchived if it has them: late frames wait on the robot's disk, so that all are in one
        place. StorageUnavailable if the archive is not there.
        """
        session_id = archived.session_id
        if archived.damage is None or await self._is_back(archived):
            raise SessionArchived(
                f"the frames of session {session_id} have been archived",
                hint=f"python -m teleop_telemetry.archive restore --session {session_id}, then connect again",
            )
        log.warning("a session takes frames again that the archive has lost", session=session_id)
        return await take_again(connection, session_id, "recording")

    async def _is_back(self, archived: Copied) -> bool:
        """Whether the store has the copy, which the next look at the archive will say, too."""
        if self._store is None:
            return False
        if await self._store.owner() is None:
            raise StorageUnavailable("the archive of the file store is not there: is its disk mounted?")
        has_size = await self._store.size(archived.sha256) == archived.size_bytes
        return has_size and archived.damage != OTHER_BYTES

    async def _end_blockers(self, blocked_pid: int) -> None:
        while True:
            await asyncio.sleep(TAKE_OVER_PATIENCE_S)
            async with connected(self._pool, timeout_s=OPEN_TIMEOUT_S) as connection:
                ended = await connection.fetch(END_BLOCKERS, blocked_pid)
            if ended:
                log.warning("ended a commit that was locking a session's row", backends=len(ended))


async def _note_refusals(connection: Connection, session_id: int, refusals: Sequence[Refusal]) -> None:
    if refusals:
        columns = zip(*((r.number, r.field, r.reason, r.frames) for r in refusals), strict=True)
        await connection.execute(NOTE_REFUSALS, session_id, *map(list, columns))


async def _opened(connection: Connection, row: asyncpg.Record | None) -> OpenSession | None:
    if row is None:
        return None
    await ensure_partition(connection, row["id"])
    columns = tuple(await read_columns(connection, row["id"]))
    return OpenSession(row["id"], row["epoch"], row["next_frame_index"], columns)


def _check_same(
    row: asyncpg.Record, robot_id: str, session: SessionDescription, secret_sha256: bytes | None
) -> None:
    # In constant time; streams of older releases have none, and their first connection with one sets it.
    if row["secret_sha256"] is not None and not compare_digest(row["secret_sha256"], secret_sha256 or b""):
        raise NotYourStream(
            field="secret",
            hint="the robot PC that recorded it has it, in the spool; update its software",
        )
    for field, stored, told in (
        ("robot_id", row["robot_id"], robot_id),
        ("session.state_names", tuple(row["state_names"]), session.state_names),
        ("session.action_names", tuple(row["action_names"]), session.action_names),
    ):
        if stored != told:
            raise SessionMismatch(f"the stream is known with {field} {stored!r}", field=field)


def _session_values(robot_id: str, session: SessionDescription) -> tuple[Any, ...]:
    return (
        robot_id,
        session.robot_type,
        instant_of(session.started_at_us),
        session.fps,
        session.task,
        list(session.state_names),
        list(session.action_names),
        msgspec.json.encode(session.cameras).decode(),
        msgspec.json.encode(session.host).decode(),
        _operator(session),
    )


def _operator(session: SessionDescription) -> str | None:
    return None if session.operator is UNSET else stripped(session.operator)
