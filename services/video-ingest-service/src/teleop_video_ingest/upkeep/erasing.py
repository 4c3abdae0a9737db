"""The share of video-ingest-service in erasures: uploads, rows, notes, names, and bytes nobody else needs.

What a row refers to is noted before the row goes, so that a process that dies in between leaves nothing
behind that nobody knows of. Notes in the store may know more than the database, if that was restored: they
are read, too.
"""

import zlib

import msgspec
from teleop_runtime.postgres.erasing import Share
from teleop_runtime.postgres.pool import Pool, connected, transaction
from teleop_runtime.store import Store, read_notes
from teleop_schema.decoding import DECODE_ERRORS
from teleop_schema.errors import StorageUnavailable
from teleop_schema.identifiers import SESSIONS_FOLDER

from teleop_video_ingest.datasets.version_notes import FOLDER as VERSION_NOTES
from teleop_video_ingest.datasets.version_notes import VersionNote, remove_note
from teleop_video_ingest.files.chunk_notes import FOLDER as CHUNK_NOTES
from teleop_video_ingest.files.chunk_notes import ChunkNote, forget_note
from teleop_video_ingest.files.dataset_notes import forget_dataset
from teleop_video_ingest.files.erased import remove_object
from teleop_video_ingest.model.tree import dataset_path
from teleop_video_ingest.tables import erasure_table
from teleop_video_ingest.uploads.uploads import Uploads

# Time limit for one step: some files of a slow bucket.
STEP_TIMEOUT_S = 120.0
# Files of one step.
TOGETHER = 50


class FileEraser:
    """Erases the files of sessions and datasets."""

    def __init__(self, pool: Pool, store: Store, uploads: Uploads) -> None:
        self._pool = pool
        self._store = store
        self._uploads = uploads

    async def erase(self, share: Share) -> None:
        """Do the share; raises StorageUnavailable while it can't be done."""
        # Nothing is removed from a disk that is not there: it would come back with the disk.
        await self._store.check_owner()
        await self._erase_uploads(share)
        if share.dataset is None:
            await self._erase_video(share, share.session_id or 0)
        else:
            await self._erase_dataset(share, share.dataset)
        await self._erase_objects(share)
        async with transaction(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
            await share.finish(connection)

    async def _erase_uploads(self, share: Share) -> None:
        async with connected(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
            uploads = await erasure_table.uploads_of(connection, share)
        for upload_id in uploads:
            await self._uploads.terminate(upload_id)
        async with connected(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
            await share.count(connection, "uploads", len(uploads))

    async def _erase_video(self, share: Share, session_id: int) -> None:
        async with transaction(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
            if not await erasure_table.is_session(connection, share):
                return
            # They refer to its video, too; one that is under way ends.
            await erasure_table.delete_imports(connection, session_id)
            objects = await erasure_table.objects_of_session(connection, session_id)
            # In one transaction with the look, and before any row goes: afterwards nobody could tell which
            # they were.
            await share.add_pending(connection, objects)
        while await self._erase_chunks(share, session_id):
            pass
        await self._erase_chunk_notes(share, session_id)

    async def _erase_chunks(self, share: Share, session_id: int) -> int:
        """How many were removed in this step."""
        async with transaction(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
            chunks = await erasure_table.some_chunks(connection, session_id, TOGETHER)
            for chunk in chunks:
                # The row goes with its note and name: rolled back, the next step finds the row again and
                # repeats both.
                await erasure_table.delete_chunk(connection, chunk["id"])
                await forget_note(self._store, chunk["file_path"])
                await self._store.unname(chunk["file_path"])
            await share.count(connection, "video_chunks", len(chunks))
        return len(chunks)

    async def _erase_chunk_notes(self, share: Share, session_id: int) -> None:
        """Remove what only notes know of."""
        folder = f"{CHUNK_NOTES}/{share.robot_id}/{SESSIONS_FOLDER}/{session_id}"
        names = [name async for name in self._store.list_notes(folder)]
        async for name, content in read_notes(self._store, names):
            try:
                note = msgspec.json.decode(zlib.decompress(content), type=ChunkNote)
            except (zlib.error, *DECODE_ERRORS):
                # It is no note of this release: its object is found without a row by the sweep.
                continue
            # Another database may use numbers of sessions again; the stream is the session's own name.
            if note.stream != share.stream_id:
                continue
            async with connected(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
                await share.add_pending(connection, [note.sha256])
            path = name.removeprefix(f"{CHUNK_NOTES}/")
            await self._store.unname(path)
            await forget_note(self._store, path)

    async def _erase_dataset(self, share: Share, dataset: str) -> None:
        async with transaction(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
            dataset_id = await erasure_table.dataset_of(connection, share)
            if dataset_id is not None:
                objects = await erasure_table.objects_of_dataset(connection, dataset_id)
                await share.add_pending(connection, objects)
                versions = await erasure_table.versions_of(connection, dataset_id)
        if dataset_id is not None:
            for version_id in versions:
                async with transaction(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
                    await remove_note(connection, self._store, version_id)
                    await erasure_table.delete_version(connection, version_id)
                    await share.count(connection, "versions", 1)
            while await self._erase_files(share, dataset_id, dataset):
                pass
            async with transaction(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
                await erasure_table.delete_dataset(connection, dataset_id)
                await share.count(connection, "datasets", 1)
        await self._erase_version_notes(share, dataset)
        await forget_dataset(self._store, share.robot_id, dataset)

    async def _erase_files(self, share: Share, dataset_id: int, dataset: str) -> int:
        """How many paths were removed in this step."""
        async with transaction(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
            paths = await erasure_table.some_paths(connection, dataset_id, TOGETHER)
            for path in paths:
                await self._store.unname(dataset_path(share.robot_id, dataset, path))
                await erasure_table.delete_file(connection, dataset_id, path)
            await share.count(connection, "files", len(paths))
        return len(paths)

    async def _erase_version_notes(self, share: Share, dataset: str) -> None:
        """Remove what only notes know of."""
        folder = f"{VERSION_NOTES}/{share.robot_id}/{dataset}"
        names = [name async for name in self._store.list_notes(folder)]
        async for name, content in read_notes(self._store, names):
            try:
                note = msgspec.json.decode(content, type=VersionNote)
            except DECODE_ERRORS:
                continue
            async with connected(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
                await share.add_pending(connection, [file.sha256 for file in note.manifest.files])
            for file in note.manifest.files:
                await self._store.unname(dataset_path(share.robot_id, dataset, file.path))
            await self._store.remove_note(name)

    async def _erase_objects(self, share: Share) -> None:
        async with connected(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
            pending = await share.pending(connection)
        in_use = 0
        for sha256 in pending:
            async with transaction(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
                removed = await remove_object(connection, self._store, sha256)
                if removed or await erasure_table.is_kept(connection, sha256):
                    await share.count(connection, "objects" if removed else "objects_kept_for_others", 1)
                    await share.settle(connection, sha256)
                else:
                    in_use += 1
        if in_use:
            raise StorageUnavailable(f"running uploads build upon {in_use} of its files, which go after that")
