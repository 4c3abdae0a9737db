"""Reads many notes of a store."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import batched

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
