"""Containers killed, scaled, replaced and started anew while robots stream through the proxy."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO

import pytest
from resending import ResendingRobot
from stack import DEFECTS, Stack, in_thread
from teleop_testing.waiting import until

ROBOTS = 50
STEP_FRAMES = 120
KILLS = 6
SEED = 20_261_123


@asynccontextmanager
async def streaming(stack: Stack, prefix: str) -> AsyncIterator[list[ResendingRobot]]:
    """Robots at 60 Hz, ten frames a message; in the end every frame that each of them sent is there."""
    robots = [
        ResendingRobot(f"{prefix}_{number}", [stack.address], batch_frames=10, pace_s=10 / 60)
        for number in range(ROBOTS)
    ]
    async with asyncio.TaskGroup() as tasks:
        for robot in robots:
            tasks.create_task(robot.run())
        await go_on(robots)
        yield robots
        await go_on(robots)
        for robot in robots:
            robot.end(robot.acked + STEP_FRAMES)
    streams = ",".join(str(robot.stream) for robot in robots)
    assert await in_thread(stack.query, DEFECTS.format(streams=streams)) == "0"


async def go_on(robots: list[ResendingRobot]) -> None:
    """Return once each robot has been acknowledged some frames more."""
    wanted = {robot: robot.acked + STEP_FRAMES for robot in robots}
    await until(lambda: all(robot.acked >= frames for robot, frames in wanted.items()))


@pytest.fixture(scope="module")
def scaled(stack):
    """Three replicas of telemetry-service and two workers."""
    stack.up("--scale", "telemetry-service=3", "--scale", "export-worker=2")
    yield stack
    stack.up("--scale", "telemetry-service=1", "--scale", "export-worker=1")


async def test_replicas_share_the_robots_and_may_die(scaled):
    """kill -9 of one replica after the other: robots go to those that are left, the killed one comes back."""
    dice = random.Random(SEED)
    async with streaming(scaled, "killed") as robots:
        replicas = await in_thread(scaled.containers, "telemetry-service")
        shares = [await in_thread(committed_frames, replica) for replica in replicas]
        assert len(shares) == 3
        assert all(shares), shares
        for _ in range(KILLS):
            victim = dice.choice(replicas)
            await in_thread(victim.kill)
            await go_on(robots)
            await in_thread(victim.start)
            await asyncio.sleep(dice.uniform(0, 1))


async def test_an_upgrade_under_load_loses_nothing(scaled):
    """New images, migrations, then other containers in place of the old ones; robots are asked to go on."""
    before = {container.id for container in scaled.containers("telemetry-service")}
    image = "lerobot-backend/telemetry-service"
    async with streaming(scaled, "upgraded") as robots:
        old = scaled.engine.images.get(image)
        recipe = BytesIO(f"FROM {image}\nLABEL upgraded=yes".encode())
        await in_thread(lambda: scaled.engine.images.build(fileobj=recipe, tag=image))
        try:
            words = ["--scale", "telemetry-service=3", "--scale", "export-worker=2"]
            await in_thread(scaled.up, *words)
        finally:
            old.tag(image)
    after = await in_thread(scaled.containers, "telemetry-service")
    assert len(after) == 3
    assert before.isdisjoint(container.id for container in after)
    assert all(container.labels["upgraded"] == "yes" for container in after)
    assert all(robot.drains for robot in robots)


async def test_the_database_may_be_killed(scaled):
    """kill -9 of PostgreSQL's container: nobody is told that something is safe until it is back."""
    async with streaming(scaled, "database") as robots:
        database = await in_thread(scaled.container, "postgres")
        await in_thread(database.kill)
        await asyncio.sleep(2)
        await in_thread(database.start)
        await go_on(robots)


async def test_the_proxy_may_be_killed(scaled):
    """kill -9 of the one door: robots knock until it is open again."""
    async with streaming(scaled, "proxy"):
        proxy = await in_thread(scaled.container, "proxy")
        await in_thread(proxy.kill)
        await asyncio.sleep(1)
        await in_thread(proxy.start)


def committed_frames(replica) -> float:
    """How many frames a replica has committed since it was started."""
    code = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8001/metrics').read().decode())"
    lines = replica.exec_run(["python", "-c", code]).output.decode().splitlines()
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith("telemetry_frames_committed_total")
    )
