"""What recording commands left in the spool is brought on, to a real backend."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from lerobot_robot_backend.client import TelemetryClient
from lerobot_robot_backend.shipper import ship_stream, take_over
from lerobot_robot_backend.spool.locks import locked
from lerobot_robot_backend.spool.stream import (
    SHIPPER_LOCK,
    StreamProgress,
    find_streams,
    read_progress,
    read_stream,
    write_progress,
)
from lerobot_robot_backend.video.files import ENCODER_LOCK, VIDEO_SHIPPER_LOCK, has_unstored_video
from lerobot_robot_backend.video_shipper import is_recorded
from lerobot_robot_virtual.arm import REST
from lerobot_robot_virtual.scene import render
from teleop_schema.session import Camera
from teleop_sync_agent import agent as composition
from teleop_sync_agent.agent import Agent
from teleop_sync_agent.errors import Stuck
from teleop_sync_agent.settings import Settings
from teleop_sync_agent.status import headline, read_status
from teleop_testing.backends.processes import ServiceProcess
from teleop_testing.waiting import PATIENCE_S, until

JOINTS = {"shoulder.pos": 1.0, "elbow.pos": 2.0}
FRAMES = 90


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """All services in one process, shared by these tests."""
    folders = {"LEROBOT_BACKEND_DATA_DIR": "data", "LEROBOT_BACKEND_BACKUP_DIR": "backup"}
    home = tmp_path_factory.mktemp("server")
    environment = {name: str(home / folder) for name, folder in folders.items()}
    with ServiceProcess("teleop_backend", environment, "LEROBOT_BACKEND_PORT") as server:
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


# Nothing listens there.
ELSEWHERE = "ws://127.0.0.1:9"


def session(
    spool: Path, *, robot_id: str = "robot_A", cameras: bool = False, url: str = ELSEWHERE
) -> TelemetryClient:
    """A session whose shippers never run."""
    return TelemetryClient(
        url, robot_id, state_names=tuple(JOINTS), action_names=tuple(JOINTS), fps=30,
        cameras={"front": Camera(96, 128, 30.0)} if cameras else {}, spool_dir=spool, ship=False,
        min_free_bytes=0,
    )  # fmt: skip


def record(
    spool: Path, *, robot_id: str = "robot_A", cameras: bool = False, url: str = ELSEWHERE
) -> TelemetryClient:
    """One that is over."""
    client = session(spool, robot_id=robot_id, cameras=cameras, url=url)
    for frame in range(FRAMES):
        pictures = {"front": render("front", REST, frame, height=96, width=128)} if cameras else {}
        client.log(JOINTS | pictures, JOINTS)
    client.close()
    return client


async def test_samples_and_video_of_the_spool(agent, server, tmp_path):
    """Both are on the server afterwards, tied to the same session, and the spool knows it."""
    client = record(tmp_path / "spool", cameras=True)
    await until(lambda: (client.stream_dir / "video").exists())
    assert await agent.once(PATIENCE_S) == []
    (stream_dir,) = find_streams(tmp_path / "spool")
    progress = read_progress(stream_dir)
    assert (progress.next, progress.ended) == (FRAMES, True)
    videos = await asyncio.to_thread(videos_of, server, progress.session_id)
    (camera,) = videos["cameras"]
    assert (camera["camera_key"], camera["quarantined"]) == ("front", 0)
    assert videos["frames"] == FRAMES
    assert camera["pictures"] + sum(gap["end"] - gap["first"] for gap in camera["uncovered"]) >= FRAMES


async def encoded(stream_dir: Path) -> None:
    """Return once the encoder has ended, and left something to ship."""
    await until(lambda: has_unstored_video(stream_dir) and not is_recorded(stream_dir))


def videos_of(server: ServiceProcess, session_id: int | None) -> dict:
    return httpx.get(f"http://{server.address}/sessions/{session_id}/videos", timeout=PATIENCE_S).json()


async def test_streams_of_another_robot_for_the_same_server(agent, tmp_path, running):
    """They are shipped, also what comes while the agent runs; however the address is written."""
    spool, here = tmp_path / "spool", f"{agent.settings.server.upper().replace('HTTP', 'http')}/"
    record(spool, robot_id="robot_B", url=here)
    async with running(agent):
        await until(lambda: all(read_progress(path).ended for path in find_streams(spool)))
        record(spool)
        await until(
            lambda: (
                len(streams := list(find_streams(spool))) == 2
                and all(read_progress(path).ended for path in streams)
            )
        )


async def test_streams_of_another_robot_for_another_server(agent, tmp_path):
    """They are left alone and named with what sends them, so that no data lands on a server by mistake;
    a person may send them here. The agent's own stream of that address is sent."""
    other = record(tmp_path / "spool", robot_id="robot_B", cameras=True)
    await encoded(other.stream_dir)
    own, here = record(tmp_path / "spool"), agent.settings.server.replace("http", "ws")
    assert await agent.once(PATIENCE_S) == [
        f"not sent: {kind} of robot_B, {other.stream_dir}: recorded for {ELSEWHERE}, and left alone: "
        f"python -m lerobot_robot_backend.{module} {other.stream_dir} sends it there; "
        f"with --backend_url {here} it sends it to this agent's server"
        for kind, module in (("samples", "shipper"), ("video", "video_shipper"))
    ]
    assert read_progress(own.stream_dir).ended
    assert read_progress(other.stream_dir) == StreamProgress()
    assert read_stream(other.stream_dir).backend_url == ELSEWHERE
    told = headline(read_status("robot_A", agent.state))
    assert f"not sent: samples of robot_B, {other.stream_dir}: recorded for {ELSEWHERE}" in told
    assert "left to send" not in told
    assert await take_over(other.stream_dir, here)
    assert await agent.once(PATIENCE_S) == []
    assert not has_unstored_video(other.stream_dir)


