"""When the iterations of a loop were due, from the times that its samples were given. Pure.

A sample's time may be late for reasons that say nothing of how fast the loop was: it was held up and caught
up, a line delivered a second's samples at once, a clock counts tenths or whole seconds.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

US_PER_S = 1_000_000
# What a loop was late and made up for within this time was no change of its rate.
MADE_UP_US = US_PER_S
# This much of a session, before an episode and after it, shows how late the episode's samples were.
AROUND_S = 3.0
# The usual step is measured over this many together: a loop, or a line, may bring a few samples at a time.
USUAL_STEPS = 8
# A loop catches up in steps this many times as fast as its usual ones. If more than this share of its steps
# are, a few together do not show what is usual.
CATCHES_UP, OFTEN = 2, 0.01
# A session began late if at least this share of what it made up for was made up for in such steps.
BY_BURSTS = 0.75
# Its usual step is then measured over this many times the steps within which it may catch up.
EXACTLY = 8
# Samples that share a time came after a pause if they would otherwise be this many times as slow as usual.
PAUSE = 2
# A clock stood still if at least this many samples share a time that is this many times too short for them.
STOOD_STILL, TOO_FAST = 3, 2


@dataclass(frozen=True)
class Which:
    """Which samples become rows, beside those that have an observation of their own and an action.

    repeated  those that repeat an earlier observation, too
    unacted   those without an action, too
    """

    repeated: bool = False
    unacted: bool = False


ALL = Which(repeated=True, unacted=True)


@dataclass(frozen=True)
class SampleTimes:
    """Samples of a session, ascending by index.

    index     (N,) the iteration of the loop
    taken_us  (N,) us since the Unix epoch, robot's clock
    own       (N,) whether it has an observation of its own: else it repeats an earlier one beside a newer
              action, as policies that act in chunks and interpolation leave them
    acted     (N,) whether it has an action: a robot that is only watched, or led by hand, gets none
    """

    index: Integers
    taken_us: Integers
    own: Flags
    acted: Flags

    def rows(self, which: "Which") -> Flags:
        """(N,) whether they become rows of a dataset."""
        flags: Flags = (self.own | which.repeated) & (self.acted | which.unacted)
        return flags

    def __len__(self) -> int:
        return len(self.index)

    def within(self, first: int, end: int) -> "SampleTimes":
        """Those of the iterations `first` to `end - 1`."""
        part = slice(*np.searchsorted(self.index, [first, max(first, end)]).tolist())
        return self.at(part)

    def at(self, chosen: slice | Flags) -> "SampleTimes":
        """Those that are chosen."""
        return SampleTimes(
            self.index[chosen],
            self.taken_us[chosen],
            self.own[chosen],
            self.acted[chosen],
        )


@dataclass(frozen=True)
class LoopTimes:
    """Times of a loop's iterations, which never descend.

    index    (N,) the iteration, ascending
    told_us  (N,) as the samples tell, us since any moment; those that share a time are spread evenly, and a
             step back is a usual one
    due_us   (N,) the same without what the loop was late and made up for
    shared   (N,) whether another sample has the same time
    """

    index: Integers
    told_us: Integers
    due_us: Integers
    shared: Flags

    def at(self, index: Integers) -> "LoopTimes":
        """Those of some of the iterations."""
        place = np.searchsorted(self.index, index)
        return LoopTimes(index, self.told_us[place], self.due_us[place], self.shared[place])


def loop_times(index: Integers, taken_us: Integers) -> LoopTimes:
    """The times of a stretch of a session, all of its samples.

    index     (N,) ascending; what it leaves out is missing
    taken_us  (N,) us, robot's clock, as recorded
    """
    steps = np.diff(taken_us)
    same = steps == 0
    shared = np.concatenate([same, [False]]) | np.concatenate([[False], same])
    told_us = elapsed(_spread(steps, np.diff(index)))
    due_us = _due_times(index, told_us, np.diff(index) == 1)
    return LoopTimes(index, told_us, due_us, shared[: len(index)])


def usual_step(steps: Integers) -> int:
    """The usual one of consecutive steps, us; 0 if the clock does not tell."""
    return _median_of(steps, min(USUAL_STEPS, len(steps) // USUAL_STEPS)) if len(steps) else 0


def _due_times(index: Integers, told_us: Integers, joined: Flags) -> Integers:
    """The times without what the loop was late and made up for.

    One that is held up and goes on as before does not catch up. Of one that does so often, what is usual can
    be told more exactly once its times have been levelled.

    joined  (N - 1,) whether no sample is missing between two
    """
    steps = np.diff(told_us)[joined]
    usual = usual_step(steps)
    if not usual:
        return told_us
    within = MADE_UP_US // usual
    on_average = _median_of(steps, min(within, len(steps) // USUAL_STEPS))
    if np.count_nonzero(steps * CATCHES_UP < on_average) <= OFTEN * len(steps):
        return _levelled(index, told_us, usual)
    due_us = _levelled(index, told_us, on_average)
    exactly = _median_of(np.diff(due_us)[joined], min(EXACTLY * within, len(steps) // 2))
    return _levelled(index, told_us, exactly)


def _median_of(steps: Integers, together: int) -> int:
    """The median step, `together` of them at once."""
    at, together = elapsed(steps), max(1, together)
    return int(np.median(at[together:] - at[:-together]) / together)


def elapsed(steps: Integers) -> Integers:
    """(N,) since the first of N samples, from the steps between them."""
    return np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)


def _spread(steps: Integers, apart: Integers) -> Integers:
    """The steps, so that samples which share a time lie evenly between the time before and theirs.

    Samples that arrive together were taken since those before them; of a clock that counts seconds the first
    of a second is a step after the last of the one before: either way. Where the clock stood still, and where
    it stepped back, steps are usual ones.
    """
    begins = np.concatenate([[0], np.flatnonzero(steps != 0) + 1])
    count = np.diff(np.concatenate([begins, [len(steps) + 1]]))
    gap = np.concatenate([[-1], steps[begins[1:] - 1]])
    known = gap > 0
    if not known.any():
        return np.maximum(steps, 0)
    missing = np.concatenate([[0], apart[begins[1:] - 1] - 1])
    share = gap // (count + missing)
    usual = int(np.median(share[known]))
    together = count > 1
    together[-1] |= len(count) > 1 and bool(together[-2])
    pause = together & (share > PAUSE * usual)
    # The last second of a clock that counts seconds is not over.
    pause[-1] &= gap[-1] > 1.5 * np.median(gap[known])
    unclear = ~known | (together & (share > PAUSE * usual) & ~pause)
    unclear |= (count >= STOOD_STILL) & (share * TOO_FAST < usual)
    each = np.where(pause | unclear, usual, share)
    spread = np.repeat(each, count)
    spread[begins] = np.where(unclear, usual, gap - (count - 1) * each)
    return spread[1:]


def _levelled(index: Integers, told_us: Integers, due: int) -> Integers:
    """The times without what the loop was late and made up for within MADE_UP_US.

    A loop that follows a clock, and was held up, runs its next iterations in a burst: it is as fast as ever,
    and each of its samples is a row. How late it is, if a step is `due` us, rises there and falls again: such
    hills are levelled. Of what was before the first sample nothing is known: where a burst soon makes up for
    how late it was, that is the end of a hill, too.
    """
    on_time = (index - index[0]) * due
    late, width = told_us - on_time, MADE_UP_US // due + 1
    before = _lowest_of_next(late[::-1], width)[::-1]
    level = np.maximum(before, _lowest_of_next(late, width))
    foot = _foot(late[:width], due)
    level[:foot] = late[foot]
    levelled: Integers = level + on_time
    return levelled


def _foot(late: Integers, due: int) -> int:
    """Where a hill ends that the first sample lies on; 0 if there is none.

    A loop that only was a bit faster then falls as well, but in no burst.
    """
    foot = int(np.argmax(late <= late.min() + due // 2))
    fall = -np.diff(late[: foot + 1])
    caught_up = fall[fall * CATCHES_UP > due].sum()
    return foot if caught_up >= BY_BURSTS * (late[0] - late[foot]) else 0


def _lowest_of_next(values: Integers, width: int) -> Integers:
    """(N,) of each value and its `width - 1` next ones the lowest."""
    lowest, seen = values.copy(), 1
    while seen < min(width, len(values)):
        more = min(seen, width - seen)
        lowest[:-more] = np.minimum(lowest[:-more], lowest[more:])
        seen += more
    return lowest
