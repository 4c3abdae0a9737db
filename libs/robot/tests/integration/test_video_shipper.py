"""Video segments on their way from the spool to a backend, over real sockets."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio
from lerobot_robot_backend import video_shipper
from lerobot_robot_backend.shipping.recall import recall, video_of
from lerobot_robot_backend.shipping.retention import KEEP_S
from lerobot_robot_backend.spool.age import running_s
from lerobot_robot_backend.spool.stream import SHIPPER_LOG, SpoolError, send_to
from lerobot_robot_backend.video.files import (
    VIDEO_SHIPPER_LOCK,
    camera_dir,
    find_parts,
    finished_segments,
    has_unstored_video,
    holds_video,
    next_chunk_index,
    prune_video,
    stored_segments,
)
from lerobot_robot_backend.video_shipper import VideoShipped, ship_all_video, ship_video
from lerobot_robot_virtual.arm import REST
from lerobot_robot_virtual.scene import render
from teleop_client.uploading import Uploader
from teleop_schema.files import Receipt
from teleop_schema.session import Camera
from teleop_testing.backends.file_backend import FileBackend, file_backend
from teleop_testing.backends.refusing import refuse
from teleop_testing.robots.spooled import pass_time, redirect
from teleop_testing.waiting import PATIENCE_S, until

CAMERAS = {"front": Camera(96, 128, 30.0), "wrist": Camera(96, 128, 30.0)}
JOINTS = {"shoulder.pos": 1.0, "elbow.pos": 2.0}


@pytest_asyncio.fixture
async def files() -> AsyncIterator[FileBackend]:
    """A backend that takes files."""
    async with file_backend() as backend:
        yield backend


@pytest_asyncio.fixture
async def uploader(files: FileBackend) -> AsyncIterator[Uploader]:
    async with Uploader(files.url) as uploader:
        yield uploader


@pytest.fixture
def record(make_client):
    """Makes a session of two segments per camera: cameras that change their size begin a new one."""

    def record(**options):
        client = make_client(cameras=CAMERAS, **options)
        for k in range(8):
            image = render("front", REST, k, height=96 if k < 4 else 100, width=128)
            client.log(JOINTS | {"front": image, "wrist": image}, JOINTS)
        client.close()
        assert client._video.wait_encoded(PATIENCE_S)
        return client

    return record


def contents(files: FileBackend) -> dict[tuple[str, int], bytes]:
    """Camera and number -> bytes of the segment on the server."""
    return {
        (plan.file.camera_key, plan.file.chunk_index): files.objects[plan.file.sha256]
        for plan in files.files.values()
    }


async def test_segments_arrive_in_order(record, files, uploader):
    """Each segment's bytes, indexes and times are on the server; then it is marked, and not sent again."""
    client = record()
    segments = list(finished_segments(client.stream_dir))
    assert len(segments) == 4
    assert await ship_video(client.stream_dir, uploader, follow=True) == VideoShipped(stored=4)
    assert contents(files) == {
        (s.video.camera_key, s.video.chunk_index): s.path.read_bytes() for s in segments
    }
    assert [plan.file for plan in files.files.values()] == [segment.video for segment in segments]
    assert not has_unstored_video(client.stream_dir)
    sent = uploader.sent_bytes
    assert await ship_video(client.stream_dir, uploader) == VideoShipped()
    assert uploader.sent_bytes == sent == sum(segment.video.size_bytes for segment in segments)
    (receipt,) = camera_dir(client.stream_dir, "front").glob("000001.stored.json")
    assert msgspec.json.decode(receipt.read_bytes(), type=Receipt).sha256 == segments[-2].video.sha256
    assert [counts.stored for counts in client.pictures().values()] == [2, 2]


async def test_unknown_session_is_waited_for(record, files, uploader):
    """The samples come later than the video: it is tried again until the server knows the session."""
    client = record()
    files.refusals += [("POST", "/files/plan", 404, "unknown_session")] * 2
    assert await ship_video(client.stream_dir, uploader) == VideoShipped(stored=4)


async def test_full_disk_is_waited_for(record, uploader, monkeypatch, caplog):
    """What the server has can't be noted: that is told once, nothing is sent again, and it is noted later."""
    client = record()
    real, refusals = video_shipper.mark_stored, [4]

    def mark(segment, receipt):
        if refusals[0]:
            refusals[0] -= 1
            raise OSError(28, "No space left on device")
        real(segment, receipt)

    monkeypatch.setattr(video_shipper, "mark_stored", mark)
    monkeypatch.setattr(video_shipper, "POLL_S", 0.01)
    sizes = [segment.video.size_bytes for segment in finished_segments(client.stream_dir)]
    assert await ship_video(client.stream_dir, uploader, follow=True) == VideoShipped(stored=4)
    assert uploader.sent_bytes == sum(sizes)
    assert len([record for record in caplog.records if "can't be noted" in record.message]) == 4
    assert not has_unstored_video(client.stream_dir)