async def test_what_another_server_has_is_not_asked_for(agent, tmp_path):
    """A server that never had another robot's streams has not forgotten them, and nobody loses his note
    of what is safe elsewhere."""
    other = record(tmp_path / "spool", robot_id="robot_B")
    write_progress(other.stream_dir, confirmed := StreamProgress(next=FRAMES, session_id=1, ended=True))
    assert await agent.once(PATIENCE_S) == []
    assert read_progress(other.stream_dir) == confirmed


async def test_another_robot_that_records_for_another_server(agent, tmp_path):
    """Its own processes send it: neither the agent's `once` nor its `status` has to do with it."""
    client = session(tmp_path / "spool", robot_id="robot_B")
    client.log(JOINTS, JOINTS)
    assert await agent.once(PATIENCE_S) == []
    client.close()


async def test_a_stream_the_server_refuses(agent, tmp_path):
    """`once` does not wait for ever for a stream that the server will not have."""
    client = record(tmp_path / "spool")
    first = client.stream_dir / "session.json"
    assert await agent.once(PATIENCE_S) == []
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


async def test_a_shipper_with_a_wrong_address_is_told_the_agents(agent, tmp_path):
    """What it would offer to a wrong address for ever, it brings to the agent's server itself."""
    client = record(tmp_path / "spool")
    shipping = asyncio.create_task(ship_stream(client.stream_dir))
    await until(lambda: client.progress.trouble)
    assert await agent.once(PATIENCE_S) == []
    assert await shipping
    assert read_stream(client.stream_dir).backend_url == agent.settings.server.replace("http", "ws")


async def test_a_recording_that_goes_on_is_named(agent, tmp_path):
    """More of it may come, so it is not safe yet; the datasets do not wait for it."""
    client = session(tmp_path / "spool")
    client.log(JOINTS, JOINTS)
    assert await agent.once(PATIENCE_S) == [
        f"recording of robot_A, {client.stream_dir}: not on the server yet: "
        "it is still being recorded, or its pictures are being encoded"
    ]
    client.close()
    assert await agent.once(PATIENCE_S) == []


async def test_an_encoder_at_work_is_waited_for(agent, tmp_path):
    """It will end, and what it leaves is brought with the rest."""
    client = record(tmp_path / "spool")
    with locked(client.stream_dir / ENCODER_LOCK):
        bringing = asyncio.create_task(agent.once(PATIENCE_S))
        await until(lambda: client.stream_dir in agent.spool._recorded)
    assert await bringing == []


async def test_a_recording_that_ends_between_two_looks_is_brought(agent, tmp_path, monkeypatch):
    """It was not there to ship when this began, and is not being recorded when this ends."""
    client, start = record(tmp_path / "spool"), agent.spool._start
    with ExitStack() as encoder:
        encoder.enter_context(locked(client.stream_dir / ENCODER_LOCK))

        async def start_before_it_ends():
            seen = await start()
            encoder.close()
            return seen

        monkeypatch.setattr(agent.spool, "_start", start_before_it_ends)
        assert await agent.once(PATIENCE_S) == []


@pytest.mark.parametrize("kind", ["samples", "video"])
async def test_what_another_process_holds_is_named(agent, tmp_path, monkeypatch, kind):
    """A shipper that does not follow is named with what ends it, and the datasets do not wait for it."""
    monkeypatch.setattr(composition, "OTHERS_SHARE", 0.0)
    client = record(tmp_path / "spool", cameras=kind == "video")
    if kind == "video":
        await encoded(client.stream_dir)
    trouble = "ws://localhosd:8000: Name or service not known" if kind == "samples" else None
    with locked(client.stream_dir / (SHIPPER_LOCK if kind == "samples" else VIDEO_SHIPPER_LOCK)):
        write_progress(client.stream_dir, StreamProgress(trouble=trouble))
        (line,) = await agent.once(PATIENCE_S)
    assert line == (
        f"{kind} of robot_A, {client.stream_dir}: not on the server yet: process {os.getpid()} "
        f"(kill {os.getpid()} ends it) is working on it" + (f": {trouble}" if trouble else "")
    )
    assert await agent.once(PATIENCE_S) == []


async def test_a_damaged_stream_is_named(agent, tmp_path):
    """What can't be read is not on the server, and said to be in the way."""
    client = record(tmp_path / "spool")
    (client.stream_dir / "session.json").write_text("{")
    (line,) = await agent.once(PATIENCE_S)
    assert line.startswith(f"not sent: {client.stream_dir}: ")
    assert "session.json can't be read" in line


async def test_damaged_video_is_named(agent, tmp_path):
    """What is told of a segment can't be read: it is not stored, and keeps `once` from ending with 0."""
    client = record(tmp_path / "spool", cameras=True)
    await encoded(client.stream_dir)
    for sidecar in client.stream_dir.glob("video/*/*.json"):
        sidecar.write_text("{")
    assert await agent.once(PATIENCE_S) == [
        f"video of robot_A, {client.stream_dir}: not on the server yet: "
        "some of it is refused, or can't be read: the log says why"
    ]
