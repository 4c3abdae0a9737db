"""What a connection knows of its frames' fate."""

import asyncio

import pytest
from teleop_schema.errors import Fenced
from teleop_telemetry.frames.block import block_of_batch
from teleop_telemetry.receiving.writer import MAX_WAITING_BYTES, Writer
from teleop_testing.robots.robot import batch


def hold(writer: Writer, first: int, count: int) -> None:
    writer.hold(block_of_batch(batch(first, count), 2, 2))


async def test_settled_once_all_is_committed():
    """Whoever waits is woken when the last frame is durable, not before."""
    writer = Writer(1, 1, 5)
    await writer.settled()
    hold(writer, 5, 3)
    waiting = asyncio.create_task(writer.settled())
    writer.succeed(7)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    writer.succeed(8)
    await waiting
    assert writer.committed == 8


async def test_watermark_never_goes_back():
    """An older success that is heard later changes nothing."""
    writer = Writer(1, 1, 0)
    writer.succeed(9)
    writer.succeed(4)
    assert writer.committed == 9


async def test_first_failure_counts():
    """What comes after the first failure is only its consequence."""
    writer = Writer(1, 1, 0)
    hold(writer, 0, 1)
    first = Fenced()
    writer.fail(first)
    writer.fail(ValueError())
    with pytest.raises(Fenced):
        await writer.settled()
    assert writer.failure is first


async def test_room_for_few_bytes():
    """A writer holds few bytes; the reader goes on when a commit has taken them."""
    writer = Writer(1, 1, 0)
    held = 0
    while writer.has_room.is_set():
        hold(writer, held, 4096)
        held += 4096
    waiting = writer.take()
    assert MAX_WAITING_BYTES <= sum(block.size_bytes for block in waiting) < 1.2 * MAX_WAITING_BYTES
    assert writer.has_room.is_set()
    assert writer.in_flight
