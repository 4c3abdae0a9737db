"""The share of export-service in erasures: every export with frames of a session, wherever it stands."""

import asyncio
from collections.abc import Awaitable, Callable

from teleop_runtime.postgres.erasing import Share
from teleop_runtime.postgres.pool import Pool, transaction
from teleop_schema.errors import StorageUnavailable

from teleop_export.tables.database import PsycopgPool
from teleop_export.tables.erasure_table import erase_one
from teleop_export.work.folders import Folders

# The folders of its exports are looked at meanwhile, and a disk that wakes up takes some seconds.
TIMEOUT_S = 60.0


class ExportEraser:
    """Erases the exports of sessions."""

    def __init__(
        self,
        pool: Pool,
        exports: PsycopgPool,
        folders: Folders,
        forget_told: Callable[[int], Awaitable[None]],
    ) -> None:
        """
        pool         connections to the shares
        exports      connections to the tables of exports
        forget_told  forgets what other programs were told of a session
        """
        self._pool = pool
        self._exports = exports
        self._folders = folders
        self._forget_told = forget_told

    async def erase(self, share: Share) -> None:
        """Do the share; raises StorageUnavailable while it can't be done, FolderUnusable."""

        async def remove(export_id: int, fingerprint: str) -> None:
            await asyncio.to_thread(self._folders.erase, export_id, fingerprint)

        session_id = share.session_id
        assert session_id is not None  # noqa: S101
        while await erase_one(self._exports, session_id, share.id, remove):
            pass
        await self._forget_told(session_id)
        async with transaction(self._pool, timeout_s=TIMEOUT_S) as connection:
            made = await share.pending(connection)
            # Whoever makes one finds within a second that it is not wanted any more, and removes its folder.
            remains = bool(made) and await asyncio.to_thread(self._folders.has_remains, made)
            if remains:
                raise StorageUnavailable("a worker is still removing files of an export that it was making")
            for export_id in made:
                await share.settle(connection, export_id)
            await share.finish(connection)
