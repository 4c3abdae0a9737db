"""What is kept of each episode, so that others can be compared with it. Pure."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from teleop_telemetry.suspicion.recording import Floats, Recording

# Moments of an episode at which it is compared with others.
SHAPE_POINTS = 32
# Frames that tell where an episode ends.
END_FRAMES = 5
# Episodes of a robot type, the latest, that are its history; fewer than the least are none.
MOST_HISTORY, LEAST_HISTORY = 50, 5
# Of the steps of a joint, the share that is slower than what counts as fast.
FAST = 99.0
# Without a history, fewer of the episode's own steps count as fast, so that one wrong one does not.
OWN_FAST = 98.0
# Of what earlier episodes say of each signal.
USUAL, NEARLY_ALL = 50.0, 90.0


class Digest(Struct, frozen=True):
    """What is kept of an episode.

    duration_s  without its pauses
    names       (K,) of its signals
    low, high   (K,) their limits
    fast        (K,) their fast steps, units per s
    rough       (K,) their roughest second: median of the third differences within, units
    end         (S,) where the joints end; those of the state, or else of the action
    shape       (32 x S) where they are at 32 moments, from the first to the last
    """

    duration_s: float
    names: list[str]
    low: list[float]
    high: list[float]
    fast: list[float]
    rough: list[float]
    end: list[float]
    shape: list[float]


class History:
    """What is usual for robots of a type, by other episodes with the same signals and rate."""

    def __init__(self, digests: Sequence[Digest] = ()) -> None:
        self.known = len(digests) >= LEAST_HISTORY
        if self.known:
            self._low = np.percentile([each.low for each in digests], 100 - NEARLY_ALL, axis=0)
            self._high = np.percentile([each.high for each in digests], NEARLY_ALL, axis=0)
            self._fast = np.percentile([each.fast for each in digests], NEARLY_ALL, axis=0)
            self._rough = np.percentile([each.rough for each in digests], USUAL, axis=0)

    def limits(self, recording: Recording) -> tuple[Floats, Floats]:
        """(K,) least and greatest value of each signal, in this recording or before."""
        low, high = recording.limits
        return (np.minimum(low, self._low), np.maximum(high, self._high)) if self.known else (low, high)

    def fast(self, speeds: Floats) -> Floats:
        """(K,) what counts as a fast step; `speeds` (N - 1, K) are those of the recording itself."""
        fast: Floats = self._fast if self.known else np.percentile(speeds, OWN_FAST, axis=0)
        return fast

    def rough(self) -> Floats | None:
        """(K,) roughest second of a usual episode; None: not known."""
        return self._rough if self.known else None


def shape_of(recording: Recording) -> tuple[list[float], list[float]]:
    """`end` and `shape` of a Digest."""
    width = len(recording.state_names) or len(recording.names)
    signals = recording.signals[:, :width]
    places = np.rint(np.linspace(0, len(signals) - 1, SHAPE_POINTS)).astype(np.int64)
    return np.median(signals[-END_FRAMES:], axis=0).tolist(), signals[places].reshape(-1).tolist()
