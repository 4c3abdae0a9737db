"""A spool into which somebody has put something else than files."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from lerobot_robot_backend.shipping.open_segment import OpenSegment
from lerobot_robot_backend.spool.durable import replace_file
from lerobot_robot_backend.spool.erased import ERASED_FILE, read_erased
from lerobot_robot_backend.spool.locks import FileLock, is_locked, name_holder
from lerobot_robot_backend.spool.segment import SegmentHeader, has_records, segment_path
from lerobot_robot_backend.spool.stream import (
    ACKED_FILE,
    ADDRESS_FILE,
    SESSION_FILE,
    SHIPPER_LOCK,
    VIDEO_TROUBLE,
    WRITER_LOCK,
    WRITER_STATE,
    SpoolError,
    StreamProgress,
    WriterState,
    find_streams,
    read_progress,
    read_stream,
    read_video_trouble,
    read_writer_state,
)
from lerobot_robot_backend.video.files import camera_dir, finished_segments, part_path
from lerobot_robot_backend.video.part_file import read_part, sync_part
from teleop_testing.waiting import PATIENCE_S

FILES = (SESSION_FILE, ADDRESS_FILE, ACKED_FILE, WRITER_STATE, ERASED_FILE, VIDEO_TROUBLE)
TERABYTE = 1 << 40


@pytest.fixture
def stream_dir(tmp_path) -> Path:
    """The folder of a stream."""
    folder = tmp_path / "robot_A" / str(uuid4())
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def impatient() -> Iterator[None]:
    """Whoever waits for somebody to write into a FIFO is interrupted."""

    def interrupt(_number: int, _frame: object) -> None:
        raise AssertionError("something waits for a FIFO")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(int(PATIENCE_S))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("impatient")
def test_nobody_waits_for_a_fifo(stream_dir):
    """Opened like a file, it would keep the agent, and all robots beside it, for ever."""
    camera = camera_dir(stream_dir, "front")
    camera.mkdir(parents=True)
    segment, part = segment_path(stream_dir, 0), part_path(camera, 0)
    names = (*FILES, WRITER_LOCK, SHIPPER_LOCK)
    for path in (*(stream_dir / name for name in names), segment, part, camera / "000001.json"):
        os.mkfifo(path)
    assert list(find_streams(stream_dir.parents[1])) == [stream_dir]
    with pytest.raises(SpoolError, match="not a regular file"):
        read_stream(stream_dir)
    assert read_progress(stream_dir) == StreamProgress()
    assert read_writer_state(stream_dir) == WriterState()
    assert read_erased(stream_dir) is None
    assert read_video_trouble(stream_dir) is None
    assert not is_locked(stream_dir / WRITER_LOCK)
    assert name_holder(stream_dir / SHIPPER_LOCK) == "another process"
    for look in (has_records, lambda _: read_part(part), lambda _: sync_part(part)):
        with pytest.raises(OSError, match="not a regular file"):
            look(stream_dir)
    with pytest.raises(SpoolError):
        OpenSegment(0, segment)
    assert list(finished_segments(stream_dir)) == []


def test_no_more_is_read_than_a_file_may_have(stream_dir):
    """Sparse files take no room on the disk, and as much memory as they say."""
    for name in FILES:
        _make_sparse(stream_dir / name)
    with pytest.raises(SpoolError, match="has more than"):
        read_stream(stream_dir)
    assert read_progress(stream_dir) == StreamProgress()
    assert read_writer_state(stream_dir) == WriterState()
    assert read_erased(stream_dir) is None
    assert read_video_trouble(stream_dir) is None
    path = segment_path(stream_dir, 0)
    path.write_bytes(SegmentHeader(uuid4(), 7, 1, 1).encode())
    _make_sparse(path)
    segment = OpenSegment(0, path)
    assert segment.look_through(0) == (7, False)
    segment.close()


def test_nothing_is_written_through_a_link(stream_dir, tmp_path):
    """Neither a lock nor a note goes into what somebody has linked to its name."""
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    for name in (SHIPPER_LOCK, f"{ACKED_FILE}.new"):
        (stream_dir / name).symlink_to(theirs)
    with pytest.raises(OSError, match="symbolic links"):
        FileLock(stream_dir / SHIPPER_LOCK).acquire()
    with pytest.raises(OSError, match="symbolic links"):
        replace_file(stream_dir / ACKED_FILE, b"ours", durable=False)
    replace_file(stream_dir / ACKED_FILE, b"ours", durable=False)
    assert theirs.read_text() == "theirs"


def _make_sparse(path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(TERABYTE)
