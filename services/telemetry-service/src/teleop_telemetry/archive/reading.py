"""Reads archived frames from the store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from teleop_runtime.postgres.pool import Pool, connected
from teleop_schema.errors import NotFound

from teleop_telemetry.archive.frame_file import ArchivedFrames
from teleop_telemetry.archive.lost import frames_of
from teleop_telemetry.archive.session_files import SessionFiles
from teleop_telemetry.tables.lost_copies import archived_copy

# Time limit for reading the one row that names a file.
READ_TIMEOUT_S = 10.0


class ArchiveReader:
    """Reads sessions whose frames have left the database."""

    def __init__(self, pool: Pool, files: SessionFiles) -> None:
        self._pool = pool
        self._files = files

    @asynccontextmanager
    async def frames(self, session_id: int) -> AsyncIterator[ArchivedFrames]:
        """A reader of the session's frames; raises NotFound, ArchiveLost."""
        async with connected(self._pool, timeout_s=READ_TIMEOUT_S) as connection:
            copied = await archived_copy(connection, session_id)
        if copied is None:
            raise NotFound(f"no frames of session {session_id} have left the database", field="session_id")
        async with frames_of(self._pool, self._files, copied) as path:
            reader = await asyncio.to_thread(ArchivedFrames, path)
            try:
                yield reader
            finally:
                reader.close()
