"""What the times of a session's frames tell: rate, jitter, stalls, and times that can't be right. Pure."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

type Integers = NDArray[np.int64]

US_PER_MS = 1000
US_PER_S = 1_000_000


class Intervals:
    """An account of frames that are added block by block, in the order of their index.

    latest_us  no plausible time is later; us since 2000-01-01 UTC, PostgreSQL's epoch, before which none is
    """

    def __init__(self, latest_us: int) -> None:
        self._latest_us = latest_us
        self._frames = self._duplicates = self._implausible = 0
        self._earliest_us: int | None = None
        self._last_us = 0
        # The newest frame, from which the next block goes on.
        self._newest: tuple[Integers, Integers] = (np.zeros(0, np.int64), np.zeros(0, np.int64))
        # Of the times from one frame to the next: how many, their mean and their squared distances from it.
        self._steps, self._mean_us, self._squares = 0, 0.0, 0.0
        self._backwards = 0
        self._longest_us: int | None = None
        self._stall_at: int | None = None

    def add(self, index: Integers, time_us: Integers) -> None:
        """Add the next frames.

        index    (N,) ascending, none below those added before, N >= 1
        time_us  (N,) when each was captured, us since 2000-01-01 UTC
        """
        earliest, latest = int(time_us.min()), int(time_us.max())
        if self._earliest_us is None:
            self._earliest_us, self._last_us, self._stall_at = earliest, latest, int(index[0])
        self._earliest_us = min(self._earliest_us, earliest)
        self._last_us = max(self._last_us, latest)
        self._frames += len(index)
        self._implausible += int(np.count_nonzero((time_us < 0) | (time_us > self._latest_us)))
        at, times = (np.concatenate(pair) for pair in zip(self._newest, (index, time_us), strict=True))
        self._newest = index[-1:], time_us[-1:]
        self._duplicates += int(np.count_nonzero(np.diff(at) == 0))
        self._add_steps(at[1:], np.diff(times))

    def _add_steps(self, at: Integers, steps_us: Integers) -> None:
        """Merge the steps that end at these frames; mean and squares as Chan, Golub and LeVeque do."""
        count = len(steps_us)
        if not count:
            return
        self._backwards += int(np.count_nonzero(steps_us < 0))
        longest = int(np.argmax(steps_us))
        if self._longest_us is None or steps_us[longest] > self._longest_us:
            self._longest_us, self._stall_at = int(steps_us[longest]), int(at[longest])
        mean_us, apart = float(steps_us.mean()), self._steps + count
        off_us = mean_us - self._mean_us
        self._squares += float(steps_us.var()) * count + off_us**2 * self._steps * count / apart
        self._mean_us += off_us * count / apart
        self._steps = apart

    def told(self) -> Mapping[str, Any]:
        """The account, by the names of the ledger; null is what too few frames do not tell."""
        span_us = 0 if self._earliest_us is None else self._last_us - self._earliest_us
        return {
            "committed": self._frames,
            "duplicates": self._duplicates,
            "measured_hz": (self._frames - 1) * US_PER_S / span_us if span_us else None,
            "jitter_ms": (self._squares / self._steps) ** 0.5 / US_PER_MS if self._steps else None,
            "longest_stall_ms": None if self._longest_us is None else self._longest_us / US_PER_MS,
            "stall_at_frame": self._stall_at,
            "backwards": self._backwards,
            "implausible": self._implausible,
        }
