"""The store in a local folder.

    .objects/ab/cd/abcd…     an object, read-only, named by its SHA-256
    .incoming/<uuid>         the bytes of an upload so far; its length is the offset
    .owner                   the name of the database whose files these are
    .notes/<name>            notes that must outlive that database
    <robot_id>/…             the readable tree: hard links to objects

Only a store writes below `.objects` and `.incoming`. A program that changes a file of the tree in place would
change the object too, so both are read-only; `verify` detects such changes.
"""

import errno
import hashlib
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath
from uuid import UUID, uuid4

from teleop_schema.errors import NoSpace

from teleop_runtime.store.durable import (
    BLOCK_BYTES,
    OBJECT_MODE,
    check_another_file_fits,
    intact,
    make_folder,
    place,
    read_if_there,
    sync_data,
    sync_directory,
    write_all,
)
from teleop_runtime.store.errors import ChecksumMismatch, ObjectMissing
from teleop_runtime.store.hashes import Hashes, check_sha256
from teleop_runtime.store.notes import SeenOwner
from teleop_runtime.store.protocol import KEPT_FREE, NOTHING_BEGUN, Checksum, Recipe
from teleop_runtime.store.receiving import receive
from teleop_runtime.store.staged_file import (
    STAGED_MODE,
    UNVERIFIED_SUFFIX,
    StagedFile,
    durable_size,
    list_staged,
)
from teleop_runtime.store.threads import in_thread, read_file
from teleop_runtime.store.writers import Writers

NOTES = ".notes"
# Scratch files older than this were left by a process that was killed.
SCRATCH_S = 3600.0


