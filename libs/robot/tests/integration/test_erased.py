"""Sessions that an admin erases on the server while the robot still has them."""

import pytest
from lerobot_robot_backend import upkeep, video_shipper
from lerobot_robot_backend.shipper import ship_all, ship_stream
from lerobot_robot_backend.shipping import sender
from lerobot_robot_backend.shipping.recall import held_frames, held_videos
from lerobot_robot_backend.shipping.retention import KEEP_S, prune_spool
from lerobot_robot_backend.spool.erased import describe_erased, note_erased, read_erased
from lerobot_robot_backend.spool.stream import read_progress
from lerobot_robot_backend.video.files import WaitingSegment
from lerobot_robot_backend.video_shipper import ship_video
from teleop_client import backoff
from teleop_client.backend_http import Refused
from teleop_client.credentials import Tokens
from teleop_client.refusals import Problem
from teleop_schema.messages import ErrorMessage, encode_control
from teleop_testing.datasets.files import video_file
from teleop_testing.robots.spooled import pass_time, record
from websockets.asyncio.server import serve

SEGMENT = video_file(b"x", 17)
SAID = "session 17 was erased for good by anna on 2026-01-05 10:00 UTC, and is not taken again"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Tests do not wait as long as robots do."""
    monkeypatch.setattr(backoff, "FIRST_BACKOFF_S", 0.01)
    monkeypatch.setattr(sender, "LINGER_S", 0.01)


def size_of(folder) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.glob("*.seg")}


async def test_the_robot_keeps_its_copy_and_asks_no_more(make_client, tmp_path):
    """The shipper ends; another one does not connect; a day later the copy is still there."""
    asked = []

    async def erased(connection) -> None:
        asked.append(await connection.recv())
        told = ErrorMessage(code="session_erased", detail=SAID, fatal=True, retryable=False)
        await connection.send(encode_control(told))
        await connection.close(4410)

    client = record(make_client, 100)
    async with serve(erased, "127.0.0.1", 0, subprotocols=["lerobot.telemetry.v1.3"]) as server:
        port = server.sockets[0].getsockname()[1]
        address = f"ws://127.0.0.1:{port}"
        assert await ship_stream(client.stream_dir, backend_url=address)
        assert await ship_stream(client.stream_dir, backend_url=address)
        assert await ship_all(client.spool_dir, backend_url=address) == 0
    assert len(asked) == 1
    assert read_erased(client.stream_dir) == SAID
    assert read_progress(client.stream_dir).trouble == SAID
    kept = size_of(client.stream_dir)
    assert kept
    pass_time(client.spool_dir, 2 * KEEP_S)
    prune_spool(client.spool_dir)
    assert size_of(client.stream_dir) == kept
    assert f"rm -r {client.stream_dir}" in describe_erased(client.stream_dir, SAID)


async def test_what_was_confirmed_before_is_not_asked_about(make_client, backend):
    """The server does not know it any more, and this robot has not forgotten why."""
    client = record(make_client, 10)
    await ship_stream(client.stream_dir)
    assert list(held_frames([client.stream_dir]))
    note_erased(client.stream_dir, SAID)
    assert list(held_frames([client.stream_dir])) == []
    assert list(held_videos([client.stream_dir])) == []


async def test_its_shippers_are_not_started_again(make_client, backend, monkeypatch):
    """A recording that goes on would otherwise start one every few seconds, which ends at once."""
    client = record(make_client, 10)
    monkeypatch.setattr(upkeep, "_RESTART_S", 0.0)
    started = []
    monkeypatch.setattr(upkeep._Shipper, "start", lambda shipper: started.append(shipper))
    shipper = upkeep._Shipper(upkeep.SAMPLES, client.stream_dir, Tokens())
    shipper.keep_alive()
    assert started == [shipper]
    note_erased(client.stream_dir, SAID)
    shipper.keep_alive()
    assert started == [shipper]


async def test_the_video_shipper_hears_it_too(make_client, tmp_path, monkeypatch):
    """It notes what it hears, sends no other segment, and does not ask again."""
    segments = [WaitingSegment(tmp_path / f"{n}.mp4", SEGMENT) for n in range(2)]
    for segment in segments:
        segment.path.write_bytes(b"x")
    monkeypatch.setattr(video_shipper, "finished_segments", lambda _: segments)
    client = record(make_client, 10)
    asked = []

    class Erased:
        async def upload(self, plan, source):
            asked.append(plan)
            problem = Problem(type="urn:lerobot-backend:session_erased", code="session_erased", detail=SAID)
            raise Refused(SAID, problem)

    for _ in range(2):
        await ship_video(client.stream_dir, Erased())
    assert len(asked) == 1
    assert read_erased(client.stream_dir) == SAID


async def test_the_terminal_says_so(make_client, backend):
    """While the recording goes on, on this disk alone: what was erased, and where the copy is."""
    with make_client() as client:
        keeping = upkeep.Upkeep(client._writer, client.spool_dir, Tokens(), ship=False)
        try:
            assert keeping.trouble is None
            note_erased(client.stream_dir, SAID)
            assert keeping.trouble == describe_erased(client.stream_dir, SAID)
        finally:
            keeping.stop()
