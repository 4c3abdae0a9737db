"""The interface of every store."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Protocol
from uuid import UUID

# This part of a disk stays free, so that a database on the same disk can continue.
KEPT_FREE = 0.05
NOTHING_BEGUN: Mapping[UUID, int] = MappingProxyType({})


@dataclass(frozen=True)
class Checksum:
    """The required hash of some bytes.

    algorithm  hashlib's name: "sha1", "sha256"
    """

    algorithm: str
    digest: bytes


@dataclass(frozen=True)
class Recipe:
    """How a file is assembled from sent bytes and bytes of another object.

    base    SHA-256 of that object
    copied  (offset in the file, length, offset in the base), ascending and disjoint;
            all other bytes of the file are those of the upload, in their order
    """

    base: str
    copied: Sequence[tuple[int, int, int]]


class Store(Protocol):
    """Objects by their SHA-256, a readable tree of names for them, and open uploads.

    The effect of a method is durable when it returns. Any number of processes may use one store.
    """

    async def begin(self, upload_id: UUID) -> None:
        """Create an empty upload; does nothing if it exists."""

    async def append(
        self,
        upload_id: UUID,
        offset: int,
        parts: AsyncIterator[bytes],
        *,
        limit: int,
        checksum: Checksum | None = None,
    ) -> int:
        """Add `parts` to an upload; returns its new offset.

        However it ends, even with an exception of `parts`, all bytes that the offset then counts are durable.
        With a checksum, it is all or nothing. A later append to the same upload ends this one with UploadBusy
        if it is in the same process; otherwise the later one fails with UploadBusy.

        limit   the offset must not exceed this: BodyTooLarge; bytes that fit are kept
        raises  UnknownUpload, OffsetMismatch, UploadBusy, BodyTooLarge, ChecksumMismatch, NoSpace
        """

    async def staged_bytes(self, upload_id: UUID) -> int | None:
        """How many bytes of an upload are durable; None if there is no such upload."""

    async def digest(self, upload_id: UUID) -> str:
        """SHA-256 of an upload's bytes, in hexadecimal; raises UnknownUpload."""

    async def finish(
        self, upload_id: UUID, *, sha256: str, size_bytes: int, recipe: Recipe | None = None
    ) -> None:
        """Publish an upload, whole or with a recipe, as the object `sha256`, if it has that hash.

        May be repeated. The upload stays until it is discarded, so that it is still there if a process dies
        before it has registered the object. An existing damaged object is replaced.

        raises  UnknownUpload, UploadBusy, ChecksumMismatch (also if the base is missing or damaged), NoSpace
        """

    async def discard(self, upload_id: UUID) -> None:
        """Delete an upload; does nothing if there is none."""

    def list_uploads(self) -> AsyncIterator[tuple[UUID, datetime]]:
        """(upload, when it last got bytes) for every open upload."""

    async def size(self, sha256: str) -> int | None:
        """Bytes of an object; None if there is none."""

    def read(self, sha256: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """Bytes [start, end) of an object, in parts of about 1 MiB; raises ObjectMissing."""

    async def remove(self, sha256: str) -> None:
        """Delete an object; does nothing if there is none. Names of it stay."""

    def list_objects(self) -> AsyncIterator[tuple[str, int]]:
        """(SHA-256, bytes) of every object."""

    def as_file(self, sha256: str) -> AbstractAsyncContextManager[Path]:
        """An object as a file to read while the block runs; raises ObjectMissing."""

    def file_here(self, sha256: str) -> Path | None:
        """The object's file, for use in threads; None if it has to be fetched, with `as_file`.

        raises  ObjectMissing, if that is known without fetching it
        """

    async def name(self, path: str, sha256: str) -> None:
        """Make `path` ("robot_A/my-dataset/meta/info.json") a name of an object, replacing the previous one.

        raises  ObjectMissing, PathTaken
        """

    def list_names(self) -> AsyncIterator[tuple[str, str]]:
        """(path, SHA-256) of every name, except copies, which a disk without links has instead of names."""

    async def unname(self, path: str) -> None:
        """Remove a name; does nothing if there is none."""

    async def free_bytes(self) -> int | None:
        """Bytes that may still be stored; None if there is no limit."""

    async def check_room(self, size_bytes: int, begun: Mapping[UUID, int] = NOTHING_BEGUN) -> None:
        """Raise NoSpace unless this many more bytes fit, with KEPT_FREE of the disk left.

        On a disk, it raises StoreUnusable as `check_owner` does.

        begun  open uploads, and the bytes that each takes; bytes that they have yet to receive are not free
        """

    async def owner(self) -> str | None:
        """The name of the database that owns these files; None if there is none yet."""

    async def own(self, database: str) -> None:
        """Store the name of the database that owns these files."""

    async def check_owner(self) -> None:
        """Raise StoreUnusable if the name that `owner` or `own` last saw is gone, as with an unmounted disk.

        Files that are missing then are not lost, and new ones would be hidden once the disk is back.
        """

    async def note(self, name: str) -> bytes | None:
        """The note `name` ("versions/robot_A/my-dataset/3"); None if there is none."""

    async def set_note(self, name: str, content: bytes) -> None:
        """Write a note, which must outlive the database; replaces an existing one."""

    async def remove_note(self, name: str) -> None:
        """Delete the note `name`, if there is one."""

    def list_notes(self, prefix: str) -> AsyncIterator[str]:
        """Names of all notes below `prefix`, a folder."""