async def test_cut_line_is_survived(record, files, uploader):
    """A connection that breaks off in the middle of a segment costs nothing but time."""
    client = record()
    files.cut_after += [100, 200]
    assert await ship_video(client.stream_dir, uploader) == VideoShipped(stored=4)
    assert set(contents(files)) == {(camera, number) for camera in CAMERAS for number in (0, 1)}


async def test_refused_segment_stays_and_the_others_go(record, files, uploader, caplog):
    """What the server will never take is told and kept; it is offered again the next time."""
    client = record()
    files.refusals.append(("POST", "/files/plan", 409, "conflict"))
    assert await ship_video(client.stream_dir, uploader) == VideoShipped(stored=3, refused=1)
    assert "it is kept" in caplog.text
    assert len(list(finished_segments(client.stream_dir))) == 1
    assert await ship_video(client.stream_dir, uploader) == VideoShipped(stored=1)


async def test_removed_segment_is_waited_for_no_longer(record, uploader, files):
    """Somebody removed the stream while the server was away: its shipper ends."""
    client = record()
    files.refusals += [("POST", "/files/plan", 503, "storage_unavailable")] * 4
    shipping = asyncio.create_task(ship_video(client.stream_dir, uploader, follow=True))
    async with asyncio.timeout(PATIENCE_S):
        while not files.requests:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        shutil.rmtree(client.stream_dir)
        assert await shipping == VideoShipped(refused=1)


async def test_two_shippers_never_send_the_same(record, files, uploader):
    """The one that comes second does nothing."""
    from lerobot_robot_backend.spool.locks import locked

    client = record()
    with locked(client.stream_dir / VIDEO_SHIPPER_LOCK):
        assert await ship_video(client.stream_dir, uploader) is None
    assert not files.files


async def test_no_stream_is_an_error(uploader, tmp_path):
    """A directory without a session is named."""
    with pytest.raises(SpoolError, match=r"session\.json"):
        await ship_video(tmp_path, uploader)


async def test_segments_go_out_while_it_is_recorded(make_client, files):
    """The process that the recording starts uploads each segment as soon as it is finished."""
    from lerobot_robot_backend.client import TelemetryClient

    spool = make_client(cameras={}).spool_dir
    with TelemetryClient(
        files.url.replace("http", "ws"), "robot_A", state_names=["a"], action_names=["a"], fps=60,
        cameras={"front": CAMERAS["front"]}, spool_dir=spool, min_free_bytes=0,
    ) as client:  # fmt: skip
        for k in range(8):
            image = render("front", REST, k, height=96 if k < 4 else 100, width=128)
            client.log({"a": 0.0, "front": image}, {"a": 0.0})
        async with asyncio.timeout(PATIENCE_S):
            while len(files.files) < 1:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    async with asyncio.timeout(PATIENCE_S):
        while has_unstored_video(client.stream_dir):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert set(contents(files)) == {("front", 0), ("front", 1)}
    assert "stored robot_A" in (client.stream_dir / SHIPPER_LOG).read_text()
    os.kill(client.shipper_pid, 9)


async def test_what_was_left_is_shipped(record, files):
    """`--all` ships what every finished recording left in the spool, and exits."""
    clients = [record(), record()]
    command = ["-m", "lerobot_robot_backend.video_shipper", "--all", "--backend_url", files.url]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, str(clients[0].spool_dir), stderr=subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE_S):
        _, told = await process.communicate()
    assert process.returncode == 0, told
    assert told.count(b"stored robot_A") == len(files.files) == 8
    assert await ship_all_video(clients[0].spool_dir, backend_url=files.url) == 0
    assert not any(has_unstored_video(client.stream_dir) for client in clients)


async def test_the_command_tells_of_what_it_could_not_bring(record, files, caplog):
    """A stream that can't be read is named, the others are brought; so is a spool that is not there."""
    odd, whole = record(), record()
    (odd.stream_dir / "session.json").write_text("{")
    command = ["--all", "--backend_url", files.url, str(odd.spool_dir)]
    assert await asyncio.to_thread(video_shipper.main, command) == 1
    assert f"{odd.stream_dir}/session.json can't be read" in caplog.text
    assert not has_unstored_video(whole.stream_dir)
    shutil.rmtree(odd.stream_dir)
    assert await asyncio.to_thread(video_shipper.main, command) == 0
    assert await asyncio.to_thread(video_shipper.main, ["--all", f"{odd.spool_dir}-mistyped"]) == 1


