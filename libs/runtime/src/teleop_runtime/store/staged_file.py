"""An upload's bytes in a local file, whose length is the upload's offset; nothing else records the offset.

A file that has become an object, or was about to, is read-only. A process that finds one reads it again and
finishes it; nobody writes to it any more.
"""

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self
from uuid import UUID

from teleop_runtime.store.durable import BLOCK_BYTES, sync_data, sync_directory, write_all
from teleop_runtime.store.errors import ChecksumMismatch, OffsetMismatch, UnknownUpload, UploadBusy
from teleop_runtime.store.protocol import Checksum

if TYPE_CHECKING:
    from hashlib import _Hash

# Nobody else reads a file before it is whole and checked.
STAGED_MODE = 0o600
UNVERIFIED_SUFFIX = ".unverified"


class StagedFile:
    """One upload's file while it is in use, locked against other processes; all methods block.

    size  bytes in it, including written ones that are not synced yet
    hash  SHA-256 of them if it is known from the first byte on, otherwise None
    """

    def __init__(self, folder: Path, upload_id: UUID) -> None:
        self.upload_id = upload_id
        self.path = folder / str(upload_id)
        self.size = 0
        self.hash: _Hash | None = None
        self._begun_at = 0
        self._checksum: Checksum | None = None
        self._checked: _Hash | None = None
        self._fd = -1

    def open(self) -> None:
        """Lock the file, and drop unverified bytes of a dead writer; raises UnknownUpload, UploadBusy."""
        try:
            self._fd = _open(self.path)
        except FileNotFoundError:
            raise UnknownUpload(self.upload_id) from None
        try:
            self._lock()
        except BaseException:
            os.close(self._fd)
            self._fd = -1
            raise
        unverified_from = read_unverified(self.path)
        if unverified_from is not None:
            self._truncate(unverified_from)
        self.size = os.fstat(self._fd).st_size

    def begin_append(self, offset: int, checksum: Checksum | None, known: "_Hash | None") -> None:
        """Prepare to write at `offset`; `known` is the SHA-256 of all bytes before it, if available."""
        if offset != self.size:
            raise OffsetMismatch(stored=self.size, sent=offset)
        self._begun_at = offset
        self.hash = hashlib.sha256() if offset == 0 else known
        if checksum is not None:
            self._checksum = checksum
            self._checked = hashlib.new(checksum.algorithm)
            # Durable before the first byte is written, or a power cut could make unchecked bytes count.
            self._note_unverified(offset)

    def write(self, block: bytes | bytearray) -> None:
        """Add `block`; not yet durable."""
        found = os.fstat(self._fd)
        # The number of links does not show it, because a process may
        # have died before it made the second link.
        if found.st_nlink != 1 or not found.st_mode & stat.S_IWUSR:
            raise UploadBusy("this upload is complete or was given up")
        write_all(self._fd, block, self.size)
        self.size += len(block)
        if self.hash is not None:
            self.hash.update(block)
        if self._checked is not None:
            self._checked.update(block)

    def sync(self) -> None:
        """Make the written bytes durable; if that fails, the upload and its file are lost."""
        try:
            sync_data(self._fd)
        except OSError:
            # The kernel may drop pages that it could not write: nobody can tell which bytes are good.
            self.path.unlink(missing_ok=True)
            raise

    def check(self) -> None:
        """Accept the bytes that were appended with a checksum, or drop them: ChecksumMismatch."""
        if self._checksum is None or self._checked is None:
            return
        if self._checked.digest() != self._checksum.digest:
            raise ChecksumMismatch(
                f"{self._checksum.algorithm} of the {self.size - self._begun_at} sent bytes does not match",
                field="Upload-Checksum",
                hint="send them again from the same offset",
            )
        self._checksum = None
        _forget_unverified(self.path)

    def close(self) -> None:
        """Sync, drop bytes that have not passed their checksum, and release the lock."""
        if self._fd < 0:
            return
        try:
            if self._checksum is not None:
                self._truncate(self._begun_at)
            else:
                self.sync()
        finally:
            os.close(self._fd)
            self._fd = -1

    def blocks(self, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Its bytes from `offset` on, in parts of at most BLOCK_BYTES."""
        end = self.size if length is None else offset + length
        while offset < end and (block := os.pread(self._fd, min(BLOCK_BYTES, end - offset), offset)):
            yield block
            offset += len(block)

    def make_read_only(self, mode: int) -> None:
        """Make the file read-only for everybody, durably."""
        os.fchmod(self._fd, mode)
        os.fsync(self._fd)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UploadBusy() from None
        # It was discarded between the opening and the lock; what is written now would belong to nobody.
        if os.fstat(self._fd).st_nlink == 0:
            raise UnknownUpload(self.upload_id)

    def _truncate(self, size: int) -> None:
        # A read-only file has nothing unverified, and could not be cut.
        if os.fstat(self._fd).st_size != size:
            os.ftruncate(self._fd, size)
        self.hash = None
        # First the cut, then the note's end: the other way round the unchecked bytes would count after a
        # power cut.
        self.sync()
        self.size = size
        _forget_unverified(self.path)

    def _note_unverified(self, offset: int) -> None:
        note = self.path.with_name(self.path.name + UNVERIFIED_SUFFIX)
        fd = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, STAGED_MODE)
        try:
            write_all(fd, str(offset).encode(), 0)
            sync_data(fd)
        finally:
            os.close(fd)
        sync_directory(note.parent)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(path: Path) -> int:
    """The file opened for reading and writing, or only for reading if it is read-only."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, os.O_RDWR | flags)
    except PermissionError:
        return os.open(path, os.O_RDONLY | flags)


def read_unverified(path: Path) -> int | None:
    """Offset from which the upload's bytes have yet to pass their checksum; None: all of them count."""
    try:
        noted = path.with_name(path.name + UNVERIFIED_SUFFIX).read_bytes()
    except FileNotFoundError:
        return None
    # Empty: the writer died before its note was whole, and so before it wrote anything.
    return int(noted) if noted else None


def durable_size(path: Path) -> int | None:
    """Bytes of an upload that are on the medium now; None if there is no such upload."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        size = os.fstat(fd).st_size
        # A killed writer's last bytes are in the file, but not synced.
        sync_data(fd)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    unverified_from = read_unverified(path)
    return size if unverified_from is None else min(size, unverified_from)


def list_staged(folder: Path) -> list[tuple[UUID, datetime]]:
    """Every upload, and when it last changed."""
    found = []
    for path in folder.iterdir():
        with suppress(ValueError, FileNotFoundError):
            found.append((UUID(path.name), datetime.fromtimestamp(path.stat().st_mtime, UTC)))
    return found


def _forget_unverified(path: Path) -> None:
    try:
        path.with_name(path.name + UNVERIFIED_SUFFIX).unlink()
    except FileNotFoundError:
        return
    # If a note reappeared after a power cut, bytes that count would be removed.
    sync_directory(path.parent)
