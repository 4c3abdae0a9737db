"""What the person who records reads while the server takes nothing: the terminal and `progress`."""

import asyncio

import pytest
from lerobot_robot_backend import children, upkeep, waiting
from lerobot_robot_backend.spool.stream import (
    note_video_trouble,
    read_video_trouble,
    read_whole_progress,
)
from lerobot_robot_backend.video.files import finished_segments
from lerobot_robot_backend.video_shipper import ship_video
from lerobot_robot_virtual.arm import REST
from lerobot_robot_virtual.scene import render
from teleop_client.uploading import Uploader
from teleop_schema.messages import ErrorMessage, encode_control
from teleop_schema.session import Camera
from teleop_testing.backends.file_backend import file_backend
from teleop_testing.waiting import PATIENCE_S, until

SAMPLE = {"shoulder.pos": 1.0, "elbow.pos": 2.0}
FULL = ErrorMessage("no_space", "the database's disk is full", fatal=False, hint="free some space")


@pytest.fixture
def told(caplog, monkeypatch):
    """The lines of the terminal about the server; no shipper is left in the end."""
    monkeypatch.setattr(upkeep, "_SERVER_S", 0.05)
    monkeypatch.setattr(upkeep, "_PERIOD_S", 0.02)
    monkeypatch.setattr(children, "_children", [])
    yield lambda: [each.message for each in caplog.records if " the server " in each.message]
    for child in children._children:
        child.kill()
        child.wait()


async def test_a_full_server_is_told_on_the_terminal(make_client, backend, told, monkeypatch):
    """Its own words, how much is only on this PC and where; once when it is over."""
    full = asyncio.Event()

    async def script(connection, number, count, message):
        if full.is_set() and isinstance(message, bytes):
            await connection.send(encode_control(FULL))
            return True
        return False

    backend.script = script
    with make_client(ship=True) as client:
        client.log(SAMPLE, SAMPLE)
        await until(lambda: client.acknowledged == 1)
        monkeypatch.setattr(waiting, "TELL_AFTER_S", 1.0)
        full.set()
        for _ in range(30):
            client.log(SAMPLE, SAMPLE)
        await until(lambda: "no_space" in (client.progress.trouble or ""))
        await until(told)
        assert "no_space: the database's disk is full; free some space" in client.progress.trouble
        full.clear()
        client.log(SAMPLE, SAMPLE)
        await until(lambda: client.acknowledged == 32)
        await until(lambda: len(told()) == 2)
    first, last = told()
    assert first.startswith("backend: nothing has reached the server for ")
    assert (
        ": no_space: the database's disk is full; free some space; only on this PC so far: 30 frames" in first
    )
    assert str(client.stream_dir) in first
    assert last.startswith("backend: the server takes frames again; ")


async def test_a_server_that_says_nothing_is_told(make_client, backend, told, monkeypatch):
    """Neither an answer nor an error: that is the reason."""
    monkeypatch.setattr(waiting, "TELL_AFTER_S", 0.1)

    async def script(connection, number, count, message):
        return isinstance(message, bytes)

    backend.script = script
    with make_client(ship=True) as client:
        client.log(SAMPLE, SAMPLE)
        await until(told)
    assert "the server confirms nothing; only on this PC so far: 1 frame, in " in told()[0]


async def test_a_full_store_is_told_of_video(make_client, told, monkeypatch):
    """Also in `progress`, for `sync-agent status`; it is over when a segment has arrived."""
    monkeypatch.setattr(waiting, "TELL_AFTER_S", 0.1)
    client = make_client(cameras={"front": Camera(96, 128, 30.0)})
    for k in range(4):
        client.log(SAMPLE | {"front": render("front", REST, k, height=96, width=128)}, SAMPLE)
    client.close()
    assert client._video.wait_encoded(PATIENCE_S)
    stream_dir = client.stream_dir
    watch = upkeep._ServerWatch(client._writer, lambda: None)
    async with file_backend() as files, Uploader(files.url) as uploader:
        files.refusals += [("POST", "/files/plan", 507, "no_space")] * 3
        shipping = asyncio.create_task(ship_video(stream_dir, uploader))
        await until(lambda: "no_space" in (read_whole_progress(stream_dir).trouble or "") or shipping.done())

        def look():
            watch.look()
            return [line for line in told() if "video segment" in line]

        await until(lambda: look() or shipping.done())
        await shipping
        await until(lambda: len(look()) == 2)
    assert "only on this PC so far: 1 video segment, in " in look()[0]
    assert look()[1] == "backend: the server takes video segments again; nothing is left to send"
    assert read_video_trouble(stream_dir) is None
    assert not list(finished_segments(stream_dir))


async def test_trouble_of_a_shipper_that_was_killed_is_forgotten(make_client):
    """By the next one, which begins with nothing to complain of."""
    client = make_client()
    client.close()
    note_video_trouble(client.stream_dir, "no_space: the server's disk is full")
    async with file_backend() as files, Uploader(files.url) as uploader:
        await ship_video(client.stream_dir, uploader)
    assert read_whole_progress(client.stream_dir).trouble is None
