"""Locks on files, which the system releases when their process ends, however it ends."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from teleop_schema.disk.opening import read_small

# Polled, because `flock` can't wait with a time limit. A process that only asks holds the lock for
# microseconds.
_LOCK_POLL_S = 0.001
_PID_BYTES = 32


class FileLock:
    """An exclusive lock on a file, released when the process that holds it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self) -> bool:
        """Whether the lock is held now; False if another holder has it."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._fd = fd
        with suppress(OSError):  # on a full disk, the file does not say who holds the lock
            os.ftruncate(fd, 0)
            os.pwrite(fd, str(os.getpid()).encode(), 0)
        return True

    def acquire_soon(self, timeout_s: float) -> int:
        """The open file that holds the lock now, for a child to inherit; raises OSError
        if the lock is not free.

        The child keeps the lock, whatever happens to this process.
        """
        deadline_s = time.monotonic() + timeout_s
        while not self.acquire():
            if time.monotonic() > deadline_s:
                raise OSError(errno.EAGAIN, f"{self._path} is locked by another process")
            time.sleep(_LOCK_POLL_S)
        assert self._fd is not None  # noqa: S101
        return self._fd

    def release(self) -> None:
        """Release the lock; in a forked child this closes the child's copy, and the parent keeps the lock."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class LockWatch:
    """Asks again and again whether a lock is held, even after its file was removed or moved."""

    def __init__(self, path: Path) -> None:
        """Raises OSError; without a file, nobody holds the lock."""
        self._fd = -1
        with suppress(FileNotFoundError):
            # Where it is something else than a file, nobody waits for it.
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)

    @property
    def locked(self) -> bool:
        """Whether a living process holds the lock."""
        if self._fd < 0:
            return False
        try:
            # Shared, so that several may ask at the same time without one taking another for the holder.
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        return False

    def close(self) -> None:
        """Close the file; calling it again changes nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock on `path`."""
    watch = LockWatch(path)
    try:
        return watch.locked
    finally:
        watch.close()


def name_holder(path: Path) -> str:
    """Text for people: the process that holds the lock on `path` if known, and how to end it."""
    try:
        pid = int(read_small(path, _PID_BYTES))
        return f"process {pid} (kill {pid} ends it)"
    except (OSError, ValueError):
        return "another process"


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock on `path` if it is free; yields whether it is held."""
    lock = FileLock(path)
    held = lock.acquire()
    try:
        yield held
    finally:
        lock.release()
