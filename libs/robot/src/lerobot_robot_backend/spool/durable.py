"""Files and folders that are there after a power loss, whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path


def replace_file(path: Path, content: bytes, *, durable: bool) -> None:
    """Put `content` at `path` in one step; `durable`: on the disk before this returns.

    Raises OSError, which names `path`; what was there stays then.
    """
    temporary = path.with_name(path.name + ".new")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            while content:  # where there is not enough room, some of it is written first
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
        sync_directory(path.parent)


def make_directory(path: Path, *, mode: int = 0o777, exist_ok: bool = False) -> None:
    """Make `path`, and what is missing above it, durably; raises OSError, FileExistsError if it is there."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(mode, parents=True, exist_ok=exist_ok)
    for folder in reversed(missing):
        sync_directory(folder.parent)


def sync_directory(path: Path) -> None:
    """Make names created in `path` survive a power loss."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
