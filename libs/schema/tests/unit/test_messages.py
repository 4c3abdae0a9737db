"""Encoding, decoding and refusing the messages of the acknowledged mode."""

import struct
from datetime import UTC, datetime

import google_crc32c
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from teleop_schema import messages
from teleop_schema.errors import BadCrc, BadMessage, MessageTooLarge
from teleop_schema.limits import MAX_FRAMES_PER_BATCH, MAX_TEXT_LENGTH, Limits
from teleop_schema.messages import Batch, End, Event, Hello
from teleop_schema.session import Camera, SessionDescription

LIMITS = Limits()
STREAM = "0199f3a4-7c1e-7b52-9d0f-2f6a4d7e8b01"
SESSION = {"robot_type": "so101", "fps": 60, "state_names": ["a"], "action_names": ["a"], "started_at_us": 0}

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
names = st.lists(
    st.text(st.characters(codec="utf-8", min_codepoint=32), min_size=1, max_size=20), unique=True, max_size=5
).map(tuple)
indexes = st.integers(0, 2**62)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
outcomes = st.sampled_from([None, "success", "failure", "discarded"])
events = st.one_of(
    st.builds(
        Event,
        kind=st.sampled_from(["episode_start", "episode_end"]),
        frame_index=indexes,
        episode_index=st.integers(0, 2**31 - 1),
        task=st.none() | texts,
        outcome=outcomes,
        note=st.none() | texts,
    ),
    st.builds(Event, kind=st.just("mark"), frame_index=indexes, note=texts),
)
batches = st.builds(
    Batch,
    first=indexes,
    count=st.integers(1, MAX_FRAMES_PER_BATCH),
    timestamps=st.binary(max_size=64),
    state=st.binary(max_size=64),
    action=st.binary(max_size=64),
    extra=st.dictionaries(st.integers(0, 4095), st.dictionaries(texts, json_values, max_size=3), max_size=2),
    events=st.lists(events, max_size=2).map(tuple),
    gap=st.none() | texts,
)
sessions = st.builds(
    SessionDescription,
    robot_type=texts,
    fps=st.floats(0, 10_000, exclude_min=True),
    state_names=names,
    action_names=names,
    started_at_us=st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999),
    cameras=st.dictionaries(
        texts, st.builds(Camera, st.integers(1, 65_535), st.integers(1, 65_535), st.none() | st.just(30.0))
    ),
    task=st.none() | texts,
    host=st.dictionaries(texts, json_values, max_size=3),
)


def binary(fields: object) -> bytes:
    """A batch message around any MessagePack content, its CRC right."""
    body = msgspec.msgpack.encode(fields)
    return messages.CRC.pack(google_crc32c.value(body)) + body


def hello(**changes: object) -> str:
    """A hello as JSON, its session changed."""
    session = {name: value for name, value in (SESSION | changes).items() if value is not ...}
    return msgspec.json.encode({"type": "hello", "stream": STREAM, "session": session}).decode()


@given(batches)
def test_batch_survives_the_way(batch):
    """Whatever a batch holds is what arrives."""
    assert messages.decode_batch(messages.encode_batch(batch), LIMITS) == batch


@given(st.builds(Hello, stream=st.uuids(), session=sessions, first_unacked=indexes))
def test_hello_survives_the_way(message):
    """Whatever a session is described by is what arrives."""
    assert messages.decode_robot_control(messages.encode_control(message)) == message


@given(st.builds(End, frames=indexes, events=st.lists(events, max_size=3).map(tuple)))
def test_end_survives_the_way(message):
    """The last message of a stream arrives as it was said."""
    assert messages.decode_robot_control(messages.encode_control(message)) == message


def test_every_flipped_bit_is_detected():
    """No single bit of a batch can change on the way without being noticed."""
    message = messages.encode_batch(
        Batch(first=3, count=1, timestamps=bytes(8), state=struct.pack("<2f", 1, 2), action=bytes(8))
    )
    for bit in range(8 * len(message)):
        damaged = bytearray(message)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadCrc) as caught:
            messages.decode_batch(bytes(damaged), LIMITS)
        assert caught.value.field == "crc32c"
        assert caught.value.retryable


def test_every_truncation_is_detected():
    """A batch that was cut short is refused wherever it was cut."""
    message = messages.encode_batch(Batch(first=3, count=1, timestamps=bytes(8), state=bytes(8)))
    for length in range(len(message)):
        with pytest.raises(BadMessage):
            messages.decode_batch(message[:length], LIMITS)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"count": 1}, "first"),
        ({"first": 0}, "count"),
        ({"first": 0, "count": 0}, "count"),
        ({"first": 0, "count": -1}, "count"),
        ({"first": 0, "count": MAX_FRAMES_PER_BATCH + 1}, "count"),
        ({"first": 0, "count": 2**32 - 1}, "count"),
        ({"first": 0, "count": 2**32 + 1, "gap": "long"}, "count"),
        ({"first": -1, "count": 1}, "first"),
        ({"first": 2**62 + 1, "count": 1}, "first"),
        ({"first": True, "count": 1}, "first"),
        ({"first": 1.0, "count": 1}, "first"),
        ({"first": None, "count": 1}, "first"),
        ({"first": 0, "count": 1, "speed": 1}, "speed"),
        ({"first": 0, "count": 1, "state": "text"}, "state"),
        ({"first": 0, "count": 1, "state": [1.0]}, "state"),
        ({"first": 0, "count": 1, "extra": {"zero": {}}}, "extra"),
        ({"first": 0, "count": 1, "extra": {0: 5}}, "extra[...]"),
        ({"first": 0, "count": 1, "gap": "a\0b"}, "gap"),
        ({"first": 0, "count": 1, "gap": "x" * (MAX_TEXT_LENGTH + 1)}, "gap"),
        ({"first": 0, "count": 1, "events": [{"kind": "dance", "frame_index": 0}]}, "events[0].kind"),
        ({"first": 0, "count": 1, "events": [{"kind": "mark"}]}, "events[0].frame_index"),
        (
            {"first": 0, "count": 1, "events": [{"kind": "mark", "frame_index": 0, "episode_index": 1}]},
            "events[0].episode_index",
        ),
        (
            {"first": 0, "count": 1, "events": [{"kind": "episode_start", "frame_index": 0}]},
            "events[0].episode_index",
        ),
        ([1, 2], None),
        (datetime(2025, 1, 1, tzinfo=UTC), None),
    ],
)
def test_batch_of_wrong_fields_names_the_field(fields, field):
    """A batch whose CRC is right and whose content is not is refused with the culprit's name."""
    with pytest.raises(BadMessage) as caught:
        messages.decode_batch(binary(fields), LIMITS)
    assert not isinstance(caught.value, BadCrc)
    assert caught.value.field == field


