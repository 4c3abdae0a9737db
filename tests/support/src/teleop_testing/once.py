"""What takes long to make, made once for all of a run's processes."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The folder that `make` filled in the first of the run's processes that asked; for reading only."""
    run = factory.getbasetemp()
    # Each of xdist's workers has a folder of its own in that of the run.
    folder = (run.parent if run.name.startswith("popen-") else run) / f"once-{name}"
    done = folder / ".done"
    folder.mkdir(exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            make(folder)
            done.touch()
    return folder


@contextmanager
def first_alone(folder: Path) -> Iterator[None]:
    """The block, in the first of several processes alone, and after its end in all others at once.

    folder  exists, and is the same for all of them
    """
    # The system takes the lock back from one that dies.
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)
