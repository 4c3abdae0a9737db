"""SIGTERM of one replica after the other while robots stream."""

import asyncio

import asyncpg
import pytest
from resending import ResendingRobot
from teleop_testing.backends.processes import ServiceProcess, own_postgres, telemetry_process
from teleop_testing.waiting import until
from test_paused_database import DEFECTS

ROBOTS = 20
STEP_FRAMES = 300
DRAIN_S = 25


@pytest.fixture
def postgres():
    """A PostgreSQL of this test's own."""
    with own_postgres() as server:
        yield server


async def test_nothing_is_lost_over_a_rolling_restart(postgres):
    """Robots are asked to go, hear how far they are durable, and lose nothing."""
    with telemetry_process(postgres.url()) as first, telemetry_process(postgres.url()) as second:
        robots = [
            ResendingRobot(f"robot_{number}", [first.address, second.address], pace_s=0.02)
            for number in range(ROBOTS)
        ]
        database = await asyncpg.connect(postgres.url())

        async def go_on() -> None:
            wanted = {robot: robot.acked + STEP_FRAMES for robot in robots}
            await until(lambda: all(robot.acked >= frames for robot, frames in wanted.items()))

        async with asyncio.TaskGroup() as tasks:
            for robot in robots:
                tasks.create_task(robot.run())
            await go_on()
            await stop(first)
            await go_on()
            await asyncio.to_thread(first.start)
            await stop(second)
            await go_on()
            await stop(first)
            assert await watermarks(database) == {robot.session_id: robot.acked for robot in robots}
            await asyncio.to_thread(first.start)
            for robot in robots:
                robot.end(robot.acked + STEP_FRAMES)
        assert all(robot.drains for robot in robots)
        unbroken = [robot for robot in robots if not robot.breaks]
        assert all(robot.drains == 3 for robot in unbroken)
        assert {code for robot in unbroken for code in robot.close_codes} <= {1012}
        assert await database.fetch(DEFECTS) == []
        await database.close()


async def stop(replica: ServiceProcess) -> None:
    """SIGTERM, and the end of the process while the drain lasts at most."""
    async with asyncio.timeout(DRAIN_S):
        await asyncio.to_thread(replica.stop)


async def watermarks(database: asyncpg.Connection) -> dict[int, int]:
    rows = await database.fetch("SELECT id, next_frame_index FROM teleop_session")
    return {row["id"]: row["next_frame_index"] for row in rows}
