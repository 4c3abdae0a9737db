"""What is removed from the spool, and what never is."""

import errno
import os
import shutil
import time
from pathlib import Path
from uuid import uuid4

import pytest
from lerobot_robot_backend.shipper import ship_stream
from lerobot_robot_backend.shipping.recall import Recalled, bring_again
from lerobot_robot_backend.shipping.retention import KEEP_S, prune_spool, prune_stream, seal_acknowledged
from lerobot_robot_backend.spool.age import NOTE, running_s
from lerobot_robot_backend.spool.record import MAX_RECORD_BYTES
from lerobot_robot_backend.spool.segment import HEADER_BYTES, SegmentHeader, find_segments
from lerobot_robot_backend.spool.stream import (
    StreamFile,
    StreamProgress,
    read_progress,
    read_stream,
    send_to,
    write_progress,
)
from lerobot_robot_backend.spool.writer import SpoolWriter
from teleop_schema.holding import HeldFrames, Lacking
from teleop_schema.session import SessionDescription
from teleop_testing.robots.spooled import log_frames, pass_time

SMALL = 2 * MAX_RECORD_BYTES
FRAMES = 3 * SMALL // 40
SESSION = SessionDescription(robot_type="r", fps=60, state_names=("a",), action_names=("b",), started_at_us=0)


@pytest.fixture
def stream_dir(tmp_path: Path) -> Path:
    """A closed recording of four segments."""
    file = StreamFile(stream=uuid4(), robot_id="robot_A", backend_url="ws://localhost", session=SESSION)
    writer = SpoolWriter(tmp_path, file, segment_bytes=SMALL)
    for index in range(FRAMES):
        writer.append_frame(index, (0.0, 0.0))
    writer.close()
    return writer.stream_dir


def numbers(stream_dir: Path) -> list[int]:
    return list(find_segments(stream_dir))


def test_unsent_is_never_removed(stream_dir, tmp_path):
    """However old it is: what the server has not confirmed stays."""
    pass_time(tmp_path, 1000 * KEEP_S)
    prune_spool(tmp_path)
    assert numbers(stream_dir) == [0, 1, 2, 3]


def test_acknowledged_stays_a_day_from_its_acknowledgement(stream_dir, tmp_path):
    """The day counts from the confirmation, not from the recording."""
    pass_time(tmp_path, 1000 * KEEP_S)
    write_progress(stream_dir, StreamProgress(next=FRAMES, session_id=1, ended=True))
    prune_stream(stream_dir)
    assert numbers(stream_dir) == [0, 1, 2, 3]
    pass_time(tmp_path, KEEP_S - 60)
    prune_stream(stream_dir)
    assert numbers(stream_dir) == [0, 1, 2, 3]


