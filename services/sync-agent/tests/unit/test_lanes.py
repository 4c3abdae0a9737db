"""Who may send now."""

import asyncio

from teleop_sync_agent.sending.lanes import Lanes, Priority
from teleop_testing.waiting import PATIENCE_S


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_lower_priorities_wait():
    """While video is sent, datasets wait and samples do not."""
    lanes = Lanes()
    with lanes.sending(Priority.VIDEO):
        await lanes.turn(Priority.TELEMETRY)
        await lanes.turn(Priority.VIDEO)
        waiting = asyncio.create_task(lanes.pass_through(Priority.DATASET, 1))
        await settled()
        assert not waiting.done()
    await asyncio.wait_for(waiting, PATIENCE_S)


async def test_closed_lanes():
    """While closed nobody sends; once open, everybody goes on."""
    lanes = Lanes()
    lanes.set_open(False)
    waiting = [asyncio.create_task(lanes.pass_through(priority, 1)) for priority in Priority]
    await settled()
    assert not any(task.done() for task in waiting)
    lanes.set_open(True)
    await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE_S)