async def test_a_silent_server_holds_up_no_other(record, files, monkeypatch):
    """What waits for it keeps no video from those that are there, by this command or by another."""
    monkeypatch.setattr(video_shipper, "CONCURRENT_UPLOADS", 1)
    asked: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    async with await asyncio.start_server(lambda _, writer: asked.put(writer), "127.0.0.1", 0) as silent:
        url = f"ws://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        waiting, left = await asyncio.to_thread(record), await asyncio.to_thread(record)
        redirect(waiting.stream_dir, url)
        redirect(left.stream_dir, files.url)
        command = ["--all", str(left.spool_dir)]
        first = asyncio.create_task(asyncio.to_thread(video_shipper.main, command))
        connection = await asked.get()
        await until(lambda: not has_unstored_video(left.stream_dir))
        later = await asyncio.to_thread(record)
        redirect(later.stream_dir, files.url)
        assert await asyncio.to_thread(video_shipper.main, command) == 0
        assert not has_unstored_video(later.stream_dir)
        assert not first.done()
        # What is removed is waited for no longer.
        for segment in list(finished_segments(waiting.stream_dir)):
            segment.path.unlink()
        connection.close()
        silent.close()
        assert await first == 1


@pytest.mark.parametrize("asked", [has_unstored_video, stored_segments, find_parts, holds_video])
def test_a_folder_that_may_not_be_read_is_not_taken_for_empty(record, monkeypatch, asked):
    """Nothing is called stored that nobody can see."""
    client = record()
    refuse(monkeypatch, client.stream_dir / "video")
    with pytest.raises(PermissionError, match="video"):
        asked(client.stream_dir)


async def test_stored_segments_stay_for_a_day(record, files, uploader):
    """Then they go, and the last receipt stays, so that numbers go on behind it."""
    client = record()
    await ship_video(client.stream_dir, uploader)
    folder = camera_dir(client.stream_dir, "front")
    prune_video(client.stream_dir, KEEP_S, running_s(client.spool_dir))
    assert len(list(folder.glob("*.mp4"))) == 2
    pass_time(client.spool_dir, KEEP_S)
    prune_video(client.stream_dir, KEEP_S, running_s(client.spool_dir))
    assert [path.name for path in folder.iterdir()] == ["000001.stored.json"]
    assert next_chunk_index(folder) == 2
    # Whoever still has the session open is told the same as before.
    assert str(client.pictures()["front"]).endswith("2 of 2 segments on the server")


async def test_forgotten_segments_are_sent_again(record, files, uploader):
    """A server that lost its database gets each segment that is still here, as it was; once."""
    client = record()
    assert await ship_video(client.stream_dir, uploader) == VideoShipped(stored=4)
    before, plans = contents(files), list(files.files.values())
    assert await ship_all_video(client.spool_dir, backend_url=files.url) == 0
    assert files.received_bytes == sum(plan.file.size_bytes for plan in plans)
    files.forget()
    assert await ship_all_video(client.spool_dir, backend_url=files.url) == 0
    assert contents(files) == before
    assert sorted(map(repr, files.files.values())) == sorted(map(repr, plans))


async def test_what_is_sent_again_is_not_removed_meanwhile(record, files, uploader):
    """However long ago it was confirmed the first time, and however long the server stays away."""
    client = record()
    assert await ship_video(client.stream_dir, uploader) == VideoShipped(stored=4)
    files.forget()
    await recall([client.stream_dir], video_of, backend_url=files.url)
    pass_time(client.spool_dir, 1000 * KEEP_S)
    prune_video(client.stream_dir, KEEP_S, running_s(client.spool_dir))
    assert len(list(finished_segments(client.stream_dir))) == 4
    assert await ship_video(client.stream_dir, uploader) == VideoShipped(stored=4)


async def test_corrected_address_is_followed(record, files, unused_tcp_port, caplog):
    """Video that a shipper waits with for a wrong address goes to the right one, by that shipper itself."""
    client = record()
    send_to(client.stream_dir, f"ws://127.0.0.1:{unused_tcp_port}")
    waiting = asyncio.create_task(ship_all_video(client.spool_dir))
    async with asyncio.timeout(PATIENCE_S):
        while "waits: " not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert await ship_all_video(client.spool_dir, backend_url=files.url) == 0
        assert await waiting == 0
    assert len(contents(files)) == 4
    assert f"kill {os.getpid()}" in caplog.text
