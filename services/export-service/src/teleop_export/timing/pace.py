"""How fast a loop really ran, and which of its samples become rows, so that a dataset plays as fast. Pure.

A dataset has one rate, and its time is a count of rows: LeRobot's `timestamp` is k / fps. How fast the loop
was is told by the times of its samples (`loop_times`), not by what it declared.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from teleop_export.timing.loop_times import (
    US_PER_S,
    Integers,
    LoopTimes,
    SampleTimes,
    Which,
    elapsed,
    usual_step,
)

# A loop was held up in a step that takes longer than this, and than this many usual ones; then it went on at
# its rate.
STALL_US = 80_000
STALL_STEPS = 2.5
# The report names a time without rows if it is at least STALL_US, and this many rows, long.
MISSING_ROWS = 2.5
# A row that jitter left without a sample gets one from at most this many samples away.
REACH = 8
# The shortest time of which a rate is reported.
MEASURED_US = US_PER_S
# How fast a loop was is measured in stretches: short, so that a fast one does not make up for a slow one, but
# of enough steps that a single late one hardly matters.
STRETCH_US, STRETCH_STEPS = 2 * US_PER_S, 30
# A loop that is slower than declared by less counts as fast as declared, and plays that much too fast.
SLOWER = 0.05
# A rate counts as the whole number above it if it is lower by at most this part.
NEARLY = 0.01

NO_STEPS = np.zeros(0, np.int64)
type Stretches = tuple[Integers, Integers, Integers]


@dataclass(frozen=True)
class Pace:
    """How fast a loop ran while it did, without stalls.

    stretches  (steps from one sample to the next, us that they took), of about STRETCH_US, or STRETCH_STEPS
    """

    stretches: tuple[tuple[int, int], ...] = ()

    @cached_property
    def moving_us(self) -> int:
        """How long all steps took, us."""
        return sum(us for _, us in self.stretches)

    @cached_property
    def steps(self) -> int:
        """How many steps there were in all stretches."""
        return sum(steps for steps, _ in self.stretches)

    @property
    def hz(self) -> float | None:
        """Samples per second, on average; None if that is told by too few of them."""
        return self.steps * US_PER_S / self.moving_us if self.moving_us >= MEASURED_US else None

    def lost(self, fps: float) -> float:
        """Which part of the time a dataset of `fps` rows per second has no rows for: 0 where the loop was
        faster, for then samples are left out."""
        lost_us = sum(max(0.0, us - steps * US_PER_S / fps) for steps, us in self.stretches)
        return lost_us / max(1, self.moving_us)

    def slow_for(self, fps: float, *, by: float = SLOWER) -> bool:
        """Whether its rows at `fps` would be over before it was: by such a part of its time, and by more than
        one step, for a single sample may be late by that."""
        return self.hz is not None and self.lost(fps) > max(by, 1 / self.steps)

    @cached_property
    def reached(self) -> int:
        """The highest whole rate that the loop had a sample for each row of; 0 if that is not told."""
        rate = int(self.hz * (1 + max(NEARLY, 1 / self.steps))) if self.hz else 0
        while rate > 1 and self.slow_for(rate, by=NEARLY):
            rate -= 1
        return rate


@dataclass(frozen=True)
class Stall:
    """For `us` there is no row between two that follow each other: those of the samples `before`, `after`."""

    before: int
    after: int
    us: int


@dataclass(frozen=True)
class Slow:
    """From sample `first` to `last` the loop ran at `hz` only: that plays too fast."""

    first: int
    last: int
    hz: float


@dataclass(frozen=True)
class Chosen:
    """The samples of an episode that become its rows.

    positions    (K,) of the samples, ascending
    pace         of all samples
    recorded_us  from the first sample to the end of the last one's step
    stalls       in order
    slow         in order
    shared       of how many samples the time is that of another one, too
    """

    positions: Integers
    pace: Pace
    recorded_us: int
    stalls: tuple[Stall, ...]
    slow: tuple[Slow, ...]
    shared: int


def measure(samples: SampleTimes, times: LoopTimes, which: Which) -> Pace:
    """The pace of samples, of which two belong together if none is missing between them.

    times  of these samples, and of others
    which  it is the pace of
    """
    # Within a run of samples none of which is missing, index and position differ by the same.
    run = samples.index - np.arange(len(samples))
    counted = samples.rows(which)
    due_us = times.at(samples.index[counted]).due_us
    steps = np.diff(due_us)[np.diff(run[counted]) == 0]
    return _pace(_in_stretches(_moving(steps, usual_step(steps))))


def choose_samples(times: LoopTimes, *, fps: int) -> Chosen:
    """The samples that become an episode's rows.

    Every one, as long as `fps` rows per second are never ahead of them by more than a row; in stretches in
    which they are, those nearest to the times of the rows (`thin_out`). A clock that does not move says
    nothing: then every one, too.

    times  (N,) of the episode's samples
    """
    steps = np.diff(times.due_us)
    usual = usual_step(steps)
    moving = _moving(steps, usual)
    positions = _thinned(moving, elapsed(steps), usual, fps) if usual else np.arange(len(times.index))
    stretches = _in_stretches(moving if usual else NO_STEPS)
    told_us = times.told_us - times.told_us[:1]
    return Chosen(
        positions,
        _pace(stretches),
        int(told_us[-1]) + usual if len(told_us) else 0,
        _stalls(positions, told_us[positions], fps),
        _slow(moving, stretches, fps),
        int(np.count_nonzero(times.shared)),
    )


def _thinned(moving: Integers, elapsed_us: Integers, usual: int, fps: int) -> Integers:
    # In units of 1 / fps us, in which rows are US_PER_S apart: whole numbers, so nothing is rounded.
    ahead = np.arange(len(elapsed_us)) * US_PER_S - elapsed(moving) * fps
    lead = ahead - np.minimum.accumulate(ahead)
    begins = np.flatnonzero(lead == 0)
    ends = np.concatenate([begins[1:], [len(lead)]])
    kept: list[Integers] = []
    reached = 0
    for stretch in np.flatnonzero(np.maximum.reduceat(lead, begins) > US_PER_S).tolist():
        first, end = int(begins[stretch]), int(ends[stretch])
        kept.append(np.arange(reached, first))
        kept.append(first + thin_out(elapsed_us[first:end] - elapsed_us[first], usual_us=usual, fps=fps))
        reached = end
    positions: Integers = np.concatenate([*kept, np.arange(reached, len(lead))]).astype(np.int64)
    return positions


def thin_out(elapsed_us: Integers, *, usual_us: int, fps: int) -> Integers:
    """The samples nearest to the times of the rows.

    Row k is at k / fps after the first sample, and takes the nearest of the samples within half a row's time,
    of two as near the earlier one. So none is used twice. Where none is near, there is no row, unless one
    nearby has two: a loop hardly faster than the rows loses none of them to its jitter. The last row is at
    most half a usual step after the last sample.

    elapsed_us  (N,) since the first sample, N >= 1, never descending
    returns     (K,) positions, ascending
    """
    at = elapsed_us * fps
    row = (at + US_PER_S // 2) // US_PER_S
    row = row[row * US_PER_S <= at[-1] + fps * usual_us // 2]
    row = _spread(row)
    early = row * US_PER_S - at[: len(row)]
    # By row, and within it the nearest first; the sort is stable, so of two as near the earlier comes first.
    order = np.lexsort((np.abs(early), row))
    ordered = row[order]
    nearest: Integers = order[np.concatenate([[True], ordered[1:] != ordered[:-1]])]
    return nearest


def _spread(row: Integers) -> Integers:
    """The row of each sample, after single rows that had none took one from near ones that have several.

    The samples between move along, each by one row.
    """
    spread = row.copy()
    twice = np.concatenate([[0, 0], np.cumsum(np.diff(row) == 0)])
    gaps = np.flatnonzero(np.diff(row) == 2)
    near = twice[np.minimum(gaps + 2 + REACH, len(row))] > twice[np.maximum(gaps + 1 - REACH, 0)]
    for last in gaps[near].tolist():
        for moved, by in _shifts(spread, last):
            if (spread[moved] == row[moved]).all():
                spread[moved] += by
                break
    return spread


def _shifts(row: Integers, last: int) -> Iterator[tuple[slice, int]]:
    """What can be moved, and which way, to give the row after that of sample `last` one; nearest first."""
    left, right = last, last + 1
    for _ in range(REACH):
        if left > 0 and row[left] == row[left - 1]:
            yield slice(left, last + 1), 1
        if right + 1 < len(row) and row[right] == row[right + 1]:
            yield slice(last + 1, right + 1), -1
        if left > 0 and row[left] - row[left - 1] == 1:
            left -= 1
        if right + 1 < len(row) and row[right + 1] - row[right] == 1:
            right += 1


def _stalls(positions: Integers, elapsed_us: Integers, fps: int) -> tuple[Stall, ...]:
    """Where so much time passed between two rows that the dataset plays them too soon."""
    apart = np.diff(elapsed_us)
    long = np.flatnonzero(apart >= max(STALL_US, MISSING_ROWS * US_PER_S / fps))
    return tuple(
        Stall(int(positions[each]), int(positions[each + 1]), int(apart[each])) for each in long.tolist()
    )


def _slow(moving: Integers, stretches: Stretches, fps: int) -> tuple[Slow, ...]:
    """Where the loop was slower than `fps` for a stretch, of those that follow each other one."""
    number, steps, us = stretches
    found: list[Slow] = []
    for each in np.flatnonzero((steps * US_PER_S < us * fps * (1 - SLOWER)) & (us >= MEASURED_US)).tolist():
        first, last = np.searchsorted(number, [each, each + 1]).tolist()
        if found and found[-1].last == first:
            first = found.pop().first
        took = int(moving[first:last].sum())
        found.append(Slow(first, last, (last - first) * US_PER_S / took))
    return tuple(found)


def _pace(stretches: Stretches) -> Pace:
    _, steps, us = stretches
    return Pace(tuple(zip(steps.tolist(), us.tolist(), strict=True)))


def _in_stretches(moving: Integers) -> Stretches:
    """The stretch of each step; of each stretch how many steps it has, and how long they took."""
    if not len(moving):
        return NO_STEPS, NO_STEPS, NO_STEPS
    at_us = elapsed(moving)
    stretch = at_us[:-1] // max(STRETCH_US, STRETCH_STEPS * int(np.median(moving)))
    begins = np.concatenate([[True], stretch[1:] != stretch[:-1]])
    bounds = np.append(np.flatnonzero(begins), len(moving))
    return np.cumsum(begins) - 1, np.diff(bounds), np.diff(at_us[bounds])


def _moving(steps: Integers, usual: int) -> Integers:
    """The steps without the time that the loop was held up, and did not make up for."""
    return np.where(steps > max(STALL_US, STALL_STEPS * usual), usual, steps)
