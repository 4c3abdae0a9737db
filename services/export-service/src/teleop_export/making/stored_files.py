"""Stored objects as files, for threads."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from teleop_runtime.store import Store


class StoredFiles:
    """A store as threads see it; what it fetches it fetches in `loop`, which must not wait for them.

    Files that lie here are opened without the loop: asking it held up the threads that copy video, a fifth of
    an export's time where pictures are small.
    """

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop

    @contextmanager
    def as_file(self, sha256: str) -> Iterator[Path]:
        """An object as a file to read while the block runs; raises ObjectMissing."""
        if (here := self._store.file_here(sha256)) is not None:
            yield here
            return
        opened = self._store.as_file(sha256)
        path = asyncio.run_coroutine_threadsafe(opened.__aenter__(), self._loop).result()
        try:
            yield path
        finally:
            asyncio.run_coroutine_threadsafe(opened.__aexit__(None, None, None), self._loop).result()
