"""Frames of the plain mode, good and bad."""

import contextlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from teleop_schema import plain
from teleop_schema.errors import BadMessage
from teleop_schema.plain import PlainFrame, decode_plain, decoding_plain

GOOD = '{"observation":{"a":1}}'

names = st.text(st.characters(codec="utf-8", min_codepoint=32), min_size=1, max_size=20)
vectors = st.dictionaries(names, st.floats(allow_nan=False) | st.booleans() | st.none(), max_size=4)
frames = st.builds(
    PlainFrame,
    observation=vectors.filter(bool),
    action=vectors,
    timestamp=st.none() | st.floats(-6e10, 2.5e11),
    observation_age_us=st.integers(0, 2**62),
)


@given(st.lists(frames, min_size=1, max_size=3))
def test_frames_survive_the_way(sent):
    """One frame or an array of them arrives as it was sent."""
    told = [
        {
            "observation": frame.observation,
            "action": frame.action,
            "timestamp": frame.timestamp,
            "observation_age_us": frame.observation_age_us,
        }
        for frame in sent
    ]
    assert decode_plain(json.dumps(told)) == sent
    assert decode_plain(json.dumps(told[0])) == sent[:1]


@given(st.text(max_size=200) | st.from_regex(r'\{"observation":\{"a":[^}]*\}\}', fullmatch=True))
def test_any_text_is_a_frame_or_a_bad_message(text):
    """No text whatsoever gets anything else out of the decoder."""
    with contextlib.suppress(BadMessage):
        assert decode_plain(text)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        # No JSON.
        ("", None),
        ("{", None),
        (GOOD[:-1], None),
        (GOOD + "x", None),
        (GOOD + GOOD, None),
        ("\ufeff" + GOOD, None),
        ("nan", None),
        # Not the shape of a frame.
        ("{}", "observation"),
        ("[]", "frames"),
        ("null", "frame"),
        ("3", "frame"),
        ('"text"', "frame"),
        ("[" * 100_000, "[0]"),
        ("[" + GOOD + ",5]", "[1]"),
        ("[" + GOOD + ",[" + GOOD + "]]", "[1]"),
        ('{"action":{"a":1}}', "observation"),
        ('{"observation":{}}', "observation"),
        ('{"observation":null}', "observation"),
        ('{"observation":[1]}', "observation"),
        ('{"observation":{"a":1},"action":7}', "action"),
        ('{"observation":{"a":1},"speed":2}', "speed"),
        ('{"Observation":{"a":1}}', "Observation"),
        # Not a number.
        ('{"observation":{"a":"1"}}', "observation.a"),
        ('{"observation":{"a":"NaN"}}', "observation.a"),
        ('{"observation":{"a":NaN,"b":"x"}}', "observation.b"),
        ('{"observation":{"a":[1]}}', "observation.a"),
        ('{"observation":{"a":{"b":1}}}', "observation.a"),
        ('{"observation":{"a":1},"action":{"b":[]}}', "action.b"),
        ('[{"observation":{"a":1}},{"observation":{"a":"x"}}]', "[1].observation.a"),
        # Not a time.
        ('{"observation":{"a":1},"timestamp":"now"}', "timestamp"),
        ('{"observation":{"a":1},"timestamp":true}', "timestamp"),
        ('{"observation":{"a":1},"timestamp":NaN}', "timestamp"),
        ('{"observation":{"a":1},"observation_age_us":-1}', "observation_age_us"),
        ('{"observation":{"a":1},"observation_age_us":1.5}', "observation_age_us"),
        ('{"observation":{"a":1},"timestamp":1e300}', "timestamp"),
        ('{"observation":{"a":1},"timestamp":-1e12}', "timestamp"),
        # Not a name.
        ('{"observation":{"":1}}', "observation"),
        ('{"observation":{"a\\u0000":1}}', "observation"),
        ('{"observation":{"a\\n":1}}', "observation"),
        ("[" + GOOD + ',{"observation":{"a":1,"b\\n":1}}]', "[1].observation"),
        ("[" + GOOD + ',{"observation":{"a":1},"action":{"":1}}]', "[1].action"),
        ("[" + GOOD + ',{"observation":{"%s":1}}]' % ("x" * 129), "[1].observation"),
        ('{"observation":{"%s":1}}' % ("x" * 129), "observation"),
        ('{"observation":{"\\ud800":1}}', None),
        (json.dumps({"observation": dict.fromkeys(map(str, range(1025)), 1)}), "observation"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_message_names_the_field(text, field):
    """What is no frame is refused, with the path of what is wrong where there is one."""
    with pytest.raises(BadMessage) as caught:
        decode_plain(text)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("true", True),
        ("null", None),
        ('"Infinity"', "Infinity"),
        ('"-Infinity"', "-Infinity"),
        # No JSON, but what Python's json.dumps writes.
        ("Infinity", math.inf),
        ("-Infinity", -math.inf),
        ("1e999", math.inf),
        ("9" * 400, math.inf),
        ("9" * 5000, math.inf),
        ("3.5e38", 3.5e38),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_not_finite_is_a_value(value, read):
    """Truth values, null and infinities are taken, whether they are told as JSON has it or as Python does."""
    [frame] = decode_plain(f'{{"observation":{{"a":{value}}},"observation_age_us":5}}')
    assert frame == PlainFrame({"a": read}, observation_age_us=5)


def test_nan_of_python_is_a_value():
    """`NaN` is no JSON, but what the simplest clients send."""
    [_, frame] = decode_plain('[{"observation":{"a":1}},{"observation":{"a":NaN}}]')
    assert math.isnan(frame.observation["a"])


def test_what_is_no_number_is_told_in_words():
    """The error says what would be right, and what is there."""
    with pytest.raises(BadMessage, match=r"observation\.a must be a number, not a string"):
        decode_plain('{"observation":{"a":"far"}}')


def test_depth_bomb_in_a_value_is_refused():
    """Nesting in the place of a number is refused before it is followed."""
    with pytest.raises(BadMessage) as caught:
        decode_plain('{"observation":' * 100_000)
    assert caught.value.field.startswith("observation")


def test_byte_order_mark_is_explained():
    """The one invisible mistake is said in words."""
    with pytest.raises(BadMessage, match="byte order mark"):
        decode_plain("\ufeff" + GOOD)


def test_too_many_frames_are_refused():
    """A message holds as many frames as a batch may."""
    with pytest.raises(BadMessage) as caught:
        decode_plain("[" + ",".join([GOOD] * 4097) + "]")
    assert (caught.value.field, caught.value.limit) == ("frames", 4096)


def outcome(decode, text):
    """What comes of it: frames, or what is said."""
    try:
        return decode(text)
    except BadMessage as error:
        return error.field, error.detail, error.limit


def stepwise(text):
    steps = decoding_plain(text)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@given(
    st.lists(
        st.sampled_from(
            [
                GOOD,
                '{"observation":{"a":NaN}}',
                '{"observation":{"a":"far"}}',
                '{"observation":{}}',
                '{"observation":{"\\u0001":1}}',
                '{"observation":{"a":1},"timestamp":1e300}',
                '{"observation":{"a":1}',
                "7",
                "",
            ]
        )
        | st.builds(lambda frame: json.dumps({"observation": frame.observation}), frames),
        max_size=8,
    ),
    st.sampled_from(["[", "", "[["]),
)
def test_a_long_message_is_read_in_steps(parts, opening):
    """Whatever it holds, what comes of it is what comes of it at once."""
    text = opening + ",".join(parts) + "]"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain, "LONG", 0)
        patch.setattr(plain, "FRAMES_AT_ONCE", 2)
        assert repr(outcome(stepwise, text)) == repr(outcome(decode_plain, text))


def test_steps_of_a_long_message_are_short():
    """However many frames it holds, a step reads so many at most."""
    count = 4096
    parts = list(decoding_plain("[" + ",".join([GOOD] * count) + "]"))
    assert max(parts) <= plain.FRAMES_AT_ONCE / count
    assert sum(parts) == 1
