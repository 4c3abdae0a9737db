import struct

import google_crc32c
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lerobot_robot_backend.spool.record import (
    ALIGNMENT,
    MAX_RECORD_BYTES,
    MAX_TAIL_BYTES,
    DamagedRecord,
    FrameEncoder,
    FrameExtras,
    RecordKind,
    decode_beyond,
    decode_event,
    decode_record,
    encode_beyond,
    encode_close,
    encode_event,
    encode_gap,
)
from teleop_schema.limits import MAX_VECTOR_VALUES
from teleop_schema.messages import Event

float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    state=st.lists(float32, max_size=9),
    action=st.lists(float32, max_size=9),
    index=st.integers(0, 2**62),
    captured_us=st.integers(-(2**63), 2**63 - 1),
    tail=st.binary(max_size=100),
)
def test_frame_comes_back(state, action, index, captured_us, tail):
    """A frame is read as it was written: values, time, and what goes beyond them."""
    encoded = FrameEncoder(len(state), len(action)).encode(index, captured_us, (*state, *action), tail)
    record = decode_record(encoded)
    vectors_size = 4 * (len(state) + len(action))
    assert (record.kind, record.index, record.end) == (RecordKind.FRAME, index, index + 1)
    assert record.number == captured_us
    assert struct.unpack(f"<{len(state) + len(action)}f", record.body[:vectors_size]) == (*state, *action)
    assert record.tail(vectors_size) == tail
    assert record.size == len(encoded)
    assert len(encoded) % ALIGNMENT == 0


def test_other_records_come_back():
    """Gaps, events and the end of a session are read as they were written."""
    gap = decode_record(encode_gap(7, 3, "elbow is missing"))
    assert (gap.kind, gap.index, gap.end, gap.tail()) == (RecordKind.GAP, 7, 10, b"elbow is missing")
    event = Event(kind="episode_start", frame_index=4, episode_index=0, task="집어")
    assert decode_event(decode_record(encode_event(5, event))) == event
    assert decode_record(encode_close(12)).end == 12


def test_every_flipped_bit_is_detected():
    """No record with one wrong bit is taken for a record."""
    for encoded in (
        FrameEncoder(6, 6).encode(5, 1_763_860_000_000_000, range(12)),
        FrameEncoder(1, 0).encode(0, 0, (0.0,), b"\x81\xa1x\x01"),
        encode_gap(1, 2, "why"),
        encode_close(3),
    ):
        # Other records follow in a segment; the flipped size must not reach a lucky end.
        following = encoded * 3
        for bit in range(8 * len(encoded)):
            damaged = bytearray(encoded + following)
            damaged[bit // 8] ^= 1 << bit % 8
            with pytest.raises(DamagedRecord):
                decode_record(bytes(damaged))


def test_cut_record_is_detected():
    """A record that lacks its last bytes is no record."""
    encoded = FrameEncoder(6, 6).encode(5, 0, range(12))
    for size in range(len(encoded)):
        with pytest.raises(DamagedRecord):
            decode_record(encoded[:size])


def test_zeros_are_no_record():
    """Where nothing was written there is nothing, and no damage."""
    assert decode_record(bytes(4096)) is None


def test_value_beyond_float32_is_refused():
    """Nothing is silently rounded to infinity."""
    with pytest.raises(OverflowError):
        FrameEncoder(1, 0).encode(0, 0, (1e39,))


def test_largest_record_fits():
    """The largest frame that the limits allow is a whole record."""
    encoder = FrameEncoder(MAX_VECTOR_VALUES, MAX_VECTOR_VALUES)
    encoded = encoder.encode(0, 0, [0.0] * 2 * MAX_VECTOR_VALUES, bytes(MAX_TAIL_BYTES))
    assert len(encoded) <= MAX_RECORD_BYTES
    assert decode_record(encoded).tail_size == MAX_TAIL_BYTES


def test_tail_of_an_older_spool_is_its_extra():
    """A frame recorded before tails had a form is read as it was meant."""
    extra = {"observation_age_us": 7, "extra": {"a": 1}}
    body = struct.pack("<IB3xIqq1f", 56, RecordKind.FRAME, len(msgspec.msgpack.encode(extra)), 3, 9, 1.5)
    body += msgspec.msgpack.encode(extra)
    body = body[:0] + struct.pack("<I", _size(body)) + body[4:] + bytes(_size(body) - 4 - len(body))
    record = decode_record(struct.pack("<I", google_crc32c.value(body)) + body)
    assert decode_beyond(record, 4) == FrameExtras(extra=extra)


def _size(body: bytes) -> int:
    return -(-(4 + len(body)) // ALIGNMENT) * ALIGNMENT


def test_what_goes_beyond_the_vectors_comes_back():
    """Extras and the age of a repeated observation are read as they were written; nothing takes no room."""
    assert encode_beyond() == b""
    extra = msgspec.msgpack.encode({"a": [1, None]})
    for tail, told in (
        (encode_beyond(extra), FrameExtras(extra={"a": [1, None]})),
        (encode_beyond(extra, observation_age_us=2**40), FrameExtras({"a": [1, None]}, 2**40)),
        (encode_beyond(observation_age_us=1), FrameExtras(observation_age_us=1)),
        (encode_beyond(), FrameExtras()),
    ):
        assert decode_beyond(decode_record(FrameEncoder(1, 0).encode(0, 0, (1.0,), tail)), 4) == told
