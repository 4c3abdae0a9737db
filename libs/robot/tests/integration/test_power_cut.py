"""What a power cut leaves of a stream, whenever it comes; see `teleop_testing.machine.power`."""

import uuid
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
from lerobot_robot_backend.client import TelemetryClient
from lerobot_robot_backend.shipping.reader import SpoolReader
from lerobot_robot_backend.spool.segment import find_segments
from lerobot_robot_backend.spool.stream import read_stream
from lerobot_robot_backend.spool.writer import SpoolWriter
from lerobot_robot_backend.video import encoder
from lerobot_robot_backend.video.codec import PictureEncoder
from lerobot_robot_backend.video.encoder import Finisher
from lerobot_robot_backend.video.files import finished_segments, make_camera_dir, mark_stored, part_path
from lerobot_robot_backend.video.finish import finish_part
from lerobot_robot_backend.video.part_file import PartWriter, SegmentHead, read_part
from teleop_schema.files import Receipt
from teleop_testing.datasets.files import sha256_of
from teleop_testing.machine.power import Disk, watched_disk
from teleop_testing.robots.spooled import (
    RECORD_BYTES,
    SMALL,
    batches,
    kill_writer,
    open_writer,
    states,
    write,
)
from teleop_testing.waiting import wait_for

PER_SEGMENT = SMALL // RECORD_BYTES
PICTURES = 6
RECEIPT = Receipt(
    kind="video", robot_id="robot_A", path="robot_A/a.mp4", size_bytes=1, sha256="0" * 64,
    stored_at=datetime(2026, 1, 1, tzinfo=UTC),
)  # fmt: skip


def write_large(writer: SpoolWriter, count: int) -> None:
    """Frames of which a segment holds three."""
    for _ in range(count):
        writer.append_frame(0, (float(writer.next_index), 0.0), msgspec.msgpack.encode({"x": "y" * 48_000}))


class Cuts:
    """Cuts the power after every call that changes the disk, and looks at what is left."""

    def __init__(self, disk: Disk, target: Path, look) -> None:
        self.count = 0
        self._disk, self._target, self._look = disk, target, look
        disk.after_each = self.cut

    def cut(self, call: str = "in the end") -> None:
        self.count += 1
        for world, left in self._disk.cut(self._target / str(self.count)):
            self._look(left, f"{call}, {world}")


def frames_left(stream_dir: Path) -> list[float]:
    """The frames of a stream after a cut; none if it is not there."""
    return states(batches(SpoolReader(stream_dir))) if (stream_dir / "session.json").exists() else []


def test_synced_frames_are_there_whenever_the_power_is_cut(tmp_path):
    """From a session's first moment on, over changes of its segment: all that a sync has returned for."""
    spool = tmp_path / "spool"
    spool.mkdir()
    synced = 0

    def look(left: Path, where: str) -> None:
        streams = [path.parent for path in left.glob("state/spool/*/*/session.json")]
        assert streams or not synced, where
        for stream_dir in streams:
            read_stream(stream_dir)
            found = frames_left(stream_dir)
            assert found == list(range(len(found))), where
            assert len(found) >= synced, where

    with watched_disk(spool) as disk:
        cuts = Cuts(disk, tmp_path / "cuts", look)
        writer = open_writer(spool / "state" / "spool", segment_bytes=SMALL)
        for quick in (False, True, False):
            write_large(writer, 2)
            writer.sync()
            synced = writer.next_index
            if not quick:
                writer.prepare_next()
            write_large(writer, 2)
            writer.sync()
            synced = writer.next_index
            cuts.cut()
        assert len(find_segments(writer.stream_dir)) == 4
        writer.close()
        synced = writer.next_index
        cuts.cut()
    assert cuts.count > 15


@pytest.mark.parametrize("suffix", [".prepared", ".reserved"])
def test_segment_whose_rename_was_lost_is_read(tmp_path, suffix):
    """Records of a segment that bears its prepared name again are there; an unused one has none."""
    writer = open_writer(tmp_path, segment_bytes=SMALL)
    write(writer, PER_SEGMENT + 10)
    writer.prepare_next()
    kill_writer(writer)
    last = writer.stream_dir / "frames-000001.seg"
    last.rename(last.with_suffix(suffix))
    reader = SpoolReader(writer.stream_dir)
    assert states(batches(reader)) == list(range(PER_SEGMENT + 10))
    assert reader.end.frames == PER_SEGMENT + 10
    assert list(find_segments(writer.stream_dir)) == [0, 1]


