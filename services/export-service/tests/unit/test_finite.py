"""What becomes of values that are NaN or infinite."""

import numpy as np
import pytest
from teleop_export.errors import NotFinite
from teleop_export.sessions.finite import SHORT, Unfit, check_left_out, cut_out, not_finite
from teleop_export.sessions.recorded import Gap
from teleop_export.timing.loop_times import SampleTimes, Which
from teleop_export.timing.pauses import Pauses

NAMES = ["observation a.pos", "observation b.pos", "action a.pos"]

NEVER = Pauses()


def runs(index, numbers, *, own=None, repeated=False):
    index, numbers = np.array(index), np.array(numbers)
    flags = np.ones(len(index), np.bool_) if own is None else np.array(own)
    samples = SampleTimes(index, index * 16_667, flags, np.ones_like(flags))
    unfit = Unfit(index[numbers > 0], numbers[numbers > 0])
    return not_finite(samples, unfit, NAMES, Which(repeated=repeated))


def test_runs_are_named_by_their_joint():
    """A run ends where a frame is fine, is missing, or another joint is the first that is not."""
    found = runs([0, 1, 2, 3, 4, 8, 9], [0, 1, 1, 3, 0, 3, 3])
    assert [(gap.first, gap.end, gap.reason) for gap in found] == [
        (1, 3, "observation a.pos is NaN or infinite"),
        (3, 4, "action a.pos is NaN or infinite"),
        (8, 10, "action a.pos is NaN or infinite"),
    ]


def test_frames_that_become_no_rows_do_not_count():
    """Unless they do, being asked for."""
    some = ([0, 1, 2], [0, 2, 0])
    assert runs(*some, own=[True, False, True]) == ()
    assert len(runs(*some, own=[True, False, True], repeated=True)) == 1


def test_short_pieces_go_with_what_was_cut_out():
    """Only those beside a cut: a short run without any stays."""
    unfit = [Gap(100, 102, "x is NaN or infinite"), Gap(110, 111, "x is NaN or infinite")]
    kept, left_out = cut_out([(0, 400), (500, 520)], unfit, NEVER, loop_hz=60.0)
    assert kept == [(0, 100), (111, 400), (500, 520)]
    assert left_out == [
        (100, 102, "x is NaN or infinite"),
        (102, 110, SHORT),
        (110, 111, "x is NaN or infinite"),
    ]


def test_an_episode_that_would_lose_much_is_refused():
    """One refusal that names sensor and option, instead of many episodes of a frame."""
    unfit = [Gap(frame, frame + 1, "observation b.pos is NaN or infinite") for frame in range(0, 118, 2)]
    kept, left_out = cut_out([(0, 118)], unfit, NEVER, loop_hz=30.0)
    assert (kept, sum(end - first for first, end, _ in left_out)) == ([], 118)
    with pytest.raises(NotFinite, match=r"59 frames .* observation b\.pos") as caught:
        check_left_out("session 1", "split", [(0, 118)], left_out, NEVER)
    assert caught.value.field == "on_not_finite"
    assert "keep" in caught.value.hint


def test_a_little_loss_is_none_unless_it_is_refused():
    """Up to a twentieth."""
    left_out = [(10, 15, "observation b.pos is NaN or infinite")]
    check_left_out("session 1", "split", [(0, 100)], left_out, NEVER)
    with pytest.raises(NotFinite):
        check_left_out("session 1", "refuse", [(0, 100)], left_out, NEVER)
    with pytest.raises(NotFinite):
        check_left_out("session 1", "split", [(0, 99)], left_out, NEVER)
