"""Frames within an episode that do not belong to it, for LeRobot's dataset did not take them. Pure.

A recorder that waits for a person, or adds every other frame only, leaves them. The rows before and after
follow each other, as they do in LeRobot's own dataset: nothing is missing there, and no time passes.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Self

import numpy as np

from teleop_export.timing.loop_times import US_PER_S, Flags, Integers, LoopTimes, SampleTimes, elapsed

Spans = tuple[tuple[int, int], ...]
# Pauses are the rule if this share of an episode's rows are equally far apart, give or take this part of it.
RULE, ALIKE = 0.9, 1 / 3
# Fewer rows that are further apart may be so by chance.
RULED_STEPS, RULED_US = 10, US_PER_S // 2


@dataclass(frozen=True)
class Pauses:
    """Frames `first` to `end - 1` of each of `spans`, which are ascending and disjoint."""

    spans: Spans = ()

    @classmethod
    def of(cls, spans: Iterable[tuple[int, int]]) -> Self:
        """Of spans in any order, which may overlap."""
        found: list[tuple[int, int]] = []
        for first, end in sorted(spans):
            if found and first <= found[-1][1]:
                first, end = found[-1][0], max(found.pop()[1], end)
            found.append((first, end))
        return cls(tuple(found))

    @cached_property
    def _before(self) -> list[int]:
        """Of each span: frames in those before it."""
        return list(accumulate((end - first for first, end in self.spans), initial=0))

    def _until(self, frame: int) -> int:
        """How many frames below `frame` they hold."""
        place = bisect_right(self.spans, frame, key=lambda span: span[0])
        return self._before[place] - (max(0, self.spans[place - 1][1] - frame) if place else 0)

    def others(self, first: int, end: int) -> int:
        """How many of the frames `first` to `end - 1` are in none."""
        return max(0, end - first) - (self._until(end) - self._until(first) if end > first else 0)

    def within(self, first: int, end: int) -> Spans:
        """Their parts between `first` and `end - 1`."""
        place = bisect_right(self.spans, first, key=lambda span: span[1])
        found = []
        for begin, stop in self.spans[place:]:
            if begin >= end:
                break
            found.append((max(begin, first), min(stop, end)))
        return tuple(found)

    def trimmed(self, runs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """The runs without the pauses at their edges; of one that is nothing else, nothing is left."""
        found = []
        for first, end in runs:
            inside = self.within(first, end)
            if inside and inside[0][0] == first:
                first = inside[0][1]
            if inside and inside[-1][1] == end:
                end = inside[-1][0]
            if first < end:
                found.append((first, end))
        return found


def in_spans(spans: Sequence[tuple[int, int]], index: Integers) -> Flags:
    """(N,) whether each of the frames lies in one of `spans`, which are ascending and disjoint."""
    if not spans:
        return np.zeros(len(index), np.bool_)
    bounds = np.array(spans, np.int64)
    place = np.searchsorted(bounds[:, 0], index, side="right") - 1
    flags: Flags = (place >= 0) & (index < bounds[place, 1])
    return flags


def without(samples: SampleTimes, times: LoopTimes, pauses: Pauses) -> tuple[SampleTimes, LoopTimes]:
    """The samples in none of the pauses, and their times, as if the loop had not run then: its iterations are
    counted without those.

    times  of these samples, and of others
    """
    if not pauses.spans:
        return samples, times
    kept = ~in_spans(pauses.spans, samples.index)
    every = samples.index[kept]
    index = every - _paused_before(pauses.spans, every)
    told = replace(closed(times.at(every), pauses.spans), index=index)
    return replace(samples.at(kept), index=index), told


def closed(times: LoopTimes, spans: Spans) -> LoopTimes:
    """The times of iterations in none of `spans`, as if none had passed there: a usual step at most.

    Where pauses are the rule, of a recorder that adds every third frame, the rows are as far apart as they
    really are.
    """
    joined = np.diff(_paused_before(spans, times.index)) > 0
    if not joined.any():
        return times
    apart = np.diff(times.index)
    ruled = _ruled(apart, np.diff(times.told_us))
    real = ~joined if ruled is None else ruled

    def close(us: Integers) -> Integers:
        steps = np.diff(us)
        usual = int(np.median(steps[real] if real.any() else steps // apart))
        closed: Integers = us[0] + elapsed(np.where(real, steps, np.minimum(steps, usual)))
        return closed

    return replace(times, told_us=close(times.told_us), due_us=close(times.due_us))


def _ruled(apart: Integers, steps: Integers) -> Flags | None:
    """(N,) which of an episode's rows are as far from the next as nearly all are; None: there is no rule.

    Two numbers of iterations may take turns: of a loop at 60 Hz a recorder of 25 rows per second takes every
    second or third one.

    apart, steps  how many iterations, and us, there are from each row to the next
    """
    median = np.median(apart)
    near = apart[2 * np.abs(apart - median) <= median]
    usual = np.mean(near) if len(near) else median
    ruled: Flags = np.abs(apart - usual) < max(1, ALIKE * usual)
    told = len(apart) >= RULED_STEPS or np.median(steps) <= RULED_US
    return ruled if told and np.count_nonzero(ruled) >= RULE * len(apart) else None


def _paused_before(spans: Spans, index: Integers) -> Integers:
    """(N,) of each of these frames, which are in none of `spans`, how many of those below it are in one."""
    if not spans:
        return np.zeros(len(index), np.int64)
    bounds = np.array(spans, np.int64)
    frames = elapsed(bounds[:, 1] - bounds[:, 0])
    before: Integers = frames[np.searchsorted(bounds[:, 1], index, side="right")]
    return before
