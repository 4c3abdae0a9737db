"""A disk that gets full while a session is recorded, and has room again."""

import os
import threading
from uuid import uuid4

import numpy as np
import pytest
from lerobot_robot_backend import shipper
from lerobot_robot_backend.client import TelemetryClient
from lerobot_robot_backend.shipping import sender
from lerobot_robot_backend.shipping.reader import SpoolReader
from lerobot_robot_backend.spool.segment import find_segments
from lerobot_robot_backend.spool.stream import SpoolError
from lerobot_robot_backend.video import capture
from lerobot_robot_backend.video.codec import PictureEncoder
from lerobot_robot_backend.video.finish import finish_part
from lerobot_robot_backend.video.part_file import PartWriter, SegmentHead
from teleop_schema.session import Camera
from teleop_testing.robots.segments import decode, no_video
from teleop_testing.robots.spooled import batches, covered
from teleop_testing.waiting import PATIENCE_S, until

SAMPLE = {"shoulder.pos": 1.0, "elbow.pos": 2.0}
LARGE = {"note": "x" * 60_000}


def is_kept(client: TelemetryClient) -> bool:
    try:
        client.log(SAMPLE, SAMPLE, extra=LARGE)
    except SpoolError:
        return False
    return True


async def test_full_disk_is_told_where_people_look(make_client, monkeypatch, caplog):
    """The terminal and `progress` say what is lost and what to do; then it goes on, one gap behind."""
    full = threading.Event()
    real = os.posix_fallocate

    def fallocate(*arguments: int) -> None:
        if full.is_set():
            raise OSError(28, "No space left on device")
        real(*arguments)

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    with make_client() as client:
        full.set()
        while is_kept(client):
            pass
        lost = client.logged - 1
        await until(lambda: "frames are being lost; free some space" in (client.progress.trouble or ""))
        assert not any(is_kept(client) for _ in range(50))
        full.clear()
        await until(lambda: is_kept(client))
        await until(lambda: client.progress.trouble is None)
    told = [record.message for record in caplog.records if record.message.startswith("backend: ")]
    assert any("frames are being lost" in line and str(client.stream_dir) in line for line in told)
    assert "backend: frames are being kept again" in told
    reader = SpoolReader(client.stream_dir)
    found = batches(reader)
    assert covered(found) == list(range(client.logged))
    assert [(batch.first, batch.end) for batch in found if batch.gap] == [(lost, client.logged - 1)]
    assert reader.end.reason == "closed"


def test_session_can_be_told_of_on_a_disk_that_is_full(make_client, monkeypatch):
    """What the recording process has to say finds room, for it was taken when the session began."""
    with make_client() as client:
        monkeypatch.setattr(os, "posix_fallocate", _no_space)
        size = (client.stream_dir / "writer.state").stat().st_size
        while is_kept(client):
            pass
    assert "frames are being lost" in (client.stream_dir / "writer.state").read_text()
    assert (client.stream_dir / "writer.state").stat().st_size == size


def _no_space(*_: int) -> None:
    raise OSError(28, "No space left on device")


async def test_confirmed_samples_are_sealed_on_a_disk_that_is_full(make_client, monkeypatch):
    """Their day begins with the confirmation, even where it can't be noted: they are the room to come."""
    with make_client() as client:
        client.log(SAMPLE, SAMPLE)
    monkeypatch.setattr(sender, "write_progress", _no_space)
    assert await shipper.ship_stream(client.stream_dir)
    (segment,) = find_segments(client.stream_dir).values()
    assert segment.stat().st_mode & 0o222 == 0
    assert client.acknowledged == 0


@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 4096, b'{"trouble": 5}'])
def test_damaged_state_is_no_trouble(make_client, content):
    """What a power cut has left of it is passed over."""
    with make_client() as client:
        client.log(SAMPLE, SAMPLE)
    (client.stream_dir / "writer.state").write_bytes(content)
    assert client.progress.trouble is None


def show(client: TelemetryClient, number: int) -> None:
    """Log a frame with a picture of its own."""
    client.log(SAMPLE | {"front": np.full((48, 64, 3), number % 256, np.uint8)}, SAMPLE)


async def test_pictures_without_room_are_told_where_people_look(make_client, monkeypatch, caplog):
    """While the session runs; and the server learns that no video will come, so that nobody waits for it."""
    start = capture.start_child

    def start_on_a_full_disk(module, arguments, log_file, **options):
        return start(module, [*arguments, "--min_free_bytes", str(2**62)], log_file, **options)

    monkeypatch.setattr(capture, "start_child", start_on_a_full_disk)
    why = "too little space is free on the disk of the spool"
    told = f"pictures of camera front are being lost: {why}; free some space on the disk of "
    with make_client(cameras={"front": Camera(48, 64, 30.0)}) as client:
        show(client, 1)
        await until(lambda: told in (client.progress.trouble or ""))
    assert any(told in record.message for record in caplog.records)
    assert no_video(client.stream_dir) == {"front": why}
    assert client.pictures(PATIENCE_S)["front"].reason == why


def test_segment_that_finds_no_room_is_kept_until_it_does(tmp_path):
    """FFmpeg, too, says that the disk is full: that is no fault of the pictures."""
    part = tmp_path / "000000.part"
    encoder = PictureEncoder(48, 64, 30.0, "high")
    head = SegmentHead(
        robot_id="robot_A",
        session=uuid4(),
        camera_key="front",
        chunk_index=0,
        fps=30.0,
        height=48,
        width=64,
    )
    writer = PartWriter(part, head)
    writer.append_picture(0, 0, 1, encoder.encode(np.zeros((48, 64, 3), np.uint8)))
    writer.close()
    part.with_suffix(".new").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        finish_part(part)
    part.with_suffix(".new").unlink()
    segment = finish_part(part)
    assert len(decode(segment.path)) == 1
