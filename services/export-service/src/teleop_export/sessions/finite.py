"""What becomes of samples that hold a value which is NaN or infinite. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from teleop_schema.words import counted

from teleop_export.errors import NotFinite
from teleop_export.sessions.recorded import Gap
from teleop_export.timing.loop_times import Integers, SampleTimes, Which
from teleop_export.timing.pauses import Pauses

OnNotFinite = Literal["split", "keep", "refuse"]

# A shorter piece between two cuts teaches nothing.
SHORTEST_S = 1.0
SHORT = "a rest of less than a second beside NaN or infinite values"
# An episode that would lose more is refused: its sensor is broken, or named wrongly.
MOST_LOST = 0.05

Run = tuple[int, int]


@dataclass(frozen=True)
class Unfit:
    """Samples of a session with a value that is not finite.

    index   (N,) of the samples, ascending
    number  (N,) which of its values, state's before action's, is the first such one, from 1 on
    """

    index: Integers
    number: Integers


def not_finite(samples: SampleTimes, unfit: Unfit, names: Sequence[str], which: Which) -> tuple[Gap, ...]:
    """Runs of samples with a value that is not finite, each with the first name of such a value.

    samples  all of the session's
    names    of the values of state and action, in this order
    which    of them become rows: the others are not meant
    """
    rows = samples.rows(which)[np.searchsorted(samples.index, unfit.index)]
    index, number = unfit.index[rows], unfit.number[rows]
    if not len(index):
        return ()
    edges = np.flatnonzero((np.diff(index) != 1) | (np.diff(number) != 0)) + 1
    begins, ends = np.concatenate([[0], edges]), np.concatenate([edges, [len(index)]])
    return tuple(
        Gap(int(index[begin]), int(index[end - 1]) + 1, f"{names[number[begin] - 1]} is NaN or infinite")
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
    )


def cut_out(
    runs: Sequence[Run], unfit: Sequence[Gap], pauses: Pauses, *, loop_hz: float
) -> tuple[list[Run], list[tuple[int, int, str]]]:
    """Frames that are left of `runs` without the `unfit` ones, and those that are not, each with the reason.

    unfit   ascending, disjoint
    pauses  none of whose frames are meant, though runs may hold them
    """
    kept: list[Run] = []
    left_out: list[tuple[int, int, str]] = []
    for first, end in runs:
        gaps = [gap for gap in unfit if gap.end > first and gap.first < end]
        reached = first
        for gap in (*gaps, Gap(end, end, "")):
            for part in pauses.trimmed([(reached, gap.first)]):
                if gaps and pauses.others(*part) < SHORTEST_S * loop_hz:
                    left_out.append((*part, SHORT))
                else:
                    kept.append(part)
            if gap.first < gap.end:
                left_out.append((max(gap.first, first), min(gap.end, end), gap.reason))
            reached = gap.end
    return kept, left_out


def check_left_out(
    named: str,
    on_not_finite: OnNotFinite,
    runs: Sequence[Run],
    left_out: Sequence[tuple[int, int, str]],
    pauses: Pauses,
) -> None:
    """Raise NotFinite if an episode loses frames and may not, or more of them than MOST_LOST."""
    lost, frames = _count(left_out, pauses), _count(runs, pauses)
    if not lost or (on_not_finite == "split" and lost <= MOST_LOST * frames):
        return
    unfit = [each for each in left_out if each[2] != SHORT]
    unfit_frames, (first, _, reason) = _count(unfit, pauses), unfit[0]
    raise NotFinite(
        f"{named} has {counted(unfit_frames, 'frame')} with a NaN or infinite value: {reason} in frame "
        f"{first}; without such frames, and rests shorter than a second, it would lose {lost / frames:.1%}",
        field="on_not_finite",
        hint='set `"on_not_finite": "keep"` to keep them as they are, or give the episode the outcome '
        '"discarded"',
    )


def _count(runs: Sequence[tuple[int, int] | tuple[int, int, str]], pauses: Pauses) -> int:
    return sum(pauses.others(run[0], run[1]) for run in runs)
