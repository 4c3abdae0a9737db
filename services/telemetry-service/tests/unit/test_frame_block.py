"""Blocks of frames: cutting, joining, and what no table takes."""

import math
import struct
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from teleop_schema.errors import BadMessage
from teleop_schema.limits import FIRST_US, LAST_US
from teleop_telemetry.frames.block import (
    MAX_EXTRA_BYTES,
    MAX_EXTRA_DEPTH,
    Gap,
    block_of_batch,
    extra_text,
    merge_blocks,
)
from teleop_telemetry.frames.columns import quarantine
from teleop_testing.robots.robot import batch, values_of


def block(first: int, count: int, **changes):
    return block_of_batch(batch(first, count, **changes), 2, 2)


def contents(one) -> dict[int, tuple]:
    """Frame index -> state and action, of every frame that is there."""
    found = {}
    for run in one.runs:
        state = struct.iter_unpack("<2f", run.state)
        action = struct.iter_unpack("<2f", run.action)
        found |= {
            run.first + number: (*values[0], *values[1])
            for number, values in enumerate(zip(state, action, strict=True))
        }
    return found


def missing(one) -> set[int]:
    return {index for gap in one.gaps for index in range(gap.first, gap.end)}


@given(st.sets(st.integers(10, 29)), st.integers(5, 35), st.integers(5, 35))
def test_cutting_keeps_each_frame_where_it_was(lost, first, end):
    """A part of a block with holes has the frames, gaps and extra of its range, and no others."""
    whole = block(10, 20, extra={5: {"note": "x"}}, observation_ages_us={5: 3}).without(
        {index: f"lost {index % 2}" for index in lost}
    )
    first, end = sorted((max(first, 10), min(end, 30))) if first < 30 and end > 10 else (10, 30)
    part = whole.between(first, end)
    wanted = set(range(first, end))
    assert contents(part) == {index: values_of(index) for index in wanted - lost}
    assert missing(part) == wanted & lost
    assert part.rows == len(wanted - lost)
    assert set(part.beyond) == wanted & {15} - lost


def test_neighbours_lost_for_one_reason_make_one_gap():
    """A thousand frames with the same flaw are one gap, not a thousand."""
    whole = block(0, 10).without({3: "a", 4: "a", 5: "b", 7: "a"})
    assert whole.gaps == (Gap(3, 5, "a"), Gap(5, 6, "b"), Gap(7, 8, "a"))


def test_joining_is_the_inverse_of_cutting():
    """Blocks that follow each other become one with all that they held."""
    whole = block(0, 9, extra={4: {"a": 1}})
    joined = merge_blocks([whole.between(0, 4), whole.between(4, 5), whole.between(5, 9)])
    assert contents(joined) == contents(whole)
    assert (joined.first, joined.end, joined.beyond) == (0, 9, whole.beyond)


def test_frames_that_no_table_takes_become_gaps():
    """Times outside of the calendar cost their own frames only; values that are not finite cost none."""
    state = struct.pack("<8f", *[math.nan] * 4, *[math.inf] * 4)
    times = struct.pack("<4q", 0, FIRST_US - 1, 0, LAST_US + 1)
    [checked, untouched] = quarantine([block(0, 4, state=state, timestamps=times), block(7, 2)])
    reason = "the timestamp is outside the years 1 to 9999"
    assert set(contents(checked)) == {0, 2}
    assert checked.gaps == (Gap(1, 2, reason), Gap(3, 4, reason))
    assert contents(untouched) == {7: values_of(7), 8: values_of(8)}


def test_every_time_of_the_calendar_is_taken():
    """The first and the last microsecond of the years 1 to 9999 are times."""
    times = struct.pack("<2q", FIRST_US, LAST_US)
    [checked] = quarantine([block(0, 2, timestamps=times)])
    assert checked.gaps == ()


def test_no_blocks_are_fine():
    """A commit of nothing but events has no columns to look at."""
    assert quarantine([]) == []
    assert quarantine([block(0, 2, gap="lost", timestamps=b"", state=b"", action=b"")])[0].rows == 0


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"a": 1.5, "b": [True, None, "x"]}, '{"a":1.5,"b":[true,null,"x"]}'),
        ({"n": math.nan}, '{"n":null}'),
        ({"path": "C:\\u0000"}, '{"path":"C:\\\\u0000"}'),
        ({"t": datetime(2025, 1, 1, tzinfo=UTC)}, '{"t":"2025-01-01T00:00:00Z"}'),
        ({"n": 2**64}, '{"n":18446744073709551616}'),
        ({}, "{}"),
    ],
)
def test_extra_becomes_json(content, text):
    """Whatever MessagePack can hold and JSON can say is kept."""
    assert extra_text(content, "extra") == text


def nested(depth: int) -> dict:
    return {} if depth == 0 else {"a": nested(depth - 1)}


@pytest.mark.parametrize(
    "content",
    [
        {"a": "\0"},
        {"a\0": 1},
        {"a": "\\\0"},
        {"a": msgspec.msgpack.Ext(5, b"x")},
        {"a": {(1, 2): 3}},
        {"a": "x" * MAX_EXTRA_BYTES},
        nested(MAX_EXTRA_DEPTH + 2),
        {"a": [[[nested(MAX_EXTRA_DEPTH)]]]},
    ],
    ids=[
        "nul",
        "nul in a name",
        "nul after a backslash",
        "extension",
        "tuple as name",
        "size",
        "depth",
        "lists",
    ],
)
def test_extra_that_no_table_takes_is_refused(content):
    """What the database would refuse is refused before it comes into a commit."""
    with pytest.raises(BadMessage) as caught:
        extra_text(content, "extra[3]")
    assert caught.value.field == "extra[3]"


def test_deepest_extra_is_taken():
    """The limit itself is allowed."""
    assert extra_text(nested(MAX_EXTRA_DEPTH), "extra")
