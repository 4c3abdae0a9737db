"""A session as files in the store: its frames as Parquet, everything else as JSON."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec
import pyarrow as pa
from starlette.concurrency import iterate_in_threadpool
from teleop_runtime.ownership import claim_store
from teleop_runtime.postgres.frames import FrameReader, in_blocks
from teleop_runtime.postgres.pool import Connection, Pool
from teleop_runtime.store import ChecksumMismatch, Store
from teleop_schema.words import counted

from teleop_telemetry.archive.archive_table import EndedSession, NotAccounted
from teleop_telemetry.archive.frame_file import (
    bits_of,
    file_schema,
    from_file,
    read_in_blocks,
    to_file,
)
from teleop_telemetry.frames.block import VALUE_BYTES
from teleop_telemetry.frames.formats import encode_parquet
from teleop_telemetry.tables.lost_copies import Copied

TOLD_OF = "/session.json"
# Inside the store of videos and datasets, whose sweeps remove files without a row.
# No robot can have this name.
FOLDER = ".archive"
ASK = "SELECT id::text, EXISTS (SELECT FROM session_archive) FROM installation"
# 2: values that a command added have their own columns in the file of frames.
FORMAT_VERSION = 2
# The limit of S3 for one multipart upload.
MAX_FILE_BYTES = 50 * 10**9
# Values read at a time, which are one row group: frames of twelve joints make 20,000.
BLOCK_VALUES = 240_000


def archive_address(store_url: str) -> str:
    """The archive's address for `open_store`, if files are kept at `store_url`."""
    return f"{store_url.rstrip('/')}/{FOLDER}"


def names_of(robot_id: str, session_id: int) -> tuple[str, str]:
    """The names of a session's two files below the archive: its frames, and their description."""
    folder = f"{robot_id}/sessions/{session_id}"
    return f"{folder}/frames.parquet", f"{folder}{TOLD_OF}"


async def is_here(connection: Connection, store: Store) -> bool:
    """Whether the archive is there, and this database's; if not, nobody can say what is in it."""
    database: str = (await connection.fetch(ASK))[0][0]
    return await store.owner() == database


class SessionFiles:
    """Writes sessions to the store and reads them back."""

    def __init__(self, store: Store, database_url: str) -> None:
        self.store = store
        self._database_url = database_url

    async def claim(self, pool: Pool) -> None:
        """Claim the archive for this database; raises CannotStart if it belongs to another."""
        await claim_store(pool, self.store, f"{FOLDER} of the file store", ASK)

    async def copy(self, session: EndedSession) -> tuple[Copied, str]:
        """Copy a session, and compare the copy with the database, value by value.

        Returns the place of the frames, and the SHA-256 of the JSON that describes them.
        raises  NotAccounted if the two differ, or are not as many frames as the ledger says; NoSpace
        """
        reader = await asyncio.to_thread(FrameReader, self._database_url)
        try:
            schema = file_schema(session.columns)
            parts = iterate_in_threadpool(encode_parquet(schema, _stored(reader, session)))
            frames_name, _ = names_of(session.robot_id, session.id)
            sha256, size_bytes = await self._keep(frames_name, parts)
            copied = Copied(session.id, session.frames, sha256, size_bytes)
            async with self.frames_file(copied) as path:
                await asyncio.to_thread(_compare, path, reader, session)
        finally:
            reader.close()
        return copied, await self.keep_about(session.robot_id, session.about, session.account, copied)

    async def keep_about(self, robot_id: str, about: str, account: Mapping[str, Any], copied: Copied) -> str:
        """Write the JSON that describes a session, in place of an older one; returns its SHA-256.

        about, account  as of EndedSession
        """
        _, name = names_of(robot_id, copied.session_id)
        sha256, _ = await self._keep(name, _told(about, account, copied))
        return sha256

    async def is_kept(self, copied: Copied) -> bool:
        """Whether the store has the frames of a session, judged by their size."""
        return await self.store.size(copied.sha256) == copied.size_bytes

    @asynccontextmanager
    async def frames_file(self, copied: Copied) -> AsyncIterator[Path]:
        """The frames of a session as a Parquet file; raises ObjectMissing, ChecksumMismatch."""
        async with self.store.as_file(copied.sha256) as path:
            # Each time: frames that only the archive has are worth a read of their file.
            if await asyncio.to_thread(_sha256, path) != copied.sha256:
                raise ChecksumMismatch(
                    f"the archived frames of session {copied.session_id} are damaged: their "
                    f"SHA-256 is no longer {copied.sha256}"
                )
            yield path

    async def _keep(self, name: str, parts: AsyncIterator[bytes]) -> tuple[str, int]:
        """SHA-256 and size of a file that the store now has under `name`, and durably so."""
        # The same each time, so that leftovers of a killed process are found and removed.
        upload = uuid5(NAMESPACE_URL, name)
        await self.store.discard(upload)
        await self.store.begin(upload)
        size_bytes = await self.store.append(upload, 0, parts, limit=MAX_FILE_BYTES)
        sha256 = await self.store.digest(upload)
        await self.store.finish(upload, sha256=sha256, size_bytes=size_bytes)
        # The object has its own place by now.
        await self.store.discard(upload)
        await self.store.name(name, sha256)
        return sha256, size_bytes


def _stored(reader: FrameReader, session: EndedSession) -> Iterator[pa.Table]:
    """The frames from the database, a block at a time, in the form of the file."""
    added = sum(column.room_bytes for column in session.columns) // VALUE_BYTES
    block = BLOCK_VALUES // (1 + session.state_width + session.action_width + added)
    read = partial(
        reader.read,
        session.id,
        end=session.next_frame_index,
        state_width=session.state_width,
        action_width=session.action_width,
    )
    for table in in_blocks(read, 0, session.next_frame_index, block):
        yield to_file(table, session.columns)


def _compare(path: Path, reader: FrameReader, session: EndedSession) -> None:
    frames = 0
    # Both in the same blocks, so that neither is in memory as a whole.
    for copied, stored in zip(read_in_blocks(path), _stored(reader, session), strict=True):
        frames += copied.num_rows
        if not bits_of(copied).equals(bits_of(from_file(stored))):
            first = stored["frame_index"][0].as_py()
            raise NotAccounted(f"session {session.id}: the copy of the frames from {first} on differs")
    if frames != session.frames:
        raise NotAccounted(f"session {session.id}: copied {frames} of {counted(session.frames, 'frame')}")


async def _told(about: str, account: Mapping[str, Any], copied: Copied) -> AsyncIterator[bytes]:
    """Everything that a person needs to understand the frames without the database."""
    told = {
        "format": FORMAT_VERSION,
        "frames": {"rows": copied.frames, "sha256": copied.sha256, "size_bytes": copied.size_bytes},
        "account": account,
        **msgspec.json.decode(about),
    }
    yield msgspec.json.format(msgspec.json.encode(told), indent=1)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
