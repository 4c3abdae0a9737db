"""What a connection may say next, and what it means."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from teleop_schema.errors import BadMessage
from teleop_schema.plain import FRAMES_AT_ONCE, PlainFrame
from teleop_telemetry.frames.block import MAX_EXTRA_BYTES, FrameExtras
from teleop_telemetry.receiving.session import AcknowledgedSession, Known, PlainSession, Rewind, StoreFrames
from teleop_testing.robots.robot import batch

ARRIVED_US = 1_763_860_000_000_000


def session(next_frame: int = 0) -> AcknowledgedSession:
    return AcknowledgedSession(next_frame=next_frame, state_width=2, action_width=2)


def stored(answer) -> tuple[int, int]:
    """First and end of the frames to store."""
    assert isinstance(answer, StoreFrames)
    return answer.block.first, answer.block.end


def test_frames_in_order_are_stored():
    """Each batch that follows the one before is stored whole."""
    robot = session()
    assert stored(robot.receive(batch(0, 5))) == (0, 5)
    assert stored(robot.receive(batch(5, 1))) == (5, 6)
    assert robot.next == 6


def test_known_frames_are_known():
    """What was taken before is not stored again, whatever the cut."""
    robot = session(10)
    assert [robot.receive(batch(first, count)) for first, count in ((0, 10), (5, 5), (9, 1))] == [Known()] * 3


def test_overlap_is_sliced():
    """Of a batch that is partly known, the rest is stored."""
    robot = session(7)
    assert stored(robot.receive(batch(5, 5))) == (7, 10)


def test_one_rewind_for_a_hole():
    """A hole is told once; what was sent behind it before the robot heard of it is dropped in silence."""
    robot = session(3)
    assert robot.receive(batch(5, 1)) == Rewind(3)
    assert robot.receive(batch(6, 1)) == Known()
    assert stored(robot.receive(batch(3, 1))) == (3, 4)
    assert robot.receive(batch(9, 1)) == Rewind(4)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=40))
def test_what_is_stored_is_a_sequence_without_hole_or_double(sends):
    """In whatever order batches come, the blocks to store follow each other exactly."""
    robot = session()
    end = 0
    for first, count in sends:
        answer = robot.receive(batch(first, count))
        if isinstance(answer, StoreFrames):
            assert stored(answer)[0] == end
            end = answer.block.end
            assert answer.block.rows == end - answer.block.first
        assert robot.next == end


@pytest.mark.parametrize("name", ["timestamps", "state", "action"])
@pytest.mark.parametrize("change", [-4, -1, 1, 8])
def test_wrong_length_names_the_array(name, change):
    """Arrays that do not hold count frames are refused, and the session stands where it stood."""
    robot = session()
    column = getattr(batch(0, 3), name)
    wrong = column[:change] if change < 0 else column + bytes(change)
    with pytest.raises(BadMessage) as caught:
        robot.receive(batch(0, 3, **{name: wrong}))
    assert caught.value.field == name
    assert robot.next == 0


@pytest.mark.parametrize("offset", [-1, 3, 4096])
def test_extra_of_an_unknown_frame_is_refused(offset):
    """Extra speaks of frames of its own batch only."""
    with pytest.raises(BadMessage) as caught:
        session().receive(batch(0, 3, extra={offset: {"a": 1}}))
    assert caught.value.field == "extra"
    with pytest.raises(BadMessage, match=f"frame {offset} of 3"):
        session().receive(batch(0, 3, observation_ages_us={offset: 1}))


@pytest.mark.parametrize("name", ["timestamps", "state", "action"])
def test_gap_carries_no_values(name):
    """A gap that has values is a contradiction."""
    arrays = {"timestamps": b"", "state": b"", "action": b""} | {name: bytes(8)}
    with pytest.raises(BadMessage) as caught:
        session().receive(batch(0, 3, gap="lost", **arrays))
    assert caught.value.field == name


def received(plain, frames, arrived_us):
    """The block that all steps of taking frames make."""
    steps = plain.receive(frames, arrived_us)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_plain_frames_are_numbered_as_they_arrive():
    """The first frame gives names and order; values go by name, missing times are those of arrival."""
    plain = PlainSession(PlainFrame({"a": 1, "b": 2}, {"a": 3}), fps=50)
    block = received(
        plain,
        [PlainFrame({"b": 2, "a": 1}, {"a": 3}), PlainFrame({"a": 4, "b": 5}, {"a": 6}, 1.5)],
        ARRIVED_US,
    )
    first, second = block.runs
    assert [(run.first, run.count, run.untold) for run in block.runs] == [(0, 1, True), (1, 1, False)]
    assert (block.first, block.end, plain.next, block.untold_times) == (0, 2, 2, 1)
    assert struct.unpack("<4f", first.state + second.state) == (1, 2, 4, 5)
    assert struct.unpack("<2f", first.action + second.action) == (3, 6)
    assert struct.unpack("<2q", first.timestamps + second.timestamps) == (ARRIVED_US - 20_000, 1_500_000)


def test_frames_of_a_message_lie_between_the_one_before_and_its_arrival():
    """Evenly, the last one as it arrived, and no farther apart than the declared rate has it."""
    plain = PlainSession(PlainFrame({"a": 1}), fps=50)
    times = []
    for frames, arrived_us in ((3, 0), (3, 60_000), (4, 100_000), (2, 900_000), (2, 900_000)):
        block = received(plain, [PlainFrame({"a": 1})] * frames, ARRIVED_US + arrived_us)
        times.append([us - ARRIVED_US for us in struct.unpack(f"<{frames}q", block.runs[0].timestamps)])
    assert times == [
        [-40_000, -20_000, 0],
        [20_000, 40_000, 60_000],
        [70_000, 80_000, 90_000, 100_000],
        [880_000, 900_000],
        [900_000, 900_000],
    ]


def test_plain_strangers_are_kept_in_extra():
    """Names that the first frame had not are kept beside the vectors."""
    plain = PlainSession(PlainFrame({"a": 1}), fps=50)
    block = received(plain, [PlainFrame({"a": 1}), PlainFrame({"a": 1, "c": 2.5}, {"d": 3.5})], ARRIVED_US)
    assert block.beyond == {1: FrameExtras('{"observation":{"c":2.5},"action":{"d":3.5}}')}


def test_plain_frame_repeats_an_observation():
    """A plain client says how old an observation is that it repeats beside a newer action."""
    plain = PlainSession(PlainFrame({"a": 1}), fps=50)
    block = received(plain, [PlainFrame({"a": 1}), PlainFrame({"a": 1}, observation_age_us=7)], ARRIVED_US)
    assert block.beyond == {1: FrameExtras(observation_age_us=7)}


def test_plain_frame_that_lacks_a_name_stays():
    """What the first frame had and another one lacks is NaN there, even beside a stranger."""
    plain = PlainSession(PlainFrame({"a": 1, "b": 2}, {"a": 3}), fps=50)
    block = received(plain, [PlainFrame({"b": True, "c": 5}), PlainFrame({"a": "Infinity", "b": 1e39})], 0)
    [run] = block.runs
    assert str(struct.unpack("<4f", run.state)) == "(nan, 1.0, inf, inf)"
    assert str(struct.unpack("<2f", run.action)) == "(nan, nan)"
    assert block.beyond == {0: FrameExtras('{"observation":{"c":5}}')}


def test_a_long_message_is_taken_in_steps():
    """What it holds does not depend on them; one that can't be taken leaves the session where it was."""
    plain = PlainSession(PlainFrame({"a": 1}), fps=50)
    count = 2 * FRAMES_AT_ONCE + 5
    frames = [PlainFrame({"a": number}, timestamp=None if number % 3 else number) for number in range(count)]
    frames[FRAMES_AT_ONCE + 1] = PlainFrame({"a": 1, "b": 2})
    broken = [*frames[:-1], PlainFrame({"a": 1, "b": "x" * MAX_EXTRA_BYTES})]
    with pytest.raises(BadMessage):
        received(plain, broken, ARRIVED_US)
    parts = list(plain.receive(frames, ARRIVED_US))
    assert (len(parts), sum(parts), plain.next) == (3, 1, count)
    block = received(plain, frames, ARRIVED_US)
    assert (block.first, block.end, plain.next, block.rows) == (count, 2 * count, 2 * count, count)
    assert [index for run in block.runs for index in range(run.first, run.end)] == list(
        range(count, 2 * count)
    )
    told = [value for run in block.runs for value in struct.unpack(f"<{run.count}f", run.state)]
    assert told == [frame.observation["a"] for frame in frames]
    assert block.untold_times == sum(frame.timestamp is None for frame in frames)
    assert block.beyond.keys() == {count + FRAMES_AT_ONCE + 1}
