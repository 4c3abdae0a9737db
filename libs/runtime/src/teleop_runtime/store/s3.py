"""The store on S3, or on a compatible store.

    objects/ab/cd/abcd…           an object, named by its SHA-256
    incoming/<uuid>/begun         an upload
    incoming/<uuid>/<offset>      its bytes so far, in parts, each named by its offset and put only if there
                                  is none: of two writers at one offset one loses, so the parts have no gaps
                                  and never overlap, and the upload's offset is the end of the last
    owner                         the name of the database whose files these are
    notes/<name>                  notes that must outlive that database
    names/<robot_id>/…            {"sha256": …}: S3 has no links, and a second copy of each file would double
                                  the bill

An object is written as a multipart upload, which is completed only if the SHA-256 is right,
so nobody ever sees a wrong one. Incomplete multipart uploads are invisible but cost money:
give the bucket a lifecycle rule that aborts them after a day.
"""

import hashlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from pathlib import Path
from uuid import UUID

import aiofiles
from obstore.exceptions import AlreadyExistsError
from teleop_schema.errors import BodyTooLarge
from teleop_schema.instants import EPOCH

from teleop_runtime.store.errors import (
    ChecksumMismatch,
    ObjectMissing,
    OffsetMismatch,
    StoreUnusable,
    UnknownUpload,
    UploadBusy,
)
from teleop_runtime.store.hashes import Hashes
from teleop_runtime.store.notes import SeenOwner
from teleop_runtime.store.protocol import NOTHING_BEGUN, Checksum, Recipe
from teleop_runtime.store.s3_bucket import PART_BYTES, Bucket
from teleop_runtime.store.s3_keys import checked, end_of, object_key, parts_among
from teleop_runtime.store.s3_names import S3Names
from teleop_runtime.store.writers import Writers

# Names of parts must sort by offset, and every 64-bit number must fit.
OFFSET_DIGITS = 20


