"""Items of a stream, several at a time."""

from collections.abc import AsyncIterator


async def in_batches[Item](items: AsyncIterator[Item], size: int) -> AsyncIterator[list[Item]]:
    """Lists of `size` items in their order; the last one may be shorter, and none is empty."""
    batch: list[Item] = []
    async for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
