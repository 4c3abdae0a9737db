"""Containers killed, scaled and replaced while robots stream, files come in and datasets are made."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO

import httpx
import numpy as np
import pytest
from resending import ResendingRobot
from stack import DEFECTS, Stack, in_thread
from teleop_client.persevering import persevere
from teleop_client.uploading import Interrupted, Uploader
from teleop_schema.files import FilePlan
from teleop_testing.datasets.files import dataset_file
from teleop_testing.waiting import PATIENCE_S, until
from uploads import Bytes

ROBOTS = 50
STEP_FRAMES = 120
SEED = 20_261_123
SCALE = [
    *("--scale", "telemetry-service=3"),
    *("--scale", "video-ingest-service=2"),
    *("--scale", "export-worker=2"),
]
LARGE_BYTES = 96 * 1024 * 1024
# Two hours of recording: each worker has some seconds to do with it.
LONG_FRAMES, LONG_BATCH = 500_000, 4000


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
    """Three replicas of telemetry-service, two of the service that takes files, and two workers."""
    stack.up(*SCALE)
    yield stack
    stack.up()


async def test_replicas_share_the_robots_and_may_die(scaled):
    """kill -9 of one replica after the other: robots go to those that are left, the killed one comes back."""
    dice = random.Random(SEED)
    async with streaming(scaled, "killed") as robots:
        replicas = await in_thread(scaled.containers, "telemetry-service")
        shares = [await in_thread(committed_frames, scaled, replica) for replica in replicas]
        assert len(shares) == 3
        assert all(shares), shares
        for victim in dice.sample(replicas, len(replicas)):
            await in_thread(victim.kill)
            await go_on(robots)
            await in_thread(victim.start)
            await asyncio.sleep(dice.uniform(0, 1))


def test_make_up_keeps_the_replicas(scaled):
    """As one types it after an update: as many as before."""
    scaled.script("up.sh")
    for service, replicas in (("telemetry-service", 3), ("video-ingest-service", 2), ("export-worker", 2)):
        assert len(scaled.containers(service)) == replicas, service


@pytest.mark.long("fifty robots stream while images are built")
async def test_an_upgrade_under_load_loses_nothing(scaled):
    """New images, migrations, then other containers in place of the old ones; robots are asked to go on."""
    before = {container.id for container in scaled.containers("telemetry-service")}
    image = "lerobot-backend/telemetry-service"
    async with streaming(scaled, "upgraded") as robots:
        old = scaled.engine.images.get(image)
        recipe = BytesIO(f"FROM {image}\nLABEL upgraded=yes".encode())
        await in_thread(lambda: scaled.engine.images.build(fileobj=recipe, tag=image))
        try:
            await in_thread(scaled.up, *SCALE)
        finally:
            old.tag(image)
    after = await in_thread(scaled.containers, "telemetry-service")
    assert len(after) == 3
    assert before.isdisjoint(container.id for container in after)
    assert all(container.labels["upgraded"] == "yes" for container in after)
    assert all(robot.drains for robot in robots)


@pytest.mark.long("fifty robots wait for the database")
async def test_the_database_may_be_killed(scaled):
    """kill -9 of PostgreSQL's container: nobody is told that something is safe until it is back."""
    async with streaming(scaled, "database") as robots:
        database = await in_thread(scaled.container, "postgres")
        await in_thread(database.kill)
        await asyncio.sleep(2)
        await in_thread(database.start)
        await go_on(robots)


@pytest.mark.long("fifty robots wait for the proxy")
async def test_the_proxy_may_be_killed(scaled):
    """kill -9 of the one door: robots knock until it is open again."""
    async with streaming(scaled, "proxy"):
        proxy = await in_thread(scaled.container, "proxy")
        await in_thread(proxy.kill)
        await asyncio.sleep(1)
        await in_thread(proxy.start)


async def test_an_upload_goes_on_when_its_replica_is_killed(scaled):
    """kill -9 of both replicas, one after the other: what came before is kept, and the rest follows."""
    content = np.random.default_rng(SEED).bytes(LARGE_BYTES)
    replicas = scaled.containers("video-ingest-service")
    assert len(replicas) == 2
    deaths = [(LARGE_BYTES // 3, replicas[0]), (LARGE_BYTES * 2 // 3, replicas[1])]

    class Deadly(Bytes):
        def read_at(self, offset: int, size: int) -> bytes:
            if deaths and offset > deaths[0][0]:
                _, victim = deaths.pop(0)
                victim.kill()
                victim.start()
            return super().read_at(offset, size)

    file = dataset_file(content, "data/chunk-000/file-000.parquet", dataset="someone/interrupted")
    interruptions: list[Interrupted] = []
    async with Uploader(scaled.url) as uploader:
        receipt = await persevere(
            lambda: uploader.upload(FilePlan(file=file), Deadly(content)), report=interruptions.append
        )
    assert not deaths
    assert interruptions
    assert receipt.sha256 == file.sha256
    assert uploader.sent_bytes < 1.5 * LARGE_BYTES
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        address = f"{scaled.url}/datasets/robot_A/someone/interrupted/files/{file.path}"
        assert hashlib.sha256((await client.get(address)).content).hexdigest() == file.sha256


@pytest.mark.long("half a million frames, exported twice")
async def test_what_a_killed_worker_began_another_one_finishes(scaled):
    """Both are at work when one is killed, and nothing but whole exports is left."""
    robot = ResendingRobot("long", [scaled.address], batch_frames=LONG_BATCH)
    robot.end(LONG_FRAMES)
    await robot.run()
    async with httpx.AsyncClient(base_url=scaled.url, timeout=PATIENCE_S) as client:

        async def exports() -> list[dict[str, object]]:
            return [(await client.get(f"/exports/{number}")).json() for number in numbers]

        async def all_are_being_made() -> bool:
            return all(export["status"] == "running" for export in await exports())

        async def all_have_ended() -> bool:
            return all(export["status"] not in ("queued", "running") for export in await exports())

        bodies = [
            {"session_ids": [robot.session_id], "repo_id": f"someone/{name}"} for name in ("one", "two")
        ]
        numbers = [(await client.post("/exports", json=body)).json()["id"] for body in bodies]
        await until(all_are_being_made)
        victim, survivor = await in_thread(scaled.containers, "export-worker")
        await in_thread(victim.kill)
        await until(all_have_ended)
        made = await exports()
    assert [export["status"] for export in made] == ["done", "done"]
    assert [export["numbers"]["frames"] for export in made] == [LONG_FRAMES, LONG_FRAMES]
    assert b"requeued the jobs of a dead worker" in await in_thread(survivor.logs)
    left = await in_thread(survivor.exec_run, ["ls", "-A", "/files/.exports/.building"])
    assert left.output == b""


def committed_frames(stack, replica) -> float:
    """How many frames a replica has committed since it was started."""
    lines = httpx.get(f"{stack.url_of(replica, 8001)}/metrics", timeout=PATIENCE_S).text.splitlines()
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith("telemetry_frames_committed_total")
    )
