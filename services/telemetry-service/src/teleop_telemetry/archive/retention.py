"""Archives and drops old partitions, in one replica at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.pool import Connection, Pool, connected, transaction
from teleop_runtime.serving.app import CannotStart

from teleop_telemetry import metrics
from teleop_telemetry.archive import archive_table
from teleop_telemetry.archive.archive_table import StillInUse
from teleop_telemetry.archive.lost import mark_lost
from teleop_telemetry.archive.session_files import SessionFiles
from teleop_telemetry.tables.lost_copies import Copied

log = get_logger(__name__)

# One connection holds the lock, the other works.
RETENTION_CONNECTIONS = 2
# Retention is counted in days, so every ten minutes is often enough.
LOOK_EVERY_S = 600.0
# A first run may have to archive years.
RUN_TIMEOUT_S = 6 * 3600.0
# Time limit of a query that reads a whole partition.
QUERY_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Dropped:
    """A partition that has left the database."""

    part: int
    sessions: int
    frames: int


class Retention:
    """Archives and drops partitions that are older than `age`."""

    def __init__(self, pool: Pool, files: SessionFiles, age: timedelta) -> None:
        self._pool = pool
        self._files = files
        self._age = age

    async def once(self) -> list[Dropped] | None:
        """Archive and drop what is old enough, and return it; None if another replica is doing it.

        If anything fails, the partition stays, and the next one gets its turn. Raises CannotStart if the
        archive belongs to another database.
        """
        try:
            return await self._once()
        except CannotStart:
            metrics.ARCHIVE_FAILURES.inc()
            raise

    async def _once(self) -> list[Dropped] | None:
        async with connected(self._pool, timeout_s=RUN_TIMEOUT_S) as connection:
            if not await archive_table.try_lock(connection):
                return None
            try:
                await self._files.claim(self._pool)
                await self._tell_blocked(connection)
                dropped = [await self._try(part) for part in await archive_table.due(connection, self._age)]
            finally:
                await archive_table.unlock(connection)
        return [each for each in dropped if each is not None]

    async def _try(self, part: int) -> Dropped | None:
        try:
            return await self._archive(part)
        except Exception as error:
            busy = isinstance(error, StillInUse | asyncpg.LockNotAvailableError)
            if not busy:
                metrics.ARCHIVE_FAILURES.inc()
            tell = log.info if busy else log.error
            tell("a partition stays in the database", partition=part, reason=str(error) or repr(error))
            return None

    async def _archive(self, part: int) -> Dropped:
        async with connected(self._pool, timeout_s=QUERY_TIMEOUT_S) as connection:
            # Copied one by one and noted at once: after a failure the next run goes on with the rest.
            sessions = await archive_table.not_copied(connection, part)
        for session_id in sessions:
            await self._copy(session_id)
        async with connected(self._pool, timeout_s=QUERY_TIMEOUT_S) as connection:
            copies = await archive_table.copies(connection, part)
        # All of them, also those of earlier runs: the store may have lost one since.
        await self._check_kept(copies)
        async with connected(self._pool, timeout_s=QUERY_TIMEOUT_S) as connection:
            # Somebody may have restored one of them in the meantime.
            if part not in await archive_table.due(connection, self._age):
                raise StillInUse(f"sessions of partition {part} were used in the meantime")
            frames = await archive_table.drop_partition(connection, part)
        metrics.PARTITIONS_DROPPED.inc()
        log.info("a partition was moved to the archive", partition=part, sessions=len(copies), frames=frames)
        return Dropped(part, len(copies), frames)

    async def _check_kept(self, copies: Sequence[Copied]) -> None:
        """Raise StillInUse if the store has lost a copy; it is marked, and therefore made again next time."""
        for copied in copies:
            if not await self._files.is_kept(copied):
                await mark_lost(self._pool, self._files.store, copied)
                raise StillInUse(f"the store has lost the copy of session {copied.session_id}")

    async def _copy(self, session_id: int) -> None:
        async with transaction(self._pool, timeout_s=QUERY_TIMEOUT_S, snapshot=True) as connection:
            session = await archive_table.describe(connection, session_id)
        copied, about_sha256 = await self._files.copy(session)
        async with transaction(self._pool, timeout_s=QUERY_TIMEOUT_S) as connection:
            # The copy is durable in the store before its row says so.
            replaced = await archive_table.note_copy(connection, session, copied, about_sha256)
        for sha256 in replaced:
            # After the row: whoever reads the old copy finds it until then.
            await self._files.store.remove(sha256)
        metrics.SESSIONS_ARCHIVED.inc()
        metrics.FRAMES_ARCHIVED.inc(copied.frames)

    async def _tell_blocked(self, connection: Connection) -> None:
        """Log sessions that never ended: they keep their partition until somebody ends them."""
        due = await archive_table.due(connection, self._age)
        but_for_recording = await archive_table.due(connection, self._age, but_for_recording=True)
        waiting = set(but_for_recording) - set(due)
        sessions = [each for part in waiting for each in await archive_table.recording(connection, part)]
        metrics.RETENTION_BLOCKED.set(len(sessions))
        if sessions:
            log.warning(
                "sessions that never ended keep their partitions in the database",
                sessions=sorted(sessions)[:100],
                hint="python -m teleop_telemetry.archive interrupt --session N",
            )
