"""Writer and reader on real files."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import msgspec
import numpy as np
import pytest
from lerobot_robot_backend.record import MAX_RECORD_BYTES
from lerobot_robot_backend.segment import find_segments, prepare_segment, segment_path
from lerobot_robot_backend.spool import SpoolWriter
from lerobot_robot_backend.spool_reader import SpoolReader
from lerobot_robot_backend.stream import (
    FileLock,
    SpoolError,
    StreamFile,
    check_free_space,
    find_streams,
    is_locked,
)
from teleop_schema.limits import Limits
from teleop_schema.messages import Batch, Event
from teleop_schema.session import SessionDescription

SMALL = 2 * MAX_RECORD_BYTES
RECORD_BYTES = 40  # one state, one action
SESSION = SessionDescription(robot_type="r", fps=60, state_names=("a",), action_names=("b",), started_at_us=0)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """A spool of the test's own."""
    return tmp_path / "spool"


def open_writer(spool: Path, **options: object) -> SpoolWriter:
    """A new stream of one state and one action value."""
    file = StreamFile(stream=uuid4(), robot_id="robot_A", backend_url="ws://localhost", session=SESSION)
    return SpoolWriter(spool, file, **options)


@contextmanager
def writing(spool: Path, **options: object) -> Iterator[SpoolWriter]:
    """A writer that is closed in order."""
    writer = open_writer(spool, **options)
    try:
        yield writer
    finally:
        writer.close()


def write(writer: SpoolWriter, count: int) -> None:
    """Frames that carry their index as state."""
    for _ in range(count):
        index = writer.next_index
        writer.append_frame(1000 * index, (float(index % 2**24), -1.0))


def batches(reader: SpoolReader, limits: Limits | None = None) -> list[Batch]:
    """Everything that can be read now; a place that looks damaged is looked at twice."""
    found = []
    for _ in range(2):
        while (batch := reader.read(limits or Limits())) is not None:
            found.append(batch)
    return found


def states(found: list[Batch]) -> list[float]:
    return [value for batch in found for value in np.frombuffer(batch.state, "<f4").tolist()]


def covered(found: list[Batch]) -> list[int]:
    """Frame indexes that the batches speak of, in their order."""
    return [index for batch in found for index in range(batch.first, batch.end)]