def test_first_frames_are_synced_without_a_shipper(tmp_path):
    """Samples reach the disk from the recording process, whether or not any other one runs."""
    spool = tmp_path / "spool"
    spool.mkdir()
    with watched_disk(spool) as disk, TelemetryClient(
        "ws://127.0.0.1:9", "robot_A", state_names=("a",), action_names=("b",), fps=60, spool_dir=spool,
        ship=False, min_free_bytes=0,
    ) as client:  # fmt: skip
        before = len(disk.calls)
        client.log({"a": 1.0}, {"b": 2.0})
        wait_for(lambda: "fdatasync frames-000000.seg" in disk.calls[before:])
        wait_for(lambda: client.progress.slowest_sync_ms > 0)


def record_part(folder: Path) -> Path:
    """A part of PICTURES pictures, not synced."""
    head = SegmentHead(
        robot_id="robot_A", session=uuid.UUID(int=1), camera_key="front", chunk_index=0, fps=30.0, height=48,
        width=64,
    )  # fmt: skip
    writer = PartWriter(part_path(folder, 0), head)
    encoder = PictureEncoder(48, 64, 30.0, "high")
    for number in range(PICTURES):
        packet = encoder.encode(np.full((48, 64, 3), 40 * number, np.uint8))
        writer.append_picture(number, number, 1000 * number, packet)
    writer.close()
    return writer.path


def test_pictures_are_there_as_part_or_as_segment(tmp_path):
    """While a part becomes a segment, and that one that the server has, the power may go at any moment."""
    folder = make_camera_dir(tmp_path / "stream", "front")
    part = record_part(folder)
    finished = stored = False

    def look(left: Path, where: str) -> None:
        parts = [path for path in left.glob("video/front/*.part") if read_part(path).numbers]
        segments = list(finished_segments(left))
        receipts = list(left.glob("video/front/*.stored.json"))
        assert parts or segments or receipts, where
        assert receipts or not stored, where
        assert segments or receipts or not finished, where
        for segment in segments:
            assert sha256_of(segment.path.read_bytes()) == segment.video.sha256, where
        assert all(len(read_part(path).numbers) == PICTURES for path in parts), where

    with watched_disk(tmp_path / "stream") as disk:
        cuts = Cuts(disk, tmp_path / "cuts", look)
        segment = finish_part(part)
        finished = True
        cuts.cut()
        mark_stored(segment, RECEIPT)
        stored = True
        cuts.cut()
    assert cuts.count > 6


def test_pictures_of_an_open_part_are_synced(tmp_path):
    """What is being recorded is on the disk a moment later, without waiting for the segment's end."""
    stream_dir = tmp_path / "stream"
    folder = make_camera_dir(stream_dir, "front")
    with watched_disk(stream_dir) as disk:
        finisher = Finisher(stream_dir)
        try:
            part = record_part(folder)
            before = len(disk.calls)
            wait_for(lambda: "fdatasync 000000.part" in disk.calls[before:] and "fsync front" in disk.calls)
            for world, left in disk.cut(tmp_path / "cut"):
                assert len(read_part(left / part.relative_to(stream_dir)).numbers) == PICTURES, world
        finally:
            finisher.close()


def test_finisher_goes_on_after_an_error(tmp_path, monkeypatch):
    """A moment without memory or descriptors must not end the thread that finishes all later segments."""
    real, failing = encoder.find_parts, [MemoryError(), OSError(24, "Too many open files")]

    def find(stream_dir):
        if failing:
            raise failing.pop()
        return real(stream_dir)

    monkeypatch.setattr(encoder, "find_parts", find)
    monkeypatch.setattr(encoder, "SYNC_S", 0.01)
    stream_dir = tmp_path / "stream"
    folder = make_camera_dir(stream_dir, "front")
    finisher = Finisher(stream_dir)
    try:
        wait_for(lambda: not failing)
        finisher.finish(record_part(folder))
        wait_for(lambda: finished_segments(stream_dir))
    finally:
        finisher.close()
