"""Writer and reader on real files."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from lerobot_robot_backend.shipping.reader import LOST_AT_MOST_S, SpoolReader
from lerobot_robot_backend.spool.locks import FileLock, is_locked
from lerobot_robot_backend.spool.record import encode_beyond
from lerobot_robot_backend.spool.segment import find_segments, prepare_segment
from lerobot_robot_backend.spool.stream import SpoolError, StreamFile, check_spool, find_streams
from teleop_schema.limits import Limits
from teleop_schema.messages import Event
from teleop_testing.robots.spooled import (
    RECORD_BYTES,
    SESSION,
    SMALL,
    batches,
    covered,
    open_writer,
    states,
    write,
    writing,
)


def test_frames_are_read_while_they_are_written(spool):
    """The reader sees each frame as soon as log() has returned, and knows that more may come."""
    with writing(spool) as writer:
        reader = SpoolReader(writer.stream_dir)
        assert reader.read(Limits()) is None
        for _ in range(3):
            write(writer, 2)
            assert len(states(batches(reader))) == 2
        assert reader.end is None
    assert batches(reader) == []
    assert (reader.end.frames, reader.end.reason) == (6, "closed")


def test_batches_keep_the_limits(spool):
    """Neither more frames nor more bytes than the server takes go into one batch."""
    from teleop_schema.messages import encode_batch

    with writing(spool) as writer:
        for _ in range(50):
            writer.append_frame(0, (0.0, 0.0), encode_beyond(msgspec.msgpack.encode({"x": "y" * 512})))
    for limits in (Limits(max_frames=7), Limits(max_message_bytes=16 * 1024)):
        found = batches(SpoolReader(writer.stream_dir), limits)
        assert covered(found) == list(range(50))
        assert max(batch.count for batch in found) <= limits.max_frames
        assert max(len(encode_batch(batch)) for batch in found) <= limits.max_message_bytes
        assert found[0].extra[0] == {"x": "y" * 512}


def test_stream_goes_on_over_segments(spool):
    """A full segment is followed by the next; every frame is there, from any frame on."""
    frames = 3 * SMALL // RECORD_BYTES
    with writing(spool, segment_bytes=SMALL) as writer:
        write(writer, frames)
    assert len(find_segments(writer.stream_dir)) == 4
    reader = SpoolReader(writer.stream_dir)
    assert states(batches(reader)) == list(range(frames))
    for start in (0, 1, frames // 2, SMALL // RECORD_BYTES, frames - 1):
        reader.seek(start)
        assert states(batches(reader)) == list(range(start, frames))
        assert reader.end.frames == frames
    reader.seek(frames)
    assert batches(reader) == []
    assert reader.end.frames == frames
    assert reader.damage == []


def test_events_travel_with_the_frame_that_follows(spool):
    """After a rewind an event is told again with the first frame behind it, and not with later ones."""
    first, second = (Event(kind="mark", frame_index=0, note=note) for note in "ab")
    with writing(spool) as writer:
        write(writer, 2)
        writer.append_event(first)
        write(writer, 2)
        writer.append_event(second)
    reader = SpoolReader(writer.stream_dir)
    one = Limits(max_frames=1)
    assert [reader.read(one).events for _ in range(4)] == [(), (), (first,), ()]
    assert reader.read(one) is None
    assert reader.end.events == (second,)
    reader.seek(2)
    assert [reader.read(one).events for _ in range(2)] == [(first,), ()]
    reader.seek(3)
    assert reader.read(one).events == ()


def test_gaps_are_named(spool):
    """Lost frames keep their indexes; the reader tells which are missing, and why."""
    with writing(spool) as writer:
        write(writer, 2)
        writer.append_gap(3, "elbow is missing")
        write(writer, 1)
    found = batches(SpoolReader(writer.stream_dir))
    assert covered(found) == list(range(6))
    assert [(batch.first, batch.count) for batch in found if batch.gap] == [(2, 3)]
    reader = SpoolReader(writer.stream_dir)
    reader.seek(4)
    assert [(batch.first, batch.count, batch.gap) for batch in batches(reader)] == [
        (4, 1, "elbow is missing"),
        (5, 1, None),
    ]


def test_segment_prepared_beside_the_loop_is_used(spool):
    """The next segment's room is taken before it is needed, once the present one is half full."""
    with writing(spool, segment_bytes=SMALL) as writer:
        assert not writer.wants_next
        write(writer, SMALL // RECORD_BYTES // 2 + 10)
        assert writer.wants_next
        writer.prepare_next()
        assert not writer.wants_next
        write(writer, SMALL // RECORD_BYTES)
        writer.prepare_next()
    assert sorted(path.name for path in writer.stream_dir.glob("frames*")) == [
        "frames-000000.seg",
        "frames-000001.seg",
    ]


def test_living_writer_is_seen(spool):
    """Others can tell whether a stream is still being recorded."""
    with writing(spool) as writer:
        assert is_locked(writer.stream_dir / "writer.lock")
    assert not is_locked(writer.stream_dir / "writer.lock")


def test_stream_appears_with_its_writer(spool):
    """Nobody ever finds a new stream without its living writer: it would be taken for a dead one."""
    found = []

    def prepare(folder: Path, number: int, size_bytes: int, *, quick: bool = False) -> Path:
        found.append(list(find_streams(spool)))
        return prepare_segment(folder, number, size_bytes, quick=True)

    with writing(spool, prepare=prepare) as writer:
        assert list(find_streams(spool)) == [writer.stream_dir]
    assert found == [[]]


def test_forked_child_neither_writes_nor_keeps_the_stream_alive(spool):
    """LeRobot forks for its images: such a child must not look like a living recorder."""
    writer = open_writer(spool)
    write(writer, 1)
    reading, telling = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            writer.append_frame(0, (1.0, 1.0))
        except SpoolError:
            os.write(telling, b"refused")
        time.sleep(60)
        os._exit(0)
    try:
        assert os.read(reading, 7) == b"refused"
        write(writer, 1)
        writer.close()
        assert not is_locked(writer.stream_dir / "writer.lock")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(telling)
    assert covered(batches(SpoolReader(writer.stream_dir))) == [0, 1]


WRITER = """
import sys
from pathlib import Path
import msgspec
from lerobot_robot_backend.spool.writer import SpoolWriter
from lerobot_robot_backend.spool.stream import StreamFile
counter = open(sys.argv[2], "wb", buffering=0)
description = msgspec.json.decode(sys.stdin.buffer.read(), type=StreamFile)
writer = SpoolWriter(Path(sys.argv[1]), description, segment_bytes=int(sys.argv[3]))
print(writer.stream_dir, flush=True)
while True:
    index = writer.append_frame(writer.next_index, (float(writer.next_index % 2**24), 0.0))
    counter.write(b"x")
"""


@pytest.mark.parametrize("seed", range(6))
def test_killed_writer_loses_nothing_that_was_logged(tmp_path, seed):
    """After kill -9 at any moment everything is read back whose log() had returned."""
    file = StreamFile(stream=uuid4(), robot_id="robot_A", backend_url="ws://localhost", session=SESSION)
    counter = tmp_path / "counter"
    arguments = [sys.executable, "-c", WRITER, str(tmp_path / "spool"), str(counter), str(SMALL)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(msgspec.json.encode(file))
        process.stdin.close()
        stream_dir = Path(process.stdout.readline().decode().strip())
        reader = SpoolReader(stream_dir)
        found = []
        moment = time.monotonic() + random.Random(seed).uniform(0.01, 0.4)
        while time.monotonic() < moment:
            if batch := reader.read(Limits()):
                found.append(batch)
        process.kill()
    found += batches(reader)
    returned = counter.stat().st_size
    # The last one may have been stored without its log() having returned.
    assert reader.end.frames in (returned, returned + 1)
    assert reader.end.reason == "writer_died"
    assert states(found) == [index % 2**24 for index in range(reader.end.frames)]
    assert reader.damage == []
    again = SpoolReader(stream_dir)
    assert states(batches(again)) == states(found)


def test_little_room_is_refused_in_words(tmp_path):
    """A session is not started on a disk that is nearly full; the message names room, place and remedy."""
    spool = tmp_path / "not" / "there" / "spool"
    with pytest.raises(SpoolError, match=r"free on the disk of .*spool.*LEROBOT_BACKEND_SPOOL"):
        check_spool(spool, "robot_A", 2**62)
    check_spool(spool, "robot_A", 0)
    assert list(find_streams(spool)) == []


def test_lock_is_free_after_release(tmp_path):
    """A lock that was let go can be taken again."""
    lock, other = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert lock.acquire()
    assert not other.acquire()
    lock.release()
    assert other.acquire()
    other.release()


def test_no_session_no_stream(tmp_path):
    """A directory without a readable session.json is named."""
    with pytest.raises(SpoolError, match=r"session\.json can't be read"):
        SpoolReader(tmp_path)


def test_furthest_index_that_anybody_can_have(spool):
    """It is what was logged, to the frame, over segments and gaps; wherever the reader stands."""
    with writing(spool, segment_bytes=SMALL) as writer:
        reader = SpoolReader(writer.stream_dir)
        assert reader.furthest() == 0
        for frames in (1, SMALL // RECORD_BYTES, 3 * SMALL // RECORD_BYTES):
            before = reader.furthest()
            write(writer, frames)
            assert reader.furthest() == before + frames
    assert reader.furthest() == before + frames
    assert reader.next_index == 0


def test_furthest_index_after_a_power_loss(spool):
    """The server may have had what a power loss took from the disk, some seconds of it."""
    with writing(spool) as writer:
        write(writer, 10)
        os.replace(writer.stream_dir, copy := writer.stream_dir.with_name("copy"))
        assert SpoolReader(copy).furthest() == 10
        shutil.copytree(copy, lost := copy.with_name("lost"))
        os.replace(copy, writer.stream_dir)
    assert SpoolReader(lost).furthest() == 10 + round(SESSION.fps * LOST_AT_MOST_S)
