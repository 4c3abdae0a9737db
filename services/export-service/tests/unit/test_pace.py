"""How fast a loop ran, and which of its samples become rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from teleop_export.timing.loop_times import US_PER_S, SampleTimes, Which, loop_times
from teleop_export.timing.pace import MISSING_ROWS, STALL_US, choose_samples, measure, thin_out

NOTHING = np.zeros(0, np.int64)
EPOCH_US = 1_763_860_000_000_000


def integers(*values):
    return np.array(values, np.int64)


def measured(sample_us, *, own=None, repeated=False):
    flags = np.ones(len(sample_us), np.bool_) if own is None else own
    index = np.arange(len(sample_us))
    samples = SampleTimes(index, sample_us, flags, np.ones_like(flags))
    return measure(samples, loop_times(index, sample_us), Which(repeated=repeated))


def chosen_of(sample_us, *, fps, episode=slice(None)):
    """Of an episode of a session with such times."""
    index = np.arange(len(sample_us))
    return choose_samples(loop_times(index, sample_us).at(index[episode]), fps=fps)


def reached(hz):
    """What a loop that keeps its rate reaches."""
    return int(hz * 1.01)


def thinned(sample_us, *, fps):
    steps = np.diff(sample_us)
    return thin_out(sample_us - sample_us[0], usual_us=int(np.median(steps)), fps=fps)


@st.composite
def loops(draw, *, rates=(10, 120), drift=0.0, stalls=3):
    """Times of a loop that keeps its rate, late by up to a third of a step, and stands still now and then.

    Returned with the rate, and how often it stood still.
    """
    hz = draw(st.floats(*rates))
    jitter = draw(st.floats(0, 0.3))
    count = round(draw(st.floats(2, 20)) * hz)
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    steps = US_PER_S / hz * np.linspace(1 - drift, 1 + drift, count)
    steps += US_PER_S / hz * np.diff(random.uniform(0, jitter, count + 1))
    at = draw(st.lists(st.integers(1, count - 6), max_size=stalls, unique=True))
    steps[at] = draw(st.lists(st.integers(400_000, 3_000_000), min_size=len(at), max_size=len(at)))
    sample_us = EPOCH_US + np.rint(np.concatenate([[0], np.cumsum(steps)])).astype(np.int64)
    return sample_us, hz, len(at)


@st.composite
def any_times(draw):
    """Times of a loop that jitters and stalls, and whose clock may step back."""
    steps = st.one_of(st.integers(10_000, 25_000), st.integers(0, 3_000_000), st.integers(-5_000_000, 0))
    return np.cumsum(draw(st.lists(steps, min_size=1, max_size=80))) + EPOCH_US


def test_every_second_sample_of_a_loop_twice_as_fast():
    """The samples that lie on the times of the rows."""
    assert thinned(np.arange(9) * 20_000, fps=25).tolist() == [0, 2, 4, 6, 8]


def test_nearest_sample_is_taken():
    """Where no sample lies on a row's time; of two as near, the earlier one."""
    times = integers(0, 15_000, 30_000, 50_000, 70_000, 95_000)
    assert thinned(times, fps=25).tolist() == [0, 2, 4]


def test_episode_has_no_row_after_its_end():
    """Of 200 samples at 60 Hz every second is taken, and the last of them is not taken for a row after it."""
    sample_us = np.rint(np.arange(200) * US_PER_S / 60).astype(np.int64)
    assert chosen_of(sample_us, fps=30).positions.tolist() == list(range(0, 200, 2))


def test_a_stall_leaves_no_rows_and_is_told():
    """No sample is used twice, and none is invented."""
    times = np.concatenate([np.arange(5) * 10_000, 1_000_000 + np.arange(5) * 10_000])
    chosen = chosen_of(times, fps=50)
    assert chosen.positions.tolist() == [0, 2, 4, 5, 7, 9]
    assert [(stall.before, stall.after, stall.us) for stall in chosen.stalls] == [(4, 5, 960_000)]


def test_a_stall_at_the_loops_own_rate_is_told():
    """All samples are rows, so nothing else shows it."""
    times = np.concatenate([np.arange(30), 35 + np.arange(30)]) * US_PER_S // 30
    chosen = chosen_of(times, fps=30)
    assert len(chosen.positions) == 60
    assert [(stall.before, stall.after, stall.us) for stall in chosen.stalls] == [(29, 30, 200_000)]


