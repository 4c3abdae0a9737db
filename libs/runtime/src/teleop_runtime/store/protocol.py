"""What every store can do."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Protocol
from uuid import UUID

# Of a disk this part stays free, so that the database beside the files can go on.
KEPT_FREE = 0.05
NOTHING_BEGUN: Mapping[UUID, int] = MappingProxyType({})


@dataclass(frozen=True)
class Checksum:
    """What some bytes must hash to.

    algorithm  as hashlib names it: "sha1", "sha256"
    """

    algorithm: str
    digest: bytes


@dataclass(frozen=True)
class Recipe:
    """How a file is put together of what was sent and what another object holds.

    base    SHA-256 of that object
    copied  (offset in the file, length, offset in the base), ascending and apart; all other bytes of the file
            are those of the upload, in their order
    """

    base: str
    copied: Sequence[tuple[int, int, int]]


class Store(Protocol):
    """Bytes by their SHA-256, a plain tree of names for them, and uploads on their way.

    What a method has done is durable when it returns. Any number of processes may use one store.
    """

    async def begin(self, upload_id: UUID) -> None:
        """Make an empty upload; nothing happens if it is there."""

    async def append(
        self,
        upload_id: UUID,
        offset: int,
        parts: AsyncIterator[bytes],
        *,
        limit: int,
        checksum: Checksum | None = None,
    ) -> int:
        """Add `parts` to an upload; gives its new offset.

        Whatever ends it, an exception of `parts` included, all bytes that the offset counts from then on are
        durable. With a checksum it is all or nothing. A later append to the same upload ends this one with
        UploadBusy if it is of the same process, and fails with UploadBusy itself if not.

        limit   the offset must not get beyond this: BodyTooLarge, what fits is kept
        raises  UnknownUpload, OffsetMismatch, UploadBusy, BodyTooLarge, ChecksumMismatch, NoSpace
        """

    async def staged_bytes(self, upload_id: UUID) -> int | None:
        """How many bytes of an upload are durable; None if there is no such upload."""

    async def digest(self, upload_id: UUID) -> str:
        """SHA-256 of an upload's bytes, in hexadecimal; raises UnknownUpload."""

    async def finish(
        self, upload_id: UUID, *, sha256: str, size_bytes: int, recipe: Recipe | None = None
    ) -> None:
        """Publish an upload, whole or with a recipe, as the object `sha256`, if that is what it is.

        May be repeated. The upload stays until it is discarded, so that whoever dies before having noted the
        object finds it again. An object that is there already, and damaged, is replaced.

        raises  UnknownUpload, UploadBusy, ChecksumMismatch (also if the base is missing or damaged), NoSpace
        """

    async def discard(self, upload_id: UUID) -> None:
        """Forget an upload; nothing happens if there is none."""

    def list_uploads(self) -> AsyncIterator[tuple[UUID, datetime]]:
        """(upload, when it last got bytes) of every upload that is neither discarded nor unknown."""

    async def size(self, sha256: str) -> int | None:
        """Bytes of an object; None if there is none."""

    def read(self, sha256: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Bytes [start, end) of an object, in parts of about 1 MiB; raises ObjectMissing."""

    async def remove(self, sha256: str) -> None:
        """Forget an object; nothing happens if there is none. Names of it stay."""

    def list_objects(self) -> AsyncIterator[tuple[str, int]]:
        """(SHA-256, bytes) of every object."""

    def as_file(self, sha256: str) -> AbstractAsyncContextManager[Path]:
        """An object as a file to read while the block runs; raises ObjectMissing."""

    def file_here(self, sha256: str) -> Path | None:
        """The file that an object is, for threads; None if it has to be fetched, with `as_file`.

        raises  ObjectMissing, if nothing needs to be fetched to know it
        """

    async def name(self, path: str, sha256: str) -> None:
        """Let `path` ("robot_A/my-dataset/meta/info.json") stand for an object; replaces what it stood for.

        raises  ObjectMissing, PathTaken
        """

    def list_names(self) -> AsyncIterator[tuple[str, str]]:
        """(path, SHA-256) of every name; but for copies, which names become on a disk that takes no links."""

    async def unname(self, path: str) -> None:
        """Take a name away; nothing happens if there is none."""

    async def free_bytes(self) -> int | None:
        """Bytes that may still be stored; None if nothing bounds them."""

    async def check_room(self, size_bytes: int, begun: Mapping[UUID, int] = NOTHING_BEGUN) -> None:
        """Raise NoSpace unless so many more bytes fit, with KEPT_FREE of the disk left.

        begun  uploads, and how many bytes each takes; what they have still to receive is not free
        """

    async def owner(self) -> str | None:
        """The name of the database whose files these are; None if none has been noted."""

    async def own(self, database: str) -> None:
        """Note the name of the database whose files these are."""

    async def note(self, name: str) -> bytes | None:
        """What was last noted under `name` ("versions/robot_A/my-dataset/3"); None if nothing was."""

    async def set_note(self, name: str, content: bytes) -> None:
        """Note something beside the objects: what has to outlive the database. Replaces what it was."""

    async def remove_note(self, name: str) -> None:
        """Forget what was noted under `name`, if anything was."""

    def list_notes(self, prefix: str) -> AsyncIterator[str]:
        """Names of all notes below `prefix`, a folder."""
