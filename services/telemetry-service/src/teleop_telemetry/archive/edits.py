"""Writes the archive's session.json again if a session was changed since, for a database that is made again.

The database is the truth: a change is complete with its commit, which counts it (`session_archive.edits`).
"""

import asyncio

from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.noting import note_all
from teleop_runtime.postgres.pool import Connection, Pool, connected, transaction
from teleop_schema.errors import StorageUnavailable

from teleop_telemetry.archive import archive_table
from teleop_telemetry.archive.session_files import SessionFiles, is_here

log = get_logger(__name__)

# Its file is written to the store meanwhile.
NOTE_TIMEOUT_S = 60.0
# How long a person who has changed something waits for the store.
AT_ONCE_S = 2.0


class ArchiveEdits:
    """Tells the archive what has changed."""

    def __init__(self, pool: Pool, files: SessionFiles) -> None:
        self._pool = pool
        self._files = files
        self._at_once: set[asyncio.Task[None]] = set()

    async def note_all(self) -> None:
        """Write every session.json that says less than the database; raises the errors of both."""

        async def note(_: Connection, session_id: int) -> None:
            await self._note(session_id)

        await note_all(self._pool, archive_table.edited, note, timeout_s=NOTE_TIMEOUT_S)

    async def note_at_once(self, session_id: int) -> None:
        """Write that of one session, if it is archived; what fails is left to `note_all`.

        Returns after AT_ONCE_S at the latest: a disk that hangs can't be interrupted.
        """
        noting = asyncio.create_task(self._try(session_id))
        self._at_once.add(noting)
        noting.add_done_callback(self._at_once.discard)
        await asyncio.wait({noting}, timeout=AT_ONCE_S)

    async def _try(self, session_id: int) -> None:
        try:
            async with asyncio.timeout(AT_ONCE_S):
                async with connected(self._pool, timeout_s=AT_ONCE_S) as connection:
                    edited = await archive_table.edited(connection, 1, session_id)
                if edited:
                    await self._note(session_id)
        except Exception as error:
            log.warning(
                "the archive gets the change later",
                session=session_id,
                reason=str(error) or repr(error),
            )

    async def _note(self, session_id: int) -> None:
        async with transaction(self._pool, timeout_s=NOTE_TIMEOUT_S) as connection:
            # One after the other, so that what was read last is written last.
            await archive_table.lock_edits(connection)
            told = await archive_table.read_edited(connection, session_id)
            if told is None:
                return
            if not await is_here(connection, self._files.store):
                raise StorageUnavailable("the archive of the file store is not there: is its disk mounted?")
            sha256 = await self._files.keep_about(told.robot_id, told.about, told.account, told.copied)
            if sha256 != told.about_sha256:
                await self._files.store.remove(told.about_sha256)
            await archive_table.note_edits(connection, told, sha256)
