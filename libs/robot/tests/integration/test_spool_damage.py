"""What is read from a spool of which something is torn, damaged, missing, or had no room."""

from pathlib import Path

import msgspec
import pytest
from lerobot_robot_backend.shipping.reader import SpoolReader
from lerobot_robot_backend.spool.segment import prepare_segment, segment_path
from lerobot_robot_backend.spool.stream import SpoolError
from teleop_schema.messages import Event
from teleop_testing.robots.spooled import (
    RECORD_BYTES,
    SMALL,
    batches,
    covered,
    kill_writer,
    open_writer,
    states,
    write,
    writing,
)


def damage(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


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
    assert mark.note.startswith("an event is lost: frames-000000.seg is damaged at byte")


@pytest.mark.parametrize(
    "tail",
    [msgspec.msgpack.encode([1]), b"\x81\xa5extra\x81\xa1a\xa1\xff"],
    ids=["of another kind", "not UTF-8"],
)
def test_what_a_frame_has_beyond_its_vectors_may_be_unreadable(spool, tail):
    """Its checksum is right, so somebody has written it so: the vectors are sent, and it is told."""
    with writing(spool) as writer:
        write(writer, 1)
        writer.append_frame(1000, (1.0, -1.0), tail)
        write(writer, 1)
    reader = SpoolReader(writer.stream_dir)
    found = batches(reader)
    assert (covered(found), states(found)) == ([0, 1, 2], [0.0, 1.0, 2.0])
    assert [batch.extra for batch in found] == [{}]
    [told] = reader.damage
    assert told.startswith("of frame 1 only state and action can be read: ")


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
    assert "has lost the records" in gap.gap
    assert reader.damage == ["the header of frames-000003.seg is damaged"]
    reader.seek(gap.first + 5)
    assert covered(batches(reader))[0] == gap.first + 5
    assert per_segment


class Disk:
    """A disk with room for so many segments; `prepare` is how a writer takes it."""

    def __init__(self) -> None:
        self.segments = 1

    def prepare(self, folder: Path, number: int, size_bytes: int, *, quick: bool = False) -> Path:
        if number >= self.segments:
            raise OSError(28, "No space left on device")
        return prepare_segment(folder, number, size_bytes, quick=True)


def test_full_disk_is_a_gap_that_ends(spool):
    """On a full disk the loop hears of it at once, frames are counted, and it goes on when there is room."""
    disk = Disk()
    with writing(spool, segment_bytes=SMALL, prepare=disk.prepare) as writer:
        with pytest.raises(SpoolError, match="disk of the spool is full"):
            write(writer, SMALL)
        written = writer.next_index - 1
        for _ in range(9):
            with pytest.raises(SpoolError):
                write(writer, 1)
        writer.append_gap(1, "another reason")
        disk.segments = 2
        writer.prepare_next()
        write(writer, 5)
    reader = SpoolReader(writer.stream_dir)
    found = batches(reader)
    assert covered(found) == list(range(written + 11 + 5))
    # One gap, whatever the later reasons were: nobody can act on each frame.
    assert [(batch.first, batch.count, batch.gap) for batch in found if batch.gap] == [
        (written, 11, "the disk of the spool is full")
    ]
    assert reader.end.reason == "closed"


def test_events_on_a_full_disk_wait_for_room(spool):
    """What a person said while frames were lost (an episode's bounds, a column) comes with the next that are
    kept, once each and in order."""
    disk = Disk()
    with writing(spool, segment_bytes=SMALL, prepare=disk.prepare) as writer:
        with pytest.raises(SpoolError, match="disk of the spool is full"):
            write(writer, SMALL)
        lost = writer.next_index - 1
        told = [Event(kind="mark", frame_index=lost, note=f"{number} " + "x" * 1000) for number in range(20)]
        for event in told:
            writer.append_event(event)
        disk.segments = 2
        writer.prepare_next()
        write(writer, 5)
    found = batches(SpoolReader(writer.stream_dir))
    assert [event for batch in found for event in batch.events] == told
    assert [(batch.first, batch.count) for batch in found if batch.gap] == [(lost, 1)]
    assert covered(found) == list(range(lost + 6))


def test_events_that_never_found_room_are_named(spool, caplog):
    """More than the memory for them holds are refused at once, the others when the session ends."""
    disk = Disk()
    with writing(spool, segment_bytes=SMALL, prepare=disk.prepare) as writer:
        with pytest.raises(SpoolError):
            write(writer, SMALL)
        long = Event(kind="mark", frame_index=7, note="x" * 5000)
        with pytest.raises(SpoolError, match="full"):  # noqa: PT012
            for _ in range(100):
                writer.append_event(long)
        logged = writer.next_index
    (line,) = [each.message for each in caplog.records]
    assert "the disk of the spool is full, so the server does not get: mark at frame 7, mark at" in line
    reader = SpoolReader(writer.stream_dir)
    assert covered(batches(reader)) == list(range(logged))
    assert reader.end.reason == "closed"


def test_large_frames_on_a_full_disk_are_one_gap(spool):
    """Room that a gap would find and a frame does not is left alone: else each frame left a gap there."""
    disk = Disk()

    tail = msgspec.msgpack.encode({"note": "x" * 60_000})
    with writing(spool, segment_bytes=SMALL, prepare=disk.prepare) as writer:
        for _ in range(2):
            writer.append_frame(0, (0.0, 0.0), tail)
        for _ in range(100):
            with pytest.raises(SpoolError, match="full"):
                writer.append_frame(0, (0.0, 0.0), tail)
        assert writer.refusal == "the disk of the spool is full"
        disk.segments = 100
        writer.prepare_next()
        writer.append_frame(0, (0.0, 0.0), tail)
        assert writer.refusal is None
    found = batches(SpoolReader(writer.stream_dir))
    assert [(batch.first, batch.count) for batch in found if batch.gap] == [(2, 100)]
    assert covered(found) == list(range(103))


def test_end_is_told_on_a_full_disk(spool):
    """A session that ends while the disk is full ends in order, its last frames named as missing."""
    disk = Disk()
    with writing(spool, segment_bytes=SMALL, prepare=disk.prepare) as writer:
        with pytest.raises(SpoolError):
            write(writer, SMALL)
        for reason in ("a", "b") * 50:
            writer.append_gap(1, reason)
        logged = writer.next_index
    reader = SpoolReader(writer.stream_dir)
    found = batches(reader)
    assert covered(found) == list(range(logged))
    assert len([batch for batch in found if batch.gap]) == 1
    assert (reader.end.frames, reader.end.reason) == (logged, "closed")
