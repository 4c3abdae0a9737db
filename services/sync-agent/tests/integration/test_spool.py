"""What recording commands left in the spool is brought on, to a real backend."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from lerobot_robot_backend.client import TelemetryClient
from lerobot_robot_backend.stream import find_streams, read_progress
from lerobot_robot_virtual.arm import REST
from lerobot_robot_virtual.scene import render
from sync_agent.agent import Agent
from sync_agent.errors import Stuck
from sync_agent.settings import Settings
from teleop_schema.session import Camera
from teleop_testing.processes import ServiceProcess
from teleop_testing.waiting import PATIENCE_S, until

JOINTS = {"shoulder.pos": 1.0, "elbow.pos": 2.0}
FRAMES = 90


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """All services in one process, shared by these tests."""
    folders = {"LEROBOT_BACKEND_DATA_DIR": "data", "LEROBOT_BACKEND_BACKUP_DIR": "backup"}
    home = tmp_path_factory.mktemp("server")
    environment = {name: str(home / folder) for name, folder in folders.items()}
    with ServiceProcess("lerobot_backend", environment, "LEROBOT_BACKEND_PORT") as server:
        yield server


@pytest.fixture
def agent(server: ServiceProcess, tmp_path: Path, outputs: Path) -> Iterator[Agent]:
    settings = Settings(
        server=f"http://{server.address}",
        robot_id="robot_A",
        roots=(outputs,),
        spool_dir=tmp_path / "spool",
        state_dir=tmp_path / "state",
    )
    agent = Agent(settings)
    yield agent
    agent.close()


def record(spool: Path, *, robot_id: str = "robot_A", cameras: bool = False) -> TelemetryClient:
    """A session that was recorded for a server that is not there, and whose shippers never ran."""
    client = TelemetryClient(
        "ws://127.0.0.1:9", robot_id, state_names=tuple(JOINTS), action_names=tuple(JOINTS), fps=30,
        cameras={"front": Camera(96, 128, 30.0)} if cameras else {}, spool_dir=spool, ship=False,
        min_free_bytes=0,
    )  # fmt: skip
    for frame in range(FRAMES):
        pictures = {"front": render("front", REST, frame, height=96, width=128)} if cameras else {}
        client.log(JOINTS | pictures, JOINTS)
    client.close()
    return client


async def test_samples_and_video_of_the_spool(agent, server, tmp_path):
    """Both are on the server afterwards, tied to the same session, and the spool knows it."""
    client = record(tmp_path / "spool", cameras=True)
    await until(lambda: (client.stream_dir / "video").exists())
    # Beside an encoder that is still at work it says that not all is safe.
    await until(lambda: agent.once(60.0))
    (stream_dir,) = find_streams(tmp_path / "spool")
    progress = read_progress(stream_dir)
    assert (progress.next, progress.ended) == (FRAMES, True)
    videos = await asyncio.to_thread(videos_of, server, progress.session_id)
    (camera,) = videos["cameras"]
    assert (camera["camera_key"], camera["quarantined"]) == ("front", 0)
    assert videos["frames"] == FRAMES
    assert camera["pictures"] + sum(gap["end"] - gap["first"] for gap in camera["uncovered"]) >= FRAMES


def videos_of(server: ServiceProcess, session_id: int | None) -> dict:
    return httpx.get(f"http://{server.address}/sessions/{session_id}/videos", timeout=PATIENCE_S).json()


async def test_any_robots_streams(agent, tmp_path, running):
    """Whatever lies in the spool is shipped, also what comes while the agent runs."""
    record(tmp_path / "spool", robot_id="robot_B")
    async with running(agent):
        await until(lambda: all(read_progress(path).ended for path in find_streams(tmp_path / "spool")))
        record(tmp_path / "spool")
        await until(
            lambda: (
                len(streams := list(find_streams(tmp_path / "spool"))) == 2
                and all(read_progress(path).ended for path in streams)
            )
        )


async def test_a_stream_the_server_refuses(agent, tmp_path):
    """`once` does not wait for ever for a stream that the server will not have."""
    client = record(tmp_path / "spool")
    first = client.stream_dir / "session.json"
    assert await agent.once(60.0)
    # The same stream with another description: the server knows better.
    first.write_text(first.read_text().replace("shoulder.pos", "wrist.pos"))
    (client.stream_dir / "acked").unlink()
    with pytest.raises(Stuck, match="session_mismatch"):
        await agent.once(2.0)


async def test_a_paused_agent_ships_nothing(agent, tmp_path, running):
    """Pausing holds samples, too."""
    agent.state.paused = True
    async with running(agent):
        await asyncio.sleep(1.5)
        record(tmp_path / "spool")
        await asyncio.sleep(1.0)
        (stream_dir,) = find_streams(tmp_path / "spool")
        assert read_progress(stream_dir).next == 0
        agent.state.paused = False
        await until(lambda: read_progress(stream_dir).ended)
