"""Writes files and folders that exist after a power loss, whole or not at all."""

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

# Error numbers of a disk without room, or without room for this user.
FULL = (errno.ENOSPC, errno.EDQUOT)
# What is read of a note in the spool, at most. The longest says when each picture of a segment was taken, in
# some hundred kB.
NOTE_BYTES = 32 * 1024**2


def replace_file(path: Path, content: bytes, *, durable: bool) -> None:
    """Write `content` to `path` in one step; `durable`: it is on disk before this returns.

    Raises OSError, which names `path`; the old content stays then.
    """
    # In the same folder, because a rename is atomic only within one file system.
    temporary = path.with_name(path.name + ".new")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            while content:  # on a disk without enough space, a part of it gets written first
                content = content[os.write(fd, content) :]
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error
    if durable:
        # The rename itself is on disk only once its folder is.
        sync_directory(path.parent)


def make_directory(path: Path, *, mode: int = 0o777, exist_ok: bool = False) -> None:
    """Create `path` and missing parents durably; raises OSError, FileExistsError if it exists."""
    # Noted before they are made: only of new folders do the parents need a sync.
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(mode, parents=True, exist_ok=exist_ok)
    for folder in reversed(missing):
        sync_directory(folder.parent)


if sys.platform == "darwin":
    import fcntl

    def sync_data(fd: int) -> None:
        """Return once the file's bytes and length are on the medium, for which macOS's fsync is not
        enough."""
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)

    def reserve(fd: int, size_bytes: int) -> None:
        """Give the file its size; its space is only taken as it is written."""
        os.ftruncate(fd, size_bytes)
else:

    def sync_data(fd: int) -> None:
        """Return once the file's bytes and length are on the medium."""
        os.fdatasync(fd)

    def reserve(fd: int, size_bytes: int) -> None:
        """Give the file its size and its space on the disk; raises OSError if that is full."""
        os.posix_fallocate(fd, 0, size_bytes)


def sync_directory(path: Path) -> None:
    """Make names created in `path` survive a power loss."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
