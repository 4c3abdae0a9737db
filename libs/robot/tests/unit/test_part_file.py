"""Part files: whatever is cut off or damaged, what was whole before it is read."""

import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lerobot_robot_backend.video.part_file import PartPictures, PartWriter, SegmentHead, read_part
from teleop_schema.files import DroppedFrames

HEAD = SegmentHead(
    robot_id="robot_A",
    session=uuid.UUID(int=1),
    camera_key="front",
    chunk_index=3,
    fps=30.0,
    height=48,
    width=64,
)
PACKETS = [bytes([value]) * (value * 7 + 1) for value in range(6)]


@pytest.fixture
def path(tmp_path):
    """A part of six pictures, of which the fourth names what is missing before it."""
    path = tmp_path / "000003.part"
    writer = PartWriter(path, HEAD)
    for number, packet in enumerate(PACKETS):
        dropped = DroppedFrames(4, 6, "slow") if number == 3 else None
        writer.append_picture(number, 2 * number, 1000 * number, packet, dropped)
    writer.close()
    return path


def pictures(path) -> list[bytes]:
    part = read_part(path)
    with path.open("rb") as file:
        stream = PartPictures(file, part)
        content = b"".join(iter(lambda: stream.read(5), b""))
    sizes = [size for _, size in part.places]
    assert len(content) == sum(sizes)
    return [content[sum(sizes[:k]) : sum(sizes[: k + 1])] for k in range(len(sizes))]


def test_everything_is_read_back(path):
    """Head, pictures with their indexes and times, and what is missing."""
    part = read_part(path)
    assert part.head == HEAD
    assert (part.numbers, part.frame_indexes) == ([0, 1, 2, 3, 4, 5], [0, 2, 4, 6, 8, 10])
    assert part.captured_us == [0, 1000, 2000, 3000, 4000, 5000]
    assert part.dropped == [DroppedFrames(4, 6, "slow")]
    assert not part.ended
    assert pictures(path) == PACKETS
    assert part.size_bytes == path.stat().st_size


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1))
def test_torn_end_costs_only_what_was_torn(path, tmp_path, share):
    """Cut at any byte, the whole records before are read, and recording goes on behind them."""
    whole = path.read_bytes()
    torn = tmp_path / "torn.part"
    torn.write_bytes(whole[: int(share * len(whole))])
    kept = read_part(torn)
    count = len(kept.numbers)
    assert pictures(torn) == PACKETS[:count]
    assert kept.size_bytes <= torn.stat().st_size
    writer = PartWriter(torn)
    writer.append_picture(9, 99, 999, b"next")
    writer.append_end(DroppedFrames(100, 101, "end"))
    writer.close()
    part = read_part(torn)
    assert part.numbers == [*range(count), 9]
    assert part.dropped[-1] == DroppedFrames(100, 101, "end")
    assert part.ended


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_flipped_bit_is_never_a_picture(path, tmp_path, share):
    """A damaged record ends what is read; nothing of it or behind it is believed."""
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 0x10
    damaged = tmp_path / "damaged.part"
    damaged.write_bytes(content)
    kept = pictures(damaged)
    assert kept == PACKETS[: len(kept)]
    assert len(kept) < len(PACKETS)