class LocalStore:
    """A store in a folder on one file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.objects = root / ".objects"
        self.incoming = root / ".incoming"
        self._writers = Writers()
        self._hashes = Hashes()
        self._seen = SeenOwner()

    @classmethod
    def open(cls, root: Path) -> "LocalStore":
        """The store in `root`, which is created if it does not exist."""
        store = cls(root.absolute())
        for folder in (store.objects, store.incoming):
            make_folder(folder)
        store._remove_scratch()
        return store

    async def begin(self, upload_id: UUID) -> None:
        await in_thread(self._begin, upload_id)

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
            staged = StagedFile(self.incoming, upload_id)
            try:
                await in_thread(staged.open)
                await in_thread(staged.begin_append, offset, checksum, self._hashes.of(upload_id, offset))
                await receive(staged, parts, limit=limit, check_room=self._check_room)
                # Before the close, which drops bytes that have a checksum and have not passed it.
                await in_thread(staged.check)
            finally:
                await in_thread(staged.close)
                if staged.hash is not None:
                    self._hashes.keep(upload_id, staged.size, staged.hash)
            return staged.size

        return await self._writers.run(upload_id, write)

    async def staged_bytes(self, upload_id: UUID) -> int | None:
        return await in_thread(durable_size, self.incoming / str(upload_id))

    async def digest(self, upload_id: UUID) -> str:
        def look() -> str:
            with StagedFile(self.incoming, upload_id) as staged:
                return self._digest(staged)

        return await in_thread(look)

    async def finish(
        self, upload_id: UUID, *, sha256: str, size_bytes: int, recipe: Recipe | None = None
    ) -> None:
        await in_thread(self._finish, upload_id, sha256, size_bytes, recipe)

    async def discard(self, upload_id: UUID) -> None:
        # Not while a writer's thread still writes: it would bring back a part of what is removed.
        await self._writers.end(upload_id)
        self._hashes.forget(upload_id)

        def remove() -> None:
            for suffix in ("", UNVERIFIED_SUFFIX):
                (self.incoming / f"{upload_id}{suffix}").unlink(missing_ok=True)

        await in_thread(remove)

    async def list_uploads(self) -> AsyncIterator[tuple[UUID, datetime]]:
        for found in await in_thread(list_staged, self.incoming):
            yield found

    async def size(self, sha256: str) -> int | None:
        try:
            return (await in_thread(self._object(sha256).stat)).st_size
        except FileNotFoundError:
            return None

    async def read(self, sha256: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        try:
            async with aclosing(read_file(self._object(sha256), start, end)) as parts:
                async for part in parts:
                    yield part
        except FileNotFoundError:
            raise ObjectMissing(sha256) from None

    async def remove(self, sha256: str) -> None:
        await in_thread(self._object(sha256).unlink, missing_ok=True)

    async def list_objects(self) -> AsyncIterator[tuple[str, int]]:
        for folder in await in_thread(lambda: sorted(self.objects.glob("[0-9a-f]*/[0-9a-f]*"))):
            for found in await in_thread(_files, folder):
                yield found

    @asynccontextmanager
    async def as_file(self, sha256: str) -> AsyncIterator[Path]:
        yield await in_thread(self.file_here, sha256)

    def file_here(self, sha256: str) -> Path:
        path = self._object(sha256)
        if not path.exists():
            raise ObjectMissing(sha256)
        return path

    async def name(self, path: str, sha256: str) -> None:
        target = self._in_tree(path)

        def link() -> None:
            make_folder(target.parent)
            place(self.file_here(sha256), target, self.incoming)

        try:
            await in_thread(link)
        except FileNotFoundError:
            raise ObjectMissing(sha256) from None

    async def list_names(self) -> AsyncIterator[tuple[str, str]]:
        def look() -> list[tuple[Path, str]]:
            # A name is a link to its object, so the two share an inode; a copy, where links were impossible,
            # is not found.
            objects = {path.lstat().st_ino: path.name for path in self.objects.glob("*/*/*")}
            found = ((path, objects.get(path.lstat().st_ino)) for path in self.root.glob("[!.]*/**/*"))
            return sorted((path, sha256) for path, sha256 in found if sha256)

        for path, sha256 in await in_thread(look):
            yield path.relative_to(self.root).as_posix(), sha256

    async def unname(self, path: str) -> None:
        await in_thread(self._in_tree(path).unlink, missing_ok=True)

    async def free_bytes(self) -> int | None:
        return max(0, (await in_thread(self._room))[0])

    async def check_room(self, size_bytes: int, begun: Mapping[UUID, int] = NOTHING_BEGUN) -> None:
        await in_thread(self._check_room, size_bytes, begun)

    async def owner(self) -> str | None:
        return self._seen.saw(await in_thread(self._read_owner))

    async def own(self, database: str) -> None:
        await in_thread(self._replace, self._owner, f"{database}\n".encode("ascii"))
        self._seen.saw(database)

    async def check_owner(self) -> None:
        self._seen.check(await in_thread(self._read_owner))

    def _read_owner(self) -> str | None:
        found = read_if_there(self._owner)
        return None if found is None else found.decode("ascii").strip()

    async def note(self, name: str) -> bytes | None:
        return await in_thread(read_if_there, self._note(name))

    async def set_note(self, name: str, content: bytes) -> None:
        def write() -> None:
            make_folder(self._note(name).parent)
            self._replace(self._note(name), content)

        await in_thread(write)

    async def remove_note(self, name: str) -> None:
        await in_thread(self._note(name).unlink, missing_ok=True)

    async def list_notes(self, prefix: str) -> AsyncIterator[str]:
        folder = self._note(prefix)
        for path in await in_thread(lambda: sorted(folder.rglob("*"))):
            if path.is_file():
                yield path.relative_to(self.root / NOTES).as_posix()

    def _note(self, name: str) -> Path:
        return self._in_tree(name, below=self.root / NOTES)

    def _replace(self, path: Path, content: bytes) -> None:
        """Put `content` at `path`, durably and in one step."""
        made = self.incoming / f"{uuid4().hex}.name"
        made.write_bytes(content)
        with made.open("rb") as file:
            sync_data(file.fileno())
        # Synced before it gets its name: a power cut leaves the old content or the new, never an empty file.
        made.replace(path)
        sync_directory(path.parent)

    @property
    def _owner(self) -> Path:
        return self.root / ".owner"

    def _object(self, sha256: str) -> Path:
        return self.objects / sha256[:2] / sha256[2:4] / sha256

    def _in_tree(self, path: str, below: Path | None = None) -> Path:
        """The path of a name. Callers have checked the name; this is the last check before the disk."""
        parts = PurePosixPath(path).parts
        if not parts or "\0" in path or any(part.startswith((".", "/")) for part in parts):
            raise ValueError(f"{path!r} is not a name in the store")
        return (below or self.root).joinpath(*parts)

    def _begin(self, upload_id: UUID) -> None:
        self._seen.check(self._read_owner())
        path = self.incoming / str(upload_id)
        # Not for writing, because an existing finished upload is read-only.
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, STAGED_MODE))
        sync_directory(self.incoming)

    def _room(self) -> tuple[int, int]:
        """Bytes that may still be stored, and free bytes on the disk."""
        disk = os.statvfs(self.root)
        if disk.f_flag & os.ST_RDONLY:
            # The kernel makes a file system read-only after a disk failure.
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self.root))
        free = disk.f_bavail * disk.f_frsize
        return free - int(disk.f_blocks * disk.f_frsize * KEPT_FREE), free

    def _check_room(self, size_bytes: int = 0, begun: Mapping[UUID, int] = NOTHING_BEGUN) -> None:
        self._seen.check(self._read_owner())
        check_another_file_fits(self.root)
        room, free = self._room()
        if size_bytes + sum(begun.values()) <= room:
            return
        # How much of them is here already matters only if space is short.
        promised = sum(max(0, takes - self._came(upload_id)) for upload_id, takes in begun.items())
        if size_bytes + promised > room:
            awaited = f" and {promised} are reserved for uploads in progress" if promised else ""
            lacks = f"has no room for {size_bytes} more bytes" if size_bytes else "is full"
            raise NoSpace(
                f"the disk of the files {lacks}: it has {free} bytes free, but {free - room} must stay "
                f"free{awaited}",
                limit=max(0, room - promised),
                hint="free some space on the server's disk, then upload again",
            )

    def _came(self, upload_id: UUID) -> int:
        """Bytes of an upload that take up space, durable or not."""
        try:
            return (self.incoming / str(upload_id)).stat().st_size
        except FileNotFoundError:
            return 0

    def _digest(self, staged: StagedFile) -> str:
        known = self._hashes.of(staged.upload_id, staged.size)
        if known is not None:
            return known.hexdigest()
        sha256 = hashlib.sha256()
        for block in staged.blocks():
            sha256.update(block)
        return sha256.hexdigest()

    def _finish(self, upload_id: UUID, sha256: str, size_bytes: int, recipe: Recipe | None) -> None:
        with StagedFile(self.incoming, upload_id) as staged:
            if recipe is None:
                _check_whole(staged.size, self._digest(staged), size_bytes, sha256)
                staged.make_read_only(OBJECT_MODE)
                self._publish(staged.path, sha256, size_bytes)
                return
            made = self.incoming / f"{uuid4().hex}.whole"
            try:
                self._assemble(staged, size_bytes, sha256, recipe, made)
                self._publish(made, sha256, size_bytes)
            finally:
                # `_publish` gave it a second name, that of the object, or found that the object was there
                # already.
                made.unlink(missing_ok=True)

    def _assemble(
        self, staged: StagedFile, size_bytes: int, sha256: str, recipe: Recipe, target: Path
    ) -> None:
        """Write the file that the recipe assembles from the sent bytes and its base;
        raises ChecksumMismatch."""
        hashed, offset = hashlib.sha256(), 0
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, STAGED_MODE)
        try:
            for block in self._mixed(staged, size_bytes, recipe):
                hashed.update(block)
                write_all(fd, block, offset)
                offset += len(block)
            _check_whole(offset, hashed.hexdigest(), size_bytes, sha256)
            # Read-only before anybody can reach it by the name of an object.
            os.fchmod(fd, OBJECT_MODE)
            sync_data(fd)
        finally:
            os.close(fd)

    def _mixed(self, staged: StagedFile, size_bytes: int, recipe: Recipe) -> Iterator[bytes]:
        sent = at = 0
        try:
            base = self._object(recipe.base).open("rb", buffering=0)
        except FileNotFoundError:
            raise ChecksumMismatch(f"the store has lost {recipe.base}, which this file is made of") from None
        with base:
            # The last entry copies nothing: it is there for the sent bytes behind the last copied range.
            for offset, length, base_offset in (*recipe.copied, (size_bytes, 0, 0)):
                yield from staged.blocks(sent, offset - at)
                sent += offset - at
                base.seek(base_offset)
                at, left = offset + length, length
                while left and (block := base.read(min(BLOCK_BYTES, left))):
                    yield block
                    left -= len(block)
        if sent != staged.size:
            raise ChecksumMismatch(f"{staged.size} bytes were sent, but {sent} are missing")

    def _publish(self, source: Path, sha256: str, size_bytes: int) -> None:
        """Make `source`, which is durable, the object; an existing intact object stays."""
        target = self._object(sha256)
        make_folder(target.parent)
        if not intact(target, source, sha256, size_bytes):
            place(source, target, self.incoming)

    def _remove_scratch(self) -> None:
        before = time.time() - SCRATCH_S
        for left in (*self.incoming.glob("*.name"), *self.incoming.glob("*.whole")):
            try:
                # Younger ones may be of another process that works right now.
                if left.stat().st_ctime < before:
                    left.unlink()
            except FileNotFoundError:
                continue


def _check_whole(size: int, digest: str, size_bytes: int, sha256: str) -> None:
    if size != size_bytes:
        raise ChecksumMismatch(f"the file has {size} bytes, not {size_bytes}", field="size_bytes")
    check_sha256(digest, sha256)


def _files(folder: Path) -> list[tuple[str, int]]:
    found = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        try:
            found.append((entry.name, entry.stat().st_size))
        except FileNotFoundError:
            continue
    return found