@pytest.mark.parametrize("times", [NOTHING, np.full(90, EPOCH_US)], ids=["none", "all the same"])
def test_times_that_tell_nothing_leave_every_sample(times):
    """A clock that stands still is no reason to throw samples away."""
    chosen = chosen_of(times, fps=30)
    assert len(chosen.positions) == len(times)
    assert chosen.pace.hz is None


def test_jitter_costs_no_rows():
    """A loop a hair faster than the rows loses one row in two thousand to that, and none to its jitter."""
    random = np.random.default_rng(7)
    late = random.uniform(0, 8_000, 6001)
    sample_us = np.rint(np.arange(6001) * US_PER_S / 30.015 + late).astype(np.int64)
    chosen = chosen_of(np.maximum.accumulate(sample_us), fps=30)
    assert len(chosen.positions) == pytest.approx(5998, abs=3)


@given(any_times(), st.integers(1, 60))
def test_rows_are_samples_in_their_order(sample_us, fps):
    """Each at most once, the first among them."""
    chosen = chosen_of(sample_us, fps=fps)
    assert chosen.positions[0] == 0
    assert (np.diff(chosen.positions) > 0).all()


@given(loops(), st.sampled_from([15, 30, 60]))
def test_dataset_lasts_as_long_as_the_recording(loop, declared):
    """Whatever was declared: within a row and what a step jitters; so for each stall, which is told."""
    sample_us, hz, stalls = loop
    pace = measured(sample_us)
    fps = declared if pace.hz >= declared else reached(pace.hz)
    chosen = chosen_of(sample_us, fps=fps)
    row_us = US_PER_S / fps
    told = sum(stall.us - row_us for stall in chosen.stalls)
    slack = (stalls + 0.3) * (row_us + US_PER_S / hz) + 0.01 * chosen.recorded_us * (fps > pace.hz)
    assert len(chosen.stalls) == stalls
    assert len(chosen.positions) * row_us == pytest.approx(chosen.recorded_us - told, abs=row_us + slack + 2)


@given(loops(rates=(45, 120), drift=0.3, stalls=0))
def test_a_loop_that_slows_down_is_thinned_where_it_is_fast(loop):
    """Its mean says nothing: each part plays as fast as it was."""
    sample_us, _, stalls = loop
    chosen = chosen_of(sample_us, fps=30)
    times = sample_us[chosen.positions]
    moved = np.diff(times)[np.diff(times) < 2 * STALL_US]
    late = np.cumsum(moved - US_PER_S / 30)
    assert np.abs(late).max() <= (2 + 2 * stalls) * US_PER_S / 30


@given(st.integers(0, 2**32), st.sampled_from([4, 5, 10]), st.integers(8, 120))
def test_a_loop_of_few_samples_a_second_is_not_slow_by_chance(seed, hz, count):
    """However late each of them is within its time, and however short its episode: a whole rate less would be
    a fourth of its rows."""
    late = np.random.default_rng(seed).uniform(0, 0.5, count)
    pace = measured(EPOCH_US + np.rint((np.arange(count) + late) * US_PER_S / hz).astype(np.int64))
    assert not pace.slow_for(hz)
    assert pace.hz is None or pace.reached >= hz


def test_samples_that_repeat_an_observation_are_no_steps():
    """A loop of 30 Hz that observes at every fifteenth iteration records 2 observations a second."""
    sample_us = np.rint(np.arange(300) * US_PER_S / 30).astype(np.int64)
    own = np.arange(300) % 15 == 0
    assert measured(sample_us, own=own).hz == pytest.approx(2.0, rel=1e-3)
    assert measured(sample_us, own=own, repeated=True).hz == pytest.approx(30.0, rel=1e-3)


def test_what_is_missing_is_no_step():
    """Nor does a gap make a loop slow."""
    index = np.concatenate([np.arange(60), 300 + np.arange(60)])
    sample_us = np.rint(index * US_PER_S / 30).astype(np.int64)
    samples = SampleTimes(index, sample_us, np.ones(120, np.bool_), np.ones(120, np.bool_))
    assert measure(samples, loop_times(index, sample_us), Which()).hz == pytest.approx(30.0, rel=1e-3)