def test_gap_may_be_longer_than_a_batch():
    """A gap carries no values, so one message tells of any number of lost frames."""
    batch = messages.decode_batch(binary({"first": 0, "count": 2**32, "gap": "disk full"}), LIMITS)
    assert batch.end == 2**32


def test_depth_bomb_is_refused():
    """Nesting that would exhaust the stack is a bad message, not a crash."""
    deep = b"\x83\xa5first\x00\xa5count\x01\xa5extra\x81\x00\x81\xa1a" + b"\x91" * 100_000
    with pytest.raises(BadMessage):
        messages.decode_batch(messages.CRC.pack(google_crc32c.value(deep)) + deep, LIMITS)
    with pytest.raises(BadMessage):
        messages.decode_robot_control('{"type":"hello","session":{"host":' + '{"a":' * 100_000)


def test_trailing_bytes_are_refused():
    """A batch is the whole message."""
    body = msgspec.msgpack.encode({"first": 0, "count": 1}) + b"\0"
    with pytest.raises(BadMessage, match="trailing"):
        messages.decode_batch(messages.CRC.pack(google_crc32c.value(body)) + body, LIMITS)


def test_text_that_is_not_utf8_is_refused():
    """MessagePack text has to be UTF-8, surrogates excluded."""
    for text in (b"\xa1\xff", b"\xa3\xed\xa0\x80"):
        body = b"\x83\xa5first\x00\xa5count\x01\xa3gap" + text
        with pytest.raises(BadMessage):
            messages.decode_batch(messages.CRC.pack(google_crc32c.value(body)) + body, LIMITS)


def test_oversize_message_is_refused_unread():
    """A message over the limit is refused by its length alone, with the limit."""
    with pytest.raises(MessageTooLarge) as caught:
        messages.decode_batch(bytes(LIMITS.max_message_bytes + 1), LIMITS)
    assert caught.value.limit == LIMITS.max_message_bytes


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", None),
        ("{", None),
        ("hello", None),
        ("null", None),
        ("[]", None),
        ("\ufeff" + hello(), None),
        (hello() + "x", None),
        ('{"frames":1}', "type"),
        ('{"type":"dance"}', "type"),
        ('{"type":"ack","next":1}', "type"),
        ('{"type":"end"}', "frames"),
        ('{"type":"end","frames":-1}', "frames"),
        ('{"type":"end","frames":1.5}', "frames"),
        ('{"type":"end","frames":true}', "frames"),
        ('{"type":"end","frames":1,"reason":"bored"}', "reason"),
        ('{"type":"end","frames":1,"fast":1}', "fast"),
        ('{"type":"hello","stream":"x"}', "stream"),
        (hello(fps=...), "session.fps"),
        (hello(fps=0), "session.fps"),
        (hello(fps=-1), "session.fps"),
        (hello(fps=1e9), "session.fps"),
        (hello(fps="60"), "session.fps"),
        (hello(speed=1), "session.speed"),
        (hello(robot_type="a\0"), "session.robot_type"),
        (hello(state_names=[""]), "session.state_names[0]"),
        (hello(state_names=["a", "b\n"]), "session.state_names[1]"),
        (hello(state_names=["x" * 129]), "session.state_names[0]"),
        (hello(state_names=["a", "b", "a"]), "session.state_names"),
        (hello(action_names=["a", "a"]), "session.action_names"),
        (hello(state_names=[str(number) for number in range(1025)]), "session.state_names"),
        (hello(started_at_us=253_402_300_800_000_000), "session.started_at_us"),
        (hello(cameras={"front": {"height": 0, "width": 640}}), "session.cameras[...].height"),
    ],
)
def test_control_message_of_wrong_fields_names_the_field(text, field):
    """A control message that can't be understood is refused with the culprit's name."""
    with pytest.raises(BadMessage) as caught:
        messages.decode_robot_control(text)
    assert caught.value.field == field


def test_server_messages_are_checked_too():
    """A robot trusts a server no more than the other way round."""
    with pytest.raises(BadMessage) as caught:
        messages.decode_server_control('{"type":"ack","next":-1}')
    assert caught.value.field == "next"


def test_error_never_quotes_all_that_was_sent():
    """A megabyte of nonsense makes a short error."""
    with pytest.raises(BadMessage) as caught:
        messages.decode_robot_control('{"type":"' + "x" * 500_000 + '"}')
    assert len(caught.value.detail) <= 1000
