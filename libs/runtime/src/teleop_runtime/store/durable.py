"""Writes files so that they are still there, and whole, after a power cut.

A failed sync is never tried again: the kernel may have dropped the bytes and marked them clean, so that a
second sync would succeed although data was lost.
"""

import errno
import hashlib
import os
import sys
from pathlib import Path
from uuid import uuid4

from teleop_schema.errors import NoSpace

from teleop_runtime.store.errors import PathTaken

# Bytes read and hashed at a time; larger blocks are not faster.
BLOCK_BYTES = 1024 * 1024
# No more links to this file possible, another file system, or one without hard links.
CANNOT_LINK = (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP)
# Nobody may change an object, because its name is its hash.
OBJECT_MODE = 0o444

if sys.platform == "darwin":
    import fcntl

    def sync_data(fd: int) -> None:
        """Return once the file's bytes and length are on the medium, for which macOS's fsync is not
        enough."""
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
else:

    def sync_data(fd: int) -> None:
        """Return once the file's bytes and length are on the medium."""
        os.fdatasync(fd)


def check_another_file_fits(folder: Path) -> None:
    """Raise NoSpace if the file system has bytes left but can't have more files."""
    disk = os.statvfs(folder)
    # Some file systems do not count inodes: 0 of 0.
    if disk.f_files and not disk.f_favail:
        raise NoSpace(
            "no room for another file: the file system has run out of inodes (df -i)",
            hint="remove files nobody needs from the server's disk, or give it more inodes",
        )


def sync_directory(folder: Path) -> None:
    """Return once the names in `folder` are on the medium."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Create `folder` and missing parents; raises PathTaken if a file has one of these names."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        try:
            new.mkdir(exist_ok=True)
        # `exist_ok` accepts a folder that another request makes at the same moment, not a file.
        except (FileExistsError, NotADirectoryError):
            raise PathTaken(f"{new.name!r} is a file, so no folder of that name can be created") from None
        sync_directory(new.parent)


def write_all(fd: int, block: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of `block` at `offset`."""
    view = memoryview(block)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def place(source: Path, target: Path, scratch: Path) -> None:
    """Make `target` another name of the file `source`, atomically replacing what it was.

    A hard link, or a copy if the file system allows no link. `scratch` is a folder on `target`'s file system.
    """
    made = scratch / f"{uuid4().hex}.name"
    try:
        try:
            os.link(source, made)
        except OSError as error:
            if error.errno not in CANNOT_LINK:
                raise
            _copy(source, made)
        try:
            os.replace(made, target)
        except (IsADirectoryError, NotADirectoryError):
            raise PathTaken(f"{target.name!r} is a folder, so no file of that name can be stored") from None
    finally:
        # A rename onto another link to the same file does nothing, and leaves the first name.
        made.unlink(missing_ok=True)
    sync_directory(target.parent)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb", buffering=0) as reader:
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OBJECT_MODE)
        try:
            offset = 0
            while block := reader.read(BLOCK_BYTES):
                write_all(fd, block, offset)
                offset += len(block)
            sync_data(fd)
        finally:
            os.close(fd)


def read_if_there(path: Path) -> bytes | None:
    """What a file holds; None if there is no such file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def intact(target: Path, source: Path, sha256: str, size_bytes: int) -> bool:
    """Whether the object exists, durably, with the right bytes."""
    try:
        if target.stat().st_size != size_bytes:
            return False
        # A finish that was interrupted had made it the object already; its bytes were hashed a moment ago.
        if not target.samefile(source):
            with target.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    return False
    except FileNotFoundError:
        return False
    # The process that put it there may have been killed before its name was on the medium.
    sync_directory(target.parent)
    return True