@given(loops())
def test_measured_rate_is_that_of_the_moving_loop(loop):
    """Stalls make no loop slow."""
    sample_us, hz, _ = loop
    assert measured(sample_us).hz == pytest.approx(hz, rel=0.15)


def test_what_was_late_and_made_up_for_is_kept():
    """A loop that follows a clock runs a burst after it was held up: each of its samples is a row."""
    due = np.arange(300) * 16_667
    for first, held_up_us in ((50, 60_000), (200, 400_000)):
        due[first:] = np.maximum(due[first:], due[first] + held_up_us + 2_000 * np.arange(300 - first))
    chosen = chosen_of(due, fps=60)
    assert len(chosen.positions) == 300
    assert chosen.pace.hz == pytest.approx(60, rel=0.01)


@given(st.integers(0, 2**32), st.floats(0.02, 0.2), st.sampled_from([15, 30, 60]))
def test_a_loop_that_keeps_up_on_a_busy_machine_is_kept_whole(seed, often, fps):
    """However often it is held up, also while it makes up for the last time."""
    random, taken, free, late_since = np.random.default_rng(seed), [], 0, 0
    for due in range(0, 20 * US_PER_S, US_PER_S // fps):
        if free < due:
            late_since = due
        at = max(due, free)
        if taken and at - late_since < 300_000 and random.random() < often:
            at += int(random.integers(330_000))
        taken.append(at)
        free = at + 2_000
    assert len(chosen_of(np.array(taken), fps=fps).positions) == len(taken)


@st.composite
def loops_that_keep_up(draw):
    """Times of a loop that follows a clock, is held up now and then, also for long, and catches up in bursts;
    with its rate."""
    fps = draw(st.sampled_from([15, 30, 60]))
    count = draw(st.integers(8 * fps, 12 * fps))
    due = np.arange(count) * (US_PER_S / fps)
    at = due.copy()
    for _ in range(draw(st.integers(0, 5))):
        first = draw(st.integers(0, count - 1))
        held_up_us = draw(st.integers(20_000, 400_000))
        at[first:] = np.maximum(at[first:], at[first] + held_up_us + 2_000 * np.arange(count - first))
        # One after the other: a loop that never catches up is slow.
        late = at - due > 500_000
        at[late] = due[late] + 500_000
    return EPOCH_US + np.maximum.accumulate(np.rint(at)).astype(np.int64), fps


@pytest.mark.parametrize("end", [3, 9, 31, 120])
@pytest.mark.parametrize("fps", [15, 30, 60])
def test_a_session_that_begins_in_a_burst_has_all_its_rows(fps, end):
    """It began when the loop was half a second late."""
    at = np.maximum(np.arange(600) * (US_PER_S / fps), 500_000 + 2_000 * np.arange(600))
    chosen = chosen_of(np.rint(at).astype(np.int64), fps=fps, episode=slice(0, end))
    assert len(chosen.positions) == end


@given(loops_that_keep_up(), st.data())
def test_an_episode_of_a_loop_that_keeps_up_has_all_its_rows(loop, data):
    """Wherever it begins and ends, in the middle of a burst too."""
    sample_us, fps = loop
    first = data.draw(st.integers(0, len(sample_us) - 2))
    end = data.draw(st.integers(first + 1, len(sample_us)))
    chosen = chosen_of(sample_us, fps=fps, episode=slice(first, end))
    assert len(chosen.positions) == end - first


@given(loops(), st.data())
def test_an_episode_is_as_long_as_the_part_of_the_session_that_it_is(loop, data):
    """A loop that does not catch up is thinned out alike, wherever it is cut.

    A stall that leaves out less than MISSING_ROWS is not told.
    """
    sample_us, hz, stalls = loop
    fps = max(1, int(hz / 1.7))
    first = data.draw(st.integers(0, len(sample_us) // 2))
    chosen = chosen_of(sample_us, fps=fps, episode=slice(first, None))
    told = sum(stall.us - US_PER_S / fps for stall in chosen.stalls)
    rows_us = len(chosen.positions) * US_PER_S / fps
    slack = (2 + MISSING_ROWS * stalls) * US_PER_S / fps
    assert rows_us == pytest.approx(chosen.recorded_us - told, abs=slack + 0.01 * chosen.recorded_us)


@pytest.mark.parametrize(
    "at_s",
    [
        [k // 15 * 0.5 for k in range(240)],
        [k // 5 / 6 for k in range(240)],
        [k // 2 / 15 for k in range(240)],
        [int(k / 30 + 0.37) for k in range(240)],
        [round(k / 30, 1) for k in range(240)],
        [k // 120 * 4 for k in range(240)],
    ],
    ids=["15 at once", "5 at once", "2 at once", "whole seconds", "tenths", "120 at once"],
)
def test_samples_that_share_a_time_are_all_rows(at_s):
    """Such a time tells nothing about the samples' rate; the seconds do. It is told, and is no stall."""
    chosen = chosen_of(EPOCH_US + np.rint(np.array(at_s) * US_PER_S).astype(np.int64), fps=30)
    assert len(chosen.positions) == 240
    assert chosen.pace.hz == pytest.approx(30, rel=0.01)
    assert chosen.shared >= 239
    assert chosen.stalls == ()


def test_samples_that_share_a_time_are_thinned_as_others():
    """Twenty samples every tenth of a second are 200 a second, of which 20 become rows."""
    chosen = chosen_of(EPOCH_US + np.arange(400) // 20 * 100_000, fps=20)
    assert len(chosen.positions) == 40


def test_while_a_clock_stands_still_every_sample_is_a_row():
    """In that stretch alone it tells nothing."""
    at_s = np.concatenate([np.arange(150) / 30, np.full(150, 5.0), 5 + np.arange(150) / 30])
    chosen = chosen_of(EPOCH_US + np.rint(at_s * US_PER_S).astype(np.int64), fps=30)
    assert len(chosen.positions) == 450
    assert chosen.shared == 151


def test_a_burst_at_the_beginning_costs_nothing():
    """Neither its own samples nor those of the minute after it, where a line stalls and catches up."""
    at_s = np.arange(1800) / 30
    at_s[:4] = 0.1 + np.arange(4) * 1e-4
    for second in (10, 20, 30):
        at_s = np.where((at_s >= second) & (at_s < second + 0.4), second + 0.4 + at_s * 1e-6, at_s)
    chosen = chosen_of(EPOCH_US + np.rint(at_s * US_PER_S).astype(np.int64), fps=30)
    assert len(chosen.positions) == 1800


def test_a_loop_that_is_held_up_each_second_keeps_its_rate():
    """It does not catch up: its rows stay, and each time is told."""
    steps = np.where(np.arange(599) % 30 == 0, 90_000, 33_333)
    sample_us = EPOCH_US + np.concatenate([[0], np.cumsum(steps)])
    chosen = chosen_of(sample_us, fps=30)
    assert not measured(sample_us).slow_for(30)
    assert len(chosen.positions) == 600
    assert len(chosen.stalls) == 20


def test_a_loop_that_is_held_up_all_the_time_is_slow():
    """That is its pace then."""
    steps = np.where(np.arange(599) % 3 == 0, 110_000, 33_333)
    assert measured(EPOCH_US + np.concatenate([[0], np.cumsum(steps)])).hz == pytest.approx(17, abs=0.1)


def test_a_fast_half_makes_up_for_no_slow_one():
    """At the mean of both, one would play too slowly and the other too fast."""
    sample_us = EPOCH_US + np.cumsum(np.repeat([33_333, 66_667], [300, 150]))
    pace = measured(sample_us)
    assert pace.slow_for(30)
    assert pace.reached == 15
    chosen = chosen_of(sample_us, fps=15)
    row_s = (sample_us[chosen.positions] - sample_us[0]) / US_PER_S
    assert np.abs(row_s - np.arange(len(row_s)) / 15).max() < 1 / 15


def test_a_stretch_too_short_to_change_the_rate_is_told():
    """Two slow seconds of a minute."""
    sample_us = EPOCH_US + np.cumsum(np.repeat([33_333, 66_667, 33_333], [900, 30, 900]))
    assert not measured(sample_us).slow_for(30)
    (slow,) = chosen_of(sample_us, fps=30).slow
    assert 895 <= slow.first < slow.last <= 935
    assert slow.hz == pytest.approx(15, rel=0.1)
