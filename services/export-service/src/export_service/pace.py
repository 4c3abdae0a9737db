"""How fast a loop really ran, and which of its samples become rows, so that a dataset plays as fast. Pure.

A dataset has one rate, and its time is a count of rows: LeRobot's `timestamp` is k / fps. How fast the loop
was is told by the times of its samples, not by what it declared.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

US_PER_S = 1_000_000
# A loop stands still where a step takes that long, and so many of its usual ones.
STALL_US = 100_000
STALL_STEPS = 3.0
# Where so much of an episode's time has no rows, and at least so many rows, the report names it.
MISSING_ROWS = 2.5
# A row that jitter left without a sample gets one of the samples so near to it.
REACH = 8
# What a loop was late and made up for within this time was no change of its rate.
MADE_UP_US = US_PER_S
# A rate is told of as much as this.
MEASURED_US = US_PER_S
# A loop that is slower than declared by less is taken for what it declared: it plays that much too fast.
SLOWER = 0.05
# A rate is the whole number above it if so little is missing.
NEARLY = 0.01


@dataclass(frozen=True)
class Pace:
    """Steps from one sample to the next, and how long they took, a stall counting as a usual one."""

    steps: int = 0
    moving_us: int = 0

    @property
    def hz(self) -> float | None:
        """Samples per second; None if that is told by too few of them."""
        return self.steps * US_PER_S / self.moving_us if self.moving_us >= MEASURED_US else None

    def __add__(self, other: "Pace") -> "Pace":
        return Pace(self.steps + other.steps, self.moving_us + other.moving_us)


@dataclass(frozen=True)
class Samples:
    """Samples of a session, ascending by index.

    index     (N,) the iteration of the loop
    taken_us  (N,) us since the Unix epoch, robot's clock
    not_finite  (N,) 0, or which of its values, state's before action's, is the first that is not finite, from
                1 on
    own       (N,) whether it has an observation of its own: else it repeats an earlier one beside a newer
              action, as policies that act in chunks and interpolation leave them
    """

    index: Integers
    taken_us: Integers
    own: Flags
    not_finite: Integers

    def __len__(self) -> int:
        return len(self.index)

    def within(self, first: int, end: int) -> "Samples":
        """Those of the iterations `first` to `end - 1`."""
        part = slice(*np.searchsorted(self.index, [first, max(first, end)]).tolist())
        return Samples(self.index[part], self.taken_us[part], self.own[part], self.not_finite[part])


@dataclass(frozen=True)
class Stall:
    """For `us` there is no row between two that follow each other: those of the samples `before`, `after`."""

    before: int
    after: int
    us: int


@dataclass(frozen=True)
class Chosen:
    """The samples of an episode that become its rows.

    positions    (K,) of the samples, ascending
    pace         of all samples
    recorded_us  from the first sample to the end of the last one's step
    stalls       in order
    """

    positions: Integers
    pace: Pace
    recorded_us: int
    stalls: tuple[Stall, ...]


def measure(samples: Samples, *, repeated: bool) -> Pace:
    """The pace of samples, of which two belong together if none is missing between them.

    repeated  also of those without an observation of their own
    """
    # Within a run of samples none of which is missing, index and position differ by the same.
    run = samples.index - np.arange(len(samples))
    counted = samples.own | repeated
    run, taken_us = run[counted], samples.taken_us[counted]
    steps = np.diff(taken_us)[np.diff(run) == 0]
    usual = _usual(steps)
    return Pace(len(steps), int(_moving(_on_time(steps, usual), usual).sum())) if usual else Pace()


def reached(hz: float) -> int:
    """The highest whole rate that a loop of `hz` has a sample for each row of."""
    return int(hz * (1 + NEARLY))


def choose_samples(sample_us: Integers, *, fps: int) -> Chosen:
    """The samples that become an episode's rows.

    Every one, as long as `fps` rows per second are never ahead of them by more than a row; else those nearest
    to the times of the rows (`thin_out`). A clock that does not move says nothing: then every one, too.

    sample_us  (N,) us since the Unix epoch, robot's clock, as recorded; a step back counts as a usual one
    """
    steps = np.diff(sample_us)
    timely = _on_time(steps, US_PER_S // fps)
    usual = _usual(timely)
    moving = _moving(timely, usual)
    elapsed = _elapsed(np.where(steps < 0, usual, steps))
    # In units of 1 / fps us, in which rows are US_PER_S apart: whole numbers, so nothing is rounded.
    ahead = np.arange(len(sample_us)) * US_PER_S - _elapsed(moving) * fps
    if usual and len(ahead) and (ahead - np.minimum.accumulate(ahead)).max() > US_PER_S:
        positions = thin_out(elapsed, usual_us=usual, fps=fps)
    else:
        positions = np.arange(len(sample_us))
    return Chosen(
        positions,
        Pace(len(steps), int(moving.sum())) if usual else Pace(),
        int(elapsed[-1]) + usual if len(elapsed) else 0,
        _stalls(positions, elapsed[positions], fps),
    )


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


def _usual(steps: Integers) -> int:
    """The usual step, us; 0 if the clock does not tell."""
    forward = steps[steps >= 0]
    return int(np.median(forward)) if len(forward) else 0


def _on_time(steps: Integers, due: int) -> Integers:
    """The steps as they would have been without what a loop was late and made up for within MADE_UP_US.

    A loop that follows a clock, and was held up, runs its next iterations in a burst: it is as fast as ever,
    and each of its samples is a row. How late it is, if a step is `due` us, rises there and falls again: such
    hills are levelled, the sum stays.
    """
    if not due or not (steps > due + due // 2).any():
        return steps
    late, width = _elapsed(steps - due), MADE_UP_US // due + 1
    before = _lowest_of_next(late[::-1], width)[::-1]
    return np.diff(np.maximum(before, _lowest_of_next(late, width))) + due


def _lowest_of_next(values: Integers, width: int) -> Integers:
    """(N,) of each value and its `width - 1` next ones the lowest."""
    lowest, seen = values.copy(), 1
    while seen < min(width, len(values)):
        more = min(seen, width - seen)
        lowest[:-more] = np.minimum(lowest[:-more], lowest[more:])
        seen += more
    return lowest


def _moving(steps: Integers, usual: int) -> Integers:
    """The steps without the time that the loop stood still, or its clock was set."""
    still = (steps < 0) | (steps > max(STALL_US, STALL_STEPS * usual))
    return np.where(still, usual, steps)


def _elapsed(steps: Integers) -> Integers:
    return np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)
