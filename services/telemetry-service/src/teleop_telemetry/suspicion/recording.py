"""The frames of an episode as arrays, and what every measurement needs of them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

US_PER_S = 1_000_000
# A shorter pause does not interrupt a movement: a command that adds every third step to its dataset pauses
# at each of the others.
SHORTEST_PAUSE_S = 0.5
# Of a joint's values, what lies between these shares of them is its range: one wrong reading is not.
RANGE = (0.5, 99.5)
# From the median of absolute differences to the standard deviation of a normal distribution.
SIGMA_PER_MAD = 1.4826

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]
type Booleans = NDArray[np.bool_]


@dataclass(frozen=True)
class Recording:
    """Frames of one episode, ascending, without those that are missing, at least one.

    fps         as declared, Hz
    index       (N,) frame indexes
    time_us     (N,) capture times, us
    state       (N, S) values, NaN and infinities as they came
    action      (N, A)
    age_us      (N,) age of the observation when its action was sent; 0: it is the frame's own
    pauses      first frame and one past the last of each stretch that is not of the episode
    """

    fps: float
    index: Integers
    time_us: Integers
    state: Floats
    action: Floats
    age_us: Integers
    state_names: Sequence[str]
    action_names: Sequence[str]
    pauses: Sequence[tuple[int, int]] = ()

    @cached_property
    def names(self) -> list[str]:
        """Of all signals."""
        return signal_names(self.state_names, self.action_names)

    @cached_property
    def raw(self) -> Floats:
        """(N, S + A) all signals as they came."""
        return np.concatenate([self.state, self.action], axis=1)

    @cached_property
    def finite(self) -> Booleans:
        """(N, S + A) which of them are numbers."""
        return np.isfinite(self.raw)

    @cached_property
    def signals(self) -> Floats:
        """(N, S + A) all signals, with the last number that came before it in place of each that is none."""
        if self.finite.all():
            return self.raw
        rows = np.arange(len(self.raw))[:, None]
        last = np.maximum.accumulate(np.where(self.finite, rows, 0), axis=0)
        first = np.argmax(self.finite, axis=0)
        filled = np.take_along_axis(self.raw, np.maximum(last, first), axis=0)
        return np.where(np.isfinite(filled), filled, 0.0)

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """Positions in `signals` of each joint that has a state and an action."""
        width = len(self.state_names)
        return [
            (place, width + list(self.action_names).index(name))
            for place, name in enumerate(self.state_names)
            if name in self.action_names
        ]

    @cached_property
    def steps(self) -> Integers:
        """(N - 1,) from each frame to the next: 1 where none is missing."""
        return np.diff(self.index)

    @cached_property
    def steps_s(self) -> Floats:
        """(N - 1,) time from each frame to the next, s; none where a clock went back."""
        steps_s: Floats = np.maximum(np.diff(self.time_us), 0) / US_PER_S
        return steps_s

    @cached_property
    def joined(self) -> Booleans:
        """(N - 1,) whether no pause lies between a frame and the next."""
        joined = np.ones(len(self.steps), bool)
        for first, end in self.pauses:
            before = int(np.searchsorted(self.index, first)) - 1
            if 0 <= before < len(joined) and self.index[before + 1] >= end:
                joined[before] = False
        return joined

    @cached_property
    def period_s(self) -> float:
        """Usual time from one frame to the next; as declared, where too few frames tell it."""
        usual = self.steps_s[self.joined & (self.steps == 1)]
        median = float(np.median(usual)) if len(usual) else 0.0
        return median if median > 0 else 1 / self.fps

    @cached_property
    def smooth(self) -> Booleans:
        """(N - 1,) steps between neighbours, in about the usual time."""
        smooth: Booleans = self.joined & (self.steps == 1) & (self.steps_s < 1.5 * self.period_s)
        return smooth

    @cached_property
    def limits(self) -> tuple[Floats, Floats]:
        """(S + A,) least and greatest value of each signal, but for a few that may be wrong."""
        low, high = np.percentile(self.signals, RANGE, axis=0)
        return low, high

    def seconds(self, first: int, end: int) -> float:
        """Duration of rows `first` to `end - 1`, each as long as until the next."""
        if end <= first:
            return 0.0
        steps = self.steps_s[first : end - 1][self.joined[first : end - 1]]
        return float(steps.sum()) + self.period_s

    def moment(self, first: int, end: int) -> tuple[int, int]:
        """First frame, and one past the last, of rows `first` to `end - 1`."""
        return int(self.index[first]), int(self.index[end - 1]) + 1


def signal_names(state_names: Sequence[str], action_names: Sequence[str]) -> list[str]:
    """Names of all signals: those of the state, then those of the action."""
    return [*(f"observation.{name}" for name in state_names), *(f"action.{name}" for name in action_names)]


def without_pauses(recording: Recording) -> Recording:
    """The recording without the frames of pauses that interrupt it."""
    shortest = SHORTEST_PAUSE_S * recording.fps
    pauses = [pause for pause in recording.pauses if pause[1] - pause[0] >= shortest]
    kept = np.ones(len(recording.index), bool)
    for first, end in pauses:
        kept[slice(*np.searchsorted(recording.index, [first, end]))] = False
    return Recording(
        fps=recording.fps,
        index=recording.index[kept],
        time_us=recording.time_us[kept],
        state=recording.state[kept],
        action=recording.action[kept],
        age_us=recording.age_us[kept],
        state_names=recording.state_names,
        action_names=recording.action_names,
        pauses=pauses,
    )


def runs(mask: Booleans) -> list[tuple[int, int]]:
    """First position, and one past the last, of each stretch that is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]