class S3ObjectStore:
    """A store in a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._names = S3Names(bucket)
        self._writers = Writers()
        self._hashes = Hashes()
        self._seen = SeenOwner()

    @classmethod
    def open(cls, address: str) -> "S3ObjectStore":
        """The store at `s3://bucket/prefix`; endpoint and credentials are those of the environment."""
        return cls(Bucket.open(address))

    async def begin(self, upload_id: UUID) -> None:
        # An upload without bytes must be told from one that does not exist.
        await self._bucket.put(f"incoming/{upload_id}/begun", b"")

    async def append(
        self,
        upload_id: UUID,
        offset: int,
        parts: AsyncIterator[bytes],
        *,
        limit: int,
        checksum: Checksum | None = None,
    ) -> int:
        async def write() -> int:
            await self._roll_back(upload_id)
            stored = await self.staged_bytes(upload_id)
            if stored is None:
                raise UnknownUpload(upload_id)
            if stored != offset:
                raise OffsetMismatch(stored=stored, sent=offset)
            if checksum is None:
                return await self._receive(upload_id, offset, parts, limit)
            return await self._receive_checked(upload_id, offset, parts, limit, checksum)

        return await self._writers.run(upload_id, write)

    async def staged_bytes(self, upload_id: UUID) -> int | None:
        found = await self._list(f"incoming/{upload_id}")
        if not found:
            return None
        unverified_from = await self._unverified_from(upload_id)
        # Until they have passed their checksum, bytes of a PATCH are not offered as received.
        end = end_of(found)
        return end if unverified_from is None else min(end, unverified_from)

    async def digest(self, upload_id: UUID) -> str:
        stored = await self.staged_bytes(upload_id)
        if stored is None:
            raise UnknownUpload(upload_id)
        known = self._hashes.of(upload_id, stored)
        if known is not None:
            return known.hexdigest()
        sha256 = hashlib.sha256()
        async for block in self._staged(upload_id, 0, stored):
            sha256.update(block)
        return sha256.hexdigest()

    async def finish(
        self, upload_id: UUID, *, sha256: str, size_bytes: int, recipe: Recipe | None = None
    ) -> None:
        stored = await self.staged_bytes(upload_id)
        if stored is None:
            raise UnknownUpload(upload_id)
        recipe = recipe or Recipe(base="", copied=())
        sent = size_bytes - sum(length for _, length, _ in recipe.copied)
        if stored != sent:
            raise ChecksumMismatch(f"{stored} bytes were sent, but {sent} are missing", field="size_bytes")
        blocks = checked(self._mixed(upload_id, size_bytes, recipe), sha256)
        if size_bytes <= PART_BYTES:
            await self._bucket.put(object_key(sha256), b"".join([block async for block in blocks]))
        elif await self._is_whole(sha256, size_bytes):
            # The process that put it there may not have got S3's answer, and that may happen each time
            # if S3 is slow.
            # Read to their end all the same: what was sent must have the right hash, whatever is there.
            async for _ in blocks:
                pass
        else:
            await self._put_large(blocks, sha256, size_bytes)

    async def _put_large(self, blocks: AsyncIterator[bytes], sha256: str, size_bytes: int) -> None:
        try:
            await self._bucket.put_large(object_key(sha256), blocks, size_bytes)
        except FileNotFoundError:
            # S3 no longer knows a completed upload, whether or not its answer arrived.
            if not await self._is_whole(sha256, size_bytes):
                raise StoreUnusable("the file store lost an upload during a write") from None

    async def _is_whole(self, sha256: str, size_bytes: int) -> bool:
        """Whether the object exists with the right bytes; reads them."""
        if await self.size(sha256) != size_bytes:
            return False
        hashed = hashlib.sha256()
        async for block in self._bucket.read(object_key(sha256)):
            hashed.update(block)
        return hashed.hexdigest() == sha256

    async def discard(self, upload_id: UUID) -> None:
        await self._writers.end(upload_id)
        self._hashes.forget(upload_id)
        await self._bucket.delete(
            [f"incoming/{upload_id}/{name}" for name in await self._list(f"incoming/{upload_id}")]
        )

    async def list_uploads(self) -> AsyncIterator[tuple[UUID, datetime]]:
        changed: dict[UUID, datetime] = {}
        async for key, _, put_at in self._bucket.list("incoming"):
            upload_id = UUID(key.split("/")[1])
            changed[upload_id] = max(put_at, changed.get(upload_id, EPOCH))
        for each in changed.items():
            yield each

    async def size(self, sha256: str) -> int | None:
        return await self._bucket.size(object_key(sha256))

    async def read(self, sha256: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        # Asked first, so that the caller hears of a missing object before an answer has begun.
        if (size := await self.size(sha256)) is None:
            raise ObjectMissing(sha256)
        async for block in self._bucket.read(
            object_key(sha256), start, size if end is None else min(end, size)
        ):
            yield block

    async def remove(self, sha256: str) -> None:
        await self._bucket.delete([object_key(sha256)])

    async def list_objects(self) -> AsyncIterator[tuple[str, int]]:
        async for key, size_bytes, _ in self._bucket.list("objects"):
            yield key.rpartition("/")[2], size_bytes

    @asynccontextmanager
    async def as_file(self, sha256: str) -> AsyncIterator[Path]:
        with tempfile.TemporaryDirectory(prefix="object-") as folder:
            path = Path(folder) / sha256
            async with aiofiles.open(path, "wb") as file, aclosing(self.read(sha256)) as blocks:
                async for block in blocks:
                    await file.write(block)
            yield path

    def file_here(self, sha256: str) -> None:
        """None: every object has to be fetched."""

    async def name(self, path: str, sha256: str) -> None:
        if await self.size(sha256) is None:
            raise ObjectMissing(sha256)
        await self._names.set(path, sha256)

    def list_names(self) -> AsyncIterator[tuple[str, str]]:
        return self._names.list()

    async def unname(self, path: str) -> None:
        await self._names.remove(path)

    async def free_bytes(self) -> int | None:
        return None

    async def check_room(self, size_bytes: int, begun: Mapping[UUID, int] = NOTHING_BEGUN) -> None:
        """A bucket has no limit."""

    async def owner(self) -> str | None:
        found = await self._bucket.small("owner")
        return self._seen.saw(None if found is None else str(found, "ascii"))

    async def own(self, database: str) -> None:
        await self._bucket.put("owner", database.encode("ascii"))
        self._seen.saw(database)

    async def check_owner(self) -> None:
        found = await self._bucket.small("owner")
        self._seen.check(None if found is None else str(found, "ascii"))

    async def note(self, name: str) -> bytes | None:
        return await self._bucket.small(f"notes/{name}")

    async def set_note(self, name: str, content: bytes) -> None:
        await self._bucket.put(f"notes/{name}", content)

    async def remove_note(self, name: str) -> None:
        await self._bucket.delete([f"notes/{name}"])

    async def list_notes(self, prefix: str) -> AsyncIterator[str]:
        async for key, _, _ in self._bucket.list(f"notes/{prefix}"):
            yield key.removeprefix("notes/")

    async def _receive(self, upload_id: UUID, offset: int, parts: AsyncIterator[bytes], limit: int) -> int:
        """Store `parts` as part objects; when they end or break off, everything that arrived is stored."""
        sha256 = hashlib.sha256() if offset == 0 else self._hashes.of(upload_id, offset)
        buffer = bytearray()
        size = offset

        async def put() -> None:
            nonlocal offset, buffer
            await self._put_part(upload_id, offset, buffer)
            if sha256 is not None:
                sha256.update(buffer)
                self._hashes.keep(upload_id, offset + len(buffer), sha256)
            offset, buffer = offset + len(buffer), bytearray()

        try:
            async for part in parts:
                size += len(part)
                buffer += part[: len(part) - max(0, size - limit)]
                if size > limit:
                    raise BodyTooLarge(f"more bytes than the {limit} announced", limit=limit)
                if len(buffer) >= PART_BYTES:
                    await put()
        finally:
            if buffer:
                await put()
        return offset

    async def _receive_checked(
        self, upload_id: UUID, offset: int, parts: AsyncIterator[bytes], limit: int, checksum: Checksum
    ) -> int:
        hashed = hashlib.new(checksum.algorithm)

        async def hashing() -> AsyncIterator[bytes]:
            async for part in parts:
                hashed.update(part)
                yield part

        # Before the first byte: a process that dies leaves a note from where on nobody has checked.
        await self._bucket.put(f"incoming/{upload_id}/unverified", str(offset).encode())
        try:
            end = await self._receive(upload_id, offset, hashing(), limit)
            if hashed.digest() != checksum.digest:
                raise ChecksumMismatch(
                    f"{checksum.algorithm} of the {end - offset} sent bytes does not match",
                    field="Upload-Checksum",
                    hint="send them again from the same offset",
                )
        except BaseException:
            await self._roll_back(upload_id)
            raise
        await self._bucket.delete([f"incoming/{upload_id}/unverified"])
        return end

    async def _put_part(self, upload_id: UUID, offset: int, block: bytearray) -> None:
        key = f"incoming/{upload_id}/{offset:0{OFFSET_DIGITS}}"
        try:
            await self._bucket.put_new(key, block)
        # A writer in another process was at the same offset first; its bytes are as good as these.
        except AlreadyExistsError:
            raise UploadBusy("another request is writing to this upload") from None

    async def _roll_back(self, upload_id: UUID) -> None:
        """Drop what a writer left unverified."""
        unverified_from = await self._unverified_from(upload_id)
        if unverified_from is None:
            return
        self._hashes.forget(upload_id)
        names = await self._list(f"incoming/{upload_id}")
        # The last part first, so that the rest has no gaps if this is interrupted.
        wrong = sorted(
            (name for name in names if name.isdigit() and int(name) >= unverified_from), reverse=True
        )
        # The note last: until then everybody knows that the rest does not count.
        for name in (*wrong, "unverified"):
            await self._bucket.delete([f"incoming/{upload_id}/{name}"])

    async def _unverified_from(self, upload_id: UUID) -> int | None:
        found = await self._bucket.small(f"incoming/{upload_id}/unverified")
        return None if found is None else int(found)

    async def _staged(self, upload_id: UUID, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes [start, end) of an upload."""
        for offset, size in parts_among(await self._list(f"incoming/{upload_id}")):
            if offset < end and offset + size > start:
                key = f"incoming/{upload_id}/{offset:0{OFFSET_DIGITS}}"
                async for block in self._bucket.read(key, max(start - offset, 0), min(end - offset, size)):
                    yield block

    async def _mixed(self, upload_id: UUID, size_bytes: int, recipe: Recipe) -> AsyncIterator[bytes]:
        sent = at = 0
        for offset, length, base_offset in (*recipe.copied, (size_bytes, 0, 0)):
            async for block in self._staged(upload_id, sent, sent + offset - at):
                yield block
            sent += offset - at
            at = offset + length
            if length:
                try:
                    async for block in self._bucket.read(
                        object_key(recipe.base), base_offset, base_offset + length
                    ):
                        yield block
                except FileNotFoundError:
                    raise ChecksumMismatch(
                        f"the store has lost {recipe.base}, which this file is made of"
                    ) from None

    async def _list(self, prefix: str) -> dict[str, int]:
        """Sizes by the last part of the key."""
        return {key.rpartition("/")[2]: size async for key, size, _ in self._bucket.list(prefix)}
