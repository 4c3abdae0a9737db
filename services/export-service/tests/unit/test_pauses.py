"""Frames within an episode that LeRobot's dataset did not take."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from teleop_export.planning.plan import MAX_PAUSES, PAUSED, make_plan
from teleop_export.sessions.finite import SHORT
from teleop_export.sessions.recorded import EpisodeRow, Gap, Session
from teleop_export.sessions.spans import Choice
from teleop_export.timing.loop_times import SampleTimes, Which, loop_times
from teleop_export.timing.pace import measure
from teleop_export.timing.pauses import Pauses, in_spans, without

spans = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=6).map(
    lambda found: [(first, first + frames) for first, frames in found]
)


@given(spans, st.integers(0, 70), st.integers(0, 70))
def test_every_frame_is_in_a_pause_or_not(spans, first, frames):
    """However they overlap: what counts, cuts and tells single frames apart agrees."""
    pauses, paused = Pauses.of(spans), {n for begin, stop in spans for n in range(begin, stop)}
    end = first + frames
    others = [n for n in range(first, end) if n not in paused]
    assert pauses.others(first, end) == len(others)
    assert {n for begin, stop in pauses.within(first, end) for n in range(begin, stop)} == (
        set(range(first, end)) - set(others)
    )
    index = np.arange(first, end)
    assert index[~in_spans(pauses.spans, index)].tolist() == others
    trimmed = pauses.trimmed([(first, end)])
    assert trimmed == ([(others[0], others[-1] + 1)] if others else [])


def recorded(taken_us, index=None) -> SampleTimes:
    taken_us = np.array(taken_us, np.int64)
    index = np.arange(len(taken_us)) if index is None else np.array(index)
    flags = np.ones(len(index), np.bool_)
    return SampleTimes(index, taken_us, flags, flags)


def apart(samples, pauses):
    return without(samples, loop_times(samples.index, samples.taken_us), pauses)


def test_a_rate_is_measured_without_the_pauses():
    """A short one, too, which would be no stall; what is missing in one is not missing."""
    index = [n for n in range(240) if n != 101]
    samples = recorded(np.array(index) * 33_333, index)
    left, times = apart(samples, Pauses(((40, 42), (60, 61), (100, 150))))
    assert left.index.tolist() == list(range(240 - 53))
    assert set(np.diff(times.told_us).tolist()) == {33_333}
    assert measure(left, times, Which()).hz == pytest.approx(30.0, rel=1e-3)


def test_a_rate_of_every_third_frame_is_a_third():
    """Where pauses are the rule the rows are as far apart as they really are."""
    every = Pauses(tuple((n + 1, n + 3) for n in range(0, 300, 3)))
    left, times = apart(recorded(np.arange(300) * 11_111), every)
    assert measure(left, times, Which()).hz == pytest.approx(30.0, rel=1e-3)


def between(rows) -> Pauses:
    """What lies between these frames."""
    return Pauses(tuple((a + 1, b) for a, b in pairwise(rows) if b > a + 1))


@pytest.mark.parametrize("first", range(8))
def test_frames_taken_now_and_then_are_as_fast_as_the_loop(first):
    """Where rows follow no rule each pause is one: what it takes is no time of the episode, so that none
    of them is slow by chance. Also waypoints that a person adds, seconds apart."""
    random = np.random.default_rng(first)
    by_chance = np.flatnonzero(random.random(600) < 0.5).tolist()
    waypoints = np.cumsum(random.integers(30, 200, 12)).tolist()
    for rows in (by_chance, waypoints, [*range(20), 400, 401, 900]):
        samples = recorded(np.arange(2400) * 33_333)
        times = loop_times(samples.index, samples.taken_us)
        left, told = without(samples.within(rows[0], rows[-1] + 1), times, between(rows))
        assert len(left) == len(rows)
        assert set(np.diff(told.told_us).tolist()) == {33_333}


def test_a_rule_may_take_turns():
    """At 60 Hz 25 rows per second are every second or third frame: their time is what really passed."""
    rows = [round(row * 2.4) for row in range(200)]
    left, times = apart(recorded(np.arange(rows[-1] + 1) * 16_667), between(rows))
    assert measure(left, times, Which()).hz == pytest.approx(25.0, rel=0.01)


def session(watermark=400, *, pauses, gaps=(), **changes):
    values = {
        "id": 1,
        "robot_id": "robot_A",
        "robot_type": "so101",
        "fps": 60.0,
        "task": None,
        "state_names": ("a.pos",),
        "action_names": ("a.pos",),
        "status": "complete",
        "watermark": watermark,
        "committed": watermark - sum(gap.end - gap.first for gap in gaps),
        "gaps": tuple(gaps),
        "episodes": (EpisodeRow(0, 0, watermark),),
        "pauses": Pauses.of(pauses),
    }
    return Session(**values | changes)


def plan(session, **more):
    made = make_plan([session], choice=Choice(), **{"on_gap": "split"} | more)
    assert made.frames + sum(each.frames for each in made.excluded) == session.committed
    return made


def left_out(made):
    return [(each.first, each.end, each.frames, each.reason) for each in made.excluded]


def test_an_episode_with_a_pause_is_one():
    """Also if an episode may not be split, and frames are missing in the pause: none of its own is."""
    made = plan(session(pauses=[(30, 90)], gaps=[Gap(40, 45, "lost")]), on_gap="refuse")
    assert [(each.first, each.end, each.frames, each.pauses) for each in made.pieces] == [
        (0, 400, 340, ((30, 90),))
    ]
    assert left_out(made) == [(30, 90, 55, PAUSED)]
    assert made.gaps == ()


def test_an_episode_is_split_where_its_own_frames_are_missing():
    """A pause beside the gap belongs to neither piece."""
    made = plan(session(pauses=[(30, 90), (200, 210)], gaps=[Gap(85, 100, "lost")]))
    assert [(each.first, each.end, each.frames) for each in made.pieces] == [(0, 30, 30), (100, 400, 290)]
    assert [(gap.first, gap.end) for gap in made.gaps] == [(90, 100)]


def test_trimming_an_episode_trims_its_pauses():
    """One that begins or ends within a pause begins or ends with a frame of its own."""
    made = plan(session(pauses=[(30, 90), (200, 300)], episodes=(EpisodeRow(0, 50, 250),)))
    assert [(each.first, each.end, each.pauses) for each in made.pieces] == [(90, 200, ())]
    assert left_out(made)[1:3] == [(50, 90, 40, PAUSED), (200, 250, 50, PAUSED)]


def test_values_that_are_not_finite_do_not_matter_in_a_pause():
    """Outside of it they are cut out, and what is short then is counted without the pause."""
    unfit = (Gap(40, 50, "x is NaN or infinite"), Gap(200, 201, "x is NaN or infinite"))
    made = plan(session(2000, pauses=[(30, 90), (210, 290)], not_finite=unfit[:1]), on_not_finite="refuse")
    assert made.frames == 2000 - 140
    made = plan(
        session(2000, pauses=[(205, 290)], not_finite=(*unfit[1:], Gap(300, 301, "x is NaN or infinite")))
    )
    assert [(each.first, each.end) for each in made.pieces] == [(0, 200), (301, 2000)]
    assert (201, 300, 14, SHORT) in left_out(made)


def test_very_many_pauses_are_told_as_one():
    """Of a command that adds every third frame, the report stays readable."""
    rows = MAX_PAUSES + 10
    made = plan(session(3 * rows, pauses=[(3 * row + 1, 3 * row + 3) for row in range(rows)]))
    assert made.frames == rows
    assert left_out(made) == [(1, 3 * rows, 2 * rows, PAUSED)]