def damage(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def kill_writer(writer: SpoolWriter) -> None:
    """What is left of a writer whose process was killed."""
    writer._writer_lock.release()


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
            writer.append_frame(0, (0.0, 0.0), b"\x81\xa1x\xda\x02\x00" + b"y" * 512)
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


def test_torn_tail_is_left_out(spool):
    """A record that was being written when the process was killed is no frame; those before it are."""
    writer = open_writer(spool)
    write(writer, 5)
    place = 64 + 4 * RECORD_BYTES
    whole = segment_path(writer.stream_dir, 0).read_bytes()[place : place + RECORD_BYTES]
    kill_writer(writer)
    for kept in range(RECORD_BYTES):
        # The body is stored first, then the head that makes it a record.
        torn = bytes(RECORD_BYTES - kept) + whole[RECORD_BYTES - kept :]
        damage(segment_path(writer.stream_dir, 0), place, torn)
        reader = SpoolReader(writer.stream_dir)
        assert covered(batches(reader)) == [0, 1, 2, 3]
        assert (reader.end.frames, reader.end.reason) == (4, "writer_died")


# Zeros in front of a living writer are where it goes on: they are damage only once it is gone.
@pytest.mark.parametrize(
    ("content", "alive"),
    [
        (b"\xff", True),
        (b"\x81" * 101, True),
        (b"\xff", False),
        (b"\x81" * 101, False),
        (bytes(RECORD_BYTES), False),
        (bytes(5 * RECORD_BYTES), False),
    ],
    ids=["bit, alive", "stretch, alive", "bit", "stretch", "zeros", "many zeros"],
)
def test_damaged_middle_becomes_a_named_gap(spool, content, alive):
    """Damage costs the frames it covers, names the place, and nothing else."""
    writer = open_writer(spool)
    write(writer, 20)
    damage(segment_path(writer.stream_dir, 0), 64 + 8 * RECORD_BYTES, content)
    if not alive:
        kill_writer(writer)
    reader = SpoolReader(writer.stream_dir)
    found = batches(reader)
    assert covered(found) == list(range(20))
    (gap,) = [batch for batch in found if batch.gap]
    lost = -(-len(content) // RECORD_BYTES)
    assert (gap.first, gap.count) == (8, lost)
    assert f"frames-000000.seg is damaged at byte {64 + 8 * RECORD_BYTES}" in gap.gap
    assert len(reader.damage) == 1


def test_damaged_end_of_a_closed_stream_is_missed(spool):
    """The record of the end says how many frames there were: damage before it is a gap, not silence."""
    with writing(spool) as writer:
        write(writer, 10)
    damage(segment_path(writer.stream_dir, 0), 64 + 8 * RECORD_BYTES, b"\xff" * 2 * RECORD_BYTES)
    reader = SpoolReader(writer.stream_dir)
    assert [(batch.first, batch.count) for batch in batches(reader) if batch.gap] == [(8, 2)]
    assert reader.end.frames == 10


def test_damaged_event_leaves_a_mark(spool):
    """An event that is lost to damage is told as lost, and costs no frame."""
    with writing(spool) as writer:
        write(writer, 1)
        writer.append_event(Event(kind="mark", frame_index=1, note="x"))
        write(writer, 1)
    damage(segment_path(writer.stream_dir, 0), 64 + RECORD_BYTES + 20, b"\xff")
    found = batches(SpoolReader(writer.stream_dir))
    assert covered(found) == [0, 1]
    (mark,) = [event for batch in found for event in batch.events]
    assert mark.note.startswith("an event was lost: frames-000000.seg is damaged at byte")


def test_missing_and_headless_segments_are_gaps(spool):
    """A segment that is gone, or whose header is damaged, is missing by name; the rest is read."""
    frames = 4 * SMALL // RECORD_BYTES
    with writing(spool, segment_bytes=SMALL) as writer:
        write(writer, frames)
    segment_path(writer.stream_dir, 1).unlink()
    damage(segment_path(writer.stream_dir, 3), 3, b"\xff")
    reader = SpoolReader(writer.stream_dir)
    found = batches(reader)
    assert covered(found) == list(range(frames))
    (gap,) = [batch for batch in found if batch.gap]
    per_segment = len(states(found[:1]))
    assert gap.first == pytest.approx(SMALL / RECORD_BYTES, rel=0.2)
    assert "gone" in gap.gap
    assert reader.damage == ["the header of frames-000003.seg is damaged"]
    reader.seek(gap.first + 5)
    assert covered(batches(reader))[0] == gap.first + 5
    assert per_segment


def test_full_disk_is_a_gap_that_ends(spool):
    """On a full disk the loop hears of it at once, frames are counted, and it goes on when there is room."""
    room = 1

    def prepare(folder: Path, number: int, size_bytes: int, *, quick: bool = False) -> Path:
        if number >= room:
            raise OSError(28, "No space left on device")
        return prepare_segment(folder, number, size_bytes, quick=True)

    with writing(spool, segment_bytes=SMALL, prepare=prepare) as writer:
        with pytest.raises(SpoolError, match="disk of the spool is full"):
            write(writer, SMALL)
        written = writer.next_index - 1
        for _ in range(9):
            with pytest.raises(SpoolError):
                write(writer, 1)
        writer.append_gap(1, "another reason")
        room = 2
        writer.prepare_next()
        write(writer, 5)
    reader = SpoolReader(writer.stream_dir)
    found = batches(reader)
    assert covered(found) == list(range(written + 11 + 5))
    assert sum(batch.count for batch in found if batch.gap) == 11
    assert reader.end.reason == "closed"


def test_end_is_told_on_a_full_disk(spool):
    """A session that ends while the disk is full ends in order, its last frames named as missing."""

    def prepare(folder: Path, number: int, size_bytes: int, *, quick: bool = False) -> Path:
        if number:
            raise OSError(28, "No space left on device")
        return prepare_segment(folder, number, size_bytes, quick=True)

    with writing(spool, segment_bytes=SMALL, prepare=prepare) as writer:
        with pytest.raises(SpoolError):
            write(writer, SMALL)
        for reason in ("a", "b") * 50:
            writer.append_gap(1, reason)
        logged = writer.next_index
    reader = SpoolReader(writer.stream_dir)
    assert covered(batches(reader)) == list(range(logged))
    assert (reader.end.frames, reader.end.reason) == (logged, "closed")


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
from lerobot_robot_backend.spool import SpoolWriter
from lerobot_robot_backend.stream import StreamFile
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
    with pytest.raises(SpoolError, match=r"free on the disk of .*spool.*LEROBOT_BACKEND_SPOOL"):
        check_free_space(tmp_path / "not" / "there" / "spool", 2**62)
    check_free_space(tmp_path, 0)


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
