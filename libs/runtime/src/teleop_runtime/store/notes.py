"""Notes beside a store's objects: whose they are, and how many are read at once."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import batched

from teleop_runtime.store.errors import StoreUnusable
from teleop_runtime.store.protocol import Store

# In a bucket, each read takes time of its own, so several run in parallel.
READ_TOGETHER = 32


async def read_notes(store: Store, names: Iterable[str]) -> AsyncIterator[tuple[str, bytes]]:
    """(name, content) of existing notes in the order of `names`, a few read at a time."""
    for together in batched(names, READ_TOGETHER):
        found = await asyncio.gather(*(store.note(name) for name in together))
        for name, content in zip(together, found, strict=True):
            if content is not None:
                yield name, content


class SeenOwner:
    """The name of the database whose files a store holds, as it was last read or written there."""

    def __init__(self) -> None:
        self._name: str | None = None

    def saw(self, name: str | None) -> str | None:
        """The same name; one that is None was never there, or has gone."""
        # What was seen once is expected from then on: a disk that is not mounted looks like an empty store.
        self._name = name or self._name
        return name

    def check(self, found: str | None) -> None:
        """Raise StoreUnusable if a name was there, and is not any more."""
        if self._name is not None and found != self._name:
            raise StoreUnusable(
                "the place of the stored files has become another one: nothing there says whose they are",
                hint="is the disk mounted, and has nobody moved or removed the folder?",
            )
