"""Items of a stream, several at a time."""

import pytest
from teleop_runtime.batches import in_batches


@pytest.mark.parametrize(("items", "sizes"), [(0, []), (2, [2]), (3, [3]), (7, [3, 3, 1])])
async def test_batches(items, sizes):
    """Each item once, in order; no batch is empty, and only the last one is short."""

    async def stream():
        for item in range(items):
            yield item

    batches = [batch async for batch in in_batches(stream(), 3)]
    assert [len(batch) for batch in batches] == sizes
    assert [item for batch in batches for item in batch] == list(range(items))
