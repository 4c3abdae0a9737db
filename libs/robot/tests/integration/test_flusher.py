"""The flusher, with the flushes it does written down."""

import os
import time
from pathlib import Path
from uuid import uuid4

import pytest
from lerobot_robot_backend import flusher
from lerobot_robot_backend.flusher import Flusher
from lerobot_robot_backend.record import MAX_RECORD_BYTES
from lerobot_robot_backend.spool import SpoolWriter
from lerobot_robot_backend.stream import StreamFile
from teleop_schema.session import SessionDescription

SESSION = SessionDescription(robot_type="r", fps=60, state_names=("a",), action_names=("b",), started_at_us=0)


@pytest.fixture
def writer(tmp_path: Path):
    """A recording in segments of the smallest size."""
    file = StreamFile(stream=uuid4(), robot_id="robot_A", backend_url="ws://localhost", session=SESSION)
    writer = SpoolWriter(tmp_path, file, segment_bytes=2 * MAX_RECORD_BYTES)
    yield writer
    writer.close()


@pytest.fixture
def flushed(monkeypatch) -> list[str]:
    """Names of the files in the order of their flushes."""
    names: list[str] = []
    real = os.fdatasync

    def fdatasync(fd: int) -> None:
        names.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        real(fd)

    monkeypatch.setattr(flusher.os, "fdatasync", fdatasync)
    return names


def wait_for(count: int, flushed: list[str]) -> None:
    deadline = time.monotonic() + 20.0
    while len(flushed) < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_each_change_is_flushed_and_rest_is_not(writer, flushed):
    """What was logged reaches the disk by itself; while nothing is logged nothing is flushed."""
    running = Flusher(writer.stream_dir)
    running.start()
    writer.append_frame(0, (0.0, 0.0))
    wait_for(2, flushed)
    time.sleep(0.3)
    quiet = len(flushed)
    time.sleep(0.3)
    assert len(flushed) == quiet
    writer.append_frame(0, (0.0, 0.0))
    wait_for(quiet + 1, flushed)
    running.stop()


def test_segment_that_was_left_is_flushed_too(writer, flushed):
    """The last records of a full segment reach the disk although the next one is in use."""
    running = Flusher(writer.stream_dir)
    running.start()
    writer.append_frame(0, (0.0, 0.0))
    wait_for(2, flushed)
    while len(list(writer.stream_dir.glob("*.seg"))) < 2:
        writer.append_frame(0, (0.0, 0.0))
    running.stop()
    assert flushed[flushed.index("frames-000001.seg") - 1] == "frames-000000.seg"