def test_only_whole_segments_below_the_watermark_are_removed(stream_dir, tmp_path):
    """A segment with one unconfirmed frame stays, and all behind it."""
    write_progress(stream_dir, StreamProgress(next=FRAMES // 2, session_id=1))
    assert seal_acknowledged(stream_dir, FRAMES // 2, ended=False) == 1
    pass_time(tmp_path, KEEP_S + 60)
    prune_stream(stream_dir)
    assert numbers(stream_dir) == [1, 2, 3]


def test_ended_stream_is_removed_as_a_whole(stream_dir, tmp_path):
    """After its day nothing is left of a stream, unless something else lies in its directory."""
    write_progress(stream_dir, StreamProgress(next=FRAMES, session_id=1, ended=True))
    prune_stream(stream_dir)
    pass_time(tmp_path, KEEP_S + 60)
    send_to(stream_dir, "ws://somewhere-else:8000")
    prune_spool(tmp_path)
    assert not stream_dir.exists()


def test_old_segments_are_removed_from_a_full_disk(stream_dir, tmp_path, monkeypatch):
    """What makes room needs none: the note of the time that has passed waits until there is some."""
    write_progress(stream_dir, StreamProgress(next=FRAMES, session_id=1))
    prune_stream(stream_dir)
    pass_time(tmp_path, KEEP_S + 60)

    def write_nothing(path: Path, _: bytes) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "write_bytes", write_nothing)
        prune_stream(stream_dir)
        assert numbers(stream_dir) == [3]
        assert [path.name for path in tmp_path.glob(f"{NOTE}*")] == [NOTE]
        counted_s = running_s(tmp_path)
    assert counted_s <= running_s(tmp_path) < counted_s + KEEP_S


async def test_what_a_client_says_of_a_removed_session(make_client, backend):
    """It was complete, and stays so; a program may run on for days after its sessions."""
    with make_client() as client:
        log_frames(client, 3)
    assert await ship_stream(client.stream_dir)
    complete = client.summary()
    assert complete.endswith(": complete")
    pass_time(client.spool_dir, KEEP_S + 60)
    prune_spool(client.spool_dir)
    assert not client.stream_dir.exists()
    assert client.summary() == complete
    assert (client.acknowledged, client.progress.ended, client.progress.trouble) == (3, True, None)
    assert client.drain(0.0) == 3


async def test_what_a_client_says_of_a_removed_session_that_it_never_looked_at(make_client, backend):
    """That the spool does so after a day; and nothing of a loss that nobody has seen."""
    with make_client() as client:
        log_frames(client, 3)
    assert await ship_stream(client.stream_dir)
    pass_time(client.spool_dir, KEEP_S + 60)
    prune_spool(client.spool_dir)
    assert "may be lost" not in client.summary()
    assert "the server has all of it unless somebody else removed it" in client.summary()
    with pytest.raises(TimeoutError, match="removes what the server has had for 24 hours"):
        client.drain(0.0)


async def test_what_a_client_says_once_the_server_has_forgotten(make_client, backend):
    """It is no longer complete, and is not called so if it is removed then."""
    with make_client() as client:
        log_frames(client, 3)
    assert await ship_stream(client.stream_dir)
    assert client.summary().endswith(": complete")
    stream = read_stream(client.stream_dir).stream
    lacking = Lacking(installation=uuid4(), frames=(HeldFrames(stream, 1, ended=True),))
    assert bring_again([client.stream_dir], lacking) == Recalled(streams=1)
    assert "3 frames logged, 1 acknowledged" in client.summary()
    shutil.rmtree(client.stream_dir)
    assert "may be lost" in client.summary()


def test_foreign_files_stay(stream_dir, tmp_path):
    """What the spool did not put there, it does not take away."""
    (stream_dir / "notes").mkdir()
    write_progress(stream_dir, StreamProgress(next=FRAMES, session_id=1, ended=True))
    prune_stream(stream_dir)
    pass_time(tmp_path, KEEP_S + 60)
    prune_stream(stream_dir)
    assert [path.name for path in stream_dir.iterdir()] == ["notes"]


@pytest.mark.parametrize("days", [-3, 3, 20_000])
def test_a_clock_that_is_set_ages_nothing(stream_dir, monkeypatch, days):
    """Whatever the wall clock of the robot does, a confirmed segment stays for its day."""
    write_progress(stream_dir, StreamProgress(next=FRAMES, session_id=1, ended=True))
    prune_stream(stream_dir)
    true_time = time.time
    monkeypatch.setattr("time.time", lambda: true_time() + days * 24 * 3600)
    prune_stream(stream_dir)
    assert numbers(stream_dir) == [0, 1, 2, 3]


def test_segments_sealed_by_the_wall_clock_stay_another_day(stream_dir, tmp_path):
    """What an earlier release has sealed, or what was copied here, has an age from now on."""
    write_progress(stream_dir, StreamProgress(next=FRAMES, session_id=1, ended=True))
    prune_stream(stream_dir)
    for path in find_segments(stream_dir).values():
        os.utime(path)
    pass_time(tmp_path, KEEP_S + 60)
    prune_stream(stream_dir)
    assert numbers(stream_dir) == [0, 1, 2, 3]
    pass_time(tmp_path, KEEP_S + 60)
    prune_spool(tmp_path)
    assert not stream_dir.exists()


def test_another_start_of_the_computer(tmp_path, monkeypatch):
    """How long it was off nobody knows: the count goes on where it was, and not backwards."""
    before_s = running_s(tmp_path)
    pass_time(tmp_path, 100.0)
    monkeypatch.setattr("lerobot_robot_backend.spool.age._boot", lambda: "another")
    after_s = running_s(tmp_path)
    assert 100.0 <= after_s - before_s < 100.0 + KEEP_S
    assert running_s(tmp_path) >= after_s
    (tmp_path / NOTE).write_bytes(b"torn")
    assert running_s(tmp_path) < 100.0


def test_what_the_server_has_forgotten_stays(stream_dir):
    """From where the server stands now all is kept until it is confirmed again, however old it is."""
    write_progress(stream_dir, StreamProgress(next=FRAMES, session_id=1, ended=True))
    prune_stream(stream_dir)
    pass_time(stream_dir.parent.parent, 1000 * KEEP_S)
    stream = read_stream(stream_dir).stream
    first = SegmentHeader.decode(find_segments(stream_dir)[1].read_bytes()[:HEADER_BYTES]).first_index
    lacking = Lacking(installation=uuid4(), frames=(HeldFrames(stream, first, ended=True),))
    assert bring_again([stream_dir], lacking) == Recalled(streams=1)
    assert read_progress(stream_dir) == StreamProgress(next=first, once=FRAMES)
    prune_stream(stream_dir)
    assert numbers(stream_dir) == [1, 2, 3]
