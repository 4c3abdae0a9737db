"""What frames' times tell, however the frames are cut into blocks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from teleop_telemetry.frames.intervals import Intervals

LATEST_US = 10**15
NOTHING = {
    "committed": 0, "duplicates": 0, "measured_hz": None, "jitter_ms": None, "longest_stall_ms": None,
    "stall_at_frame": None, "backwards": 0, "implausible": 0,
}  # fmt: skip


def told(index, time_us, cuts=()):
    intervals = Intervals(LATEST_US)
    for each, times in zip(np.split(index, cuts), np.split(time_us, cuts), strict=True):
        intervals.add(each, times)
    return intervals.told()


def test_no_frames_tell_nothing():
    """Nor does a single one tell a rate; the longest wait ends with it."""
    assert Intervals(LATEST_US).told() == NOTHING
    one = told(np.array([7]), np.array([5]))
    assert one == NOTHING | {"committed": 1, "stall_at_frame": 7}


def test_stalls_steps_back_and_impossible_times():
    """Of several stalls as long, the first."""
    time_us = np.array([-1, 33_000, 533_000, 1_033_000, 1_000_000, LATEST_US + 1])
    found = told(np.array([0, 1, 2, 4, 4, 9]), time_us)
    assert (found["stall_at_frame"], found["backwards"], found["implausible"]) == (9, 1, 2)
    assert (found["committed"], found["duplicates"]) == (6, 1)
    assert told(np.arange(4), time_us[:4])["stall_at_frame"] == 2


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(-(10**7), 10**7), st.booleans()), min_size=1, max_size=30
    )
)
def test_blocks_make_no_difference(frames):
    """Cut anywhere, the account is the same."""
    steps, times, cut = (np.array(each) for each in zip(*frames, strict=True))
    index, time_us = np.cumsum(steps), times + 10**9
    cuts = np.flatnonzero(cut[1:]) + 1
    whole = told(index, time_us)
    assert told(index, time_us, cuts) == {
        name: value if value is None else pytest.approx(value, rel=1e-9, abs=1e-9)
        for name, value in whole.items()
    }
    periods_ms = np.diff(time_us) / 1000
    if len(periods_ms):
        assert whole["jitter_ms"] == pytest.approx(float(periods_ms.std()), rel=1e-9, abs=1e-9)
        assert whole["longest_stall_ms"] == periods_ms.max()
