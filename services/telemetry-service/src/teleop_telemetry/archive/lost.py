"""Finds archived frames that the store has lost, and finds them again once they are back.

What is marked here, the ledger calls unaccounted for, and robots that still have it are asked for it.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from teleop_runtime.batches import in_batches
from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.pool import Connection, Pool, connected
from teleop_runtime.store import ChecksumMismatch, ObjectMissing, Store
from teleop_schema.errors import ArchiveLost

from teleop_telemetry.archive.session_files import SessionFiles, is_here
from teleop_telemetry.tables import lost_copies
from teleop_telemetry.tables.lost_copies import OTHER_BYTES, Copied

log = get_logger(__name__)

# As often as the store of videos is compared with its rows: a listing costs money on S3.
FIND_EVERY_S = 3600.0
# Time limit for a walk over the whole archive.
FIND_TIMEOUT_S = 3600.0
NOTE_TIMEOUT_S = 30.0
# Objects per query; five pages of S3's listing.
LISTED_TOGETHER = 5000
# In one log line; the rows have all of them.
TOLD_SESSIONS = 100

MISSING = "it is missing"
HINT = (
    "put the archive's files back (its disk, or a backup of the store); robots that still have these frames "
    "send them again; if nobody has them: POST /sessions/N/give-up-missing"
)


class LostFrames:
    """Looks at the whole archive each time it is called."""

    def __init__(self, pool: Pool, files: SessionFiles) -> None:
        self._pool = pool
        self._files = files

    async def find(self) -> list[int] | None:
        """The sessions whose frames are lost; None if another replica is looking.

        Raises CannotStart if the archive is not there, or is another database's: then nothing counts as lost.
        """
        async with connected(self._pool, timeout_s=FIND_TIMEOUT_S) as connection:
            if not await lost_copies.try_lock(connection):
                return None
            try:
                if await lost_copies.any_copy(connection):
                    await self._files.claim(self._pool)
                return await find_lost(connection, self._pool, self._files.store)
            finally:
                await lost_copies.unlock(connection)


async def find_lost(connection: Connection, pool: Pool, store: Store) -> list[int]:
    """Mark what the store lacks and unmark what is back; the sessions whose frames are lost.

    connection  holds the listing meanwhile; what is found is written on others of `pool`
    """
    if not await lost_copies.any_copy(connection):
        return []
    begun = datetime.now(UTC)
    await _list_store(connection, store)
    changed = await lost_copies.not_as_listed(connection, begun)
    await lost_copies.tell_again(connection, begun)
    await lost_copies.end_listing(connection)
    for copied in changed:
        await _note(pool, store, copied, await _damage_of(store, copied))
    lost = await lost_copies.lost_sessions(connection)
    if lost:
        log.error(
            "the archive has lost the frames of sessions",
            count=len(lost),
            sessions=lost[:TOLD_SESSIONS],
            hint=HINT,
        )
    return lost


@asynccontextmanager
async def frames_of(pool: Pool, files: SessionFiles, copied: Copied) -> AsyncIterator[Path]:
    """The archived frames as a Parquet file; whether they are lost is noted. Raises ArchiveLost."""
    async with AsyncExitStack() as stack:
        try:
            path = await stack.enter_async_context(files.frames_file(copied))
        except (ObjectMissing, ChecksumMismatch) as error:
            if await mark_lost(pool, files.store, copied):
                log.error(
                    "the archive has lost the frames of a session",
                    session=copied.session_id,
                    reason=error.detail,
                    hint=HINT,
                )
            what = MISSING if isinstance(error, ObjectMissing) else OTHER_BYTES
            raise ArchiveLost(
                f"the file of the archived frames of session {copied.session_id} can't be read: {what}",
                hint=HINT,
            ) from error
        if copied.damage is not None:
            await _note(pool, files.store, copied, None)
        yield path


async def mark_lost(pool: Pool, store: Store, copied: Copied) -> bool:
    """Mark a copy with which something was wrong, unless it is right now; whether that is news."""
    damage = await _damage_of(store, copied, read=True)
    return await _note(pool, store, copied, damage) and damage is not None


async def _note(pool: Pool, store: Store, copied: Copied, damage: str | None) -> bool:
    """Whether that is news. Nothing is marked by the look of an archive that is not there."""
    async with connected(pool, timeout_s=NOTE_TIMEOUT_S) as connection:
        if damage is not None and not await is_here(connection, store):
            return False
        return await lost_copies.note_damage(connection, copied, damage)


async def _damage_of(store: Store, copied: Copied, *, read: bool = False) -> str | None:
    """What is wrong with the frames in the store; None: nothing.

    read  all bytes, not only their number
    """
    size = await store.size(copied.sha256)
    if size is None:
        return MISSING
    if size != copied.size_bytes:
        return f"it has {size} bytes, not {copied.size_bytes}"
    if (read or copied.damage == OTHER_BYTES) and await _digest(store, copied.sha256) != copied.sha256:
        return OTHER_BYTES
    return None


async def _digest(store: Store, sha256: str) -> str:
    digest = hashlib.sha256()
    async for part in store.read(sha256):
        await asyncio.to_thread(digest.update, part)
    return digest.hexdigest()


async def _list_store(connection: Connection, store: Store) -> None:
    await lost_copies.begin_listing(connection)
    async for batch in in_batches(store.list_objects(), LISTED_TOGETHER):
        await lost_copies.add_listed(connection, batch)
