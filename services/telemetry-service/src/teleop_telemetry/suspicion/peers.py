"""Episodes compared with others: of the same task, and of the same robot type. Pure."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from teleop_telemetry.suspicion.history import Digest
from teleop_telemetry.suspicion.measurement import Measurement
from teleop_telemetry.suspicion.recording import SIGMA_PER_MAD, Floats

# Other episodes of a task that there must be before any of them is odd.
LEAST_PEERS = 10
# Episodes of a task, the latest, that an episode is compared with.
MOST_PEERS = 200
# Durations that differ by less than this are alike, whatever is usual: of their logarithms.
ALIKE_LENGTHS = 0.1
# Ends that differ by less than this share of a joint's range are alike.
ALIKE_ENDS = 0.02
# A distance that is greater is not kept, because no threshold is.
MOST_APART = 100.0

type EpisodeKey = tuple[int, int]


def compare_with_task(
    own: Digest, peers: Sequence[Digest], first_frame: int, end_frame: int
) -> Iterator[Measurement]:
    """How far its length and its end are from those of the others; nothing where there are too few.

    first_frame, end_frame  of the episode
    """
    if len(peers) < LEAST_PEERS:
        return
    lengths = np.log([max(each.duration_s, 1e-3) for each in peers])
    off, spread = _deviation(np.log(max(own.duration_s, 1e-3)), lengths)
    yield Measurement("odd_length", float(off / max(spread, ALIKE_LENGTHS)), first_frame, end_frame)
    alike = [each for each in peers if each.names == own.names]
    if len(alike) < LEAST_PEERS:
        return
    width = len(own.end)
    span = np.max([each.high for each in alike], axis=0) - np.min([each.low for each in alike], axis=0)
    for place in range(width):
        off, spread = _deviation(own.end[place], np.array([each.end[place] for each in alike]))
        least = max(spread, ALIKE_ENDS * float(span[place]))
        if least > 0:
            value = float(off / least)
            yield Measurement("odd_end", value, end_frame - 1, end_frame, joint=own.names[place])


def nearest(
    own: Digest, others: Mapping[EpisodeKey, Digest], first_frame: int, end_frame: int
) -> Measurement | None:
    """The episode that this one is most like, of those with the same signals; None: it is like none."""
    alike = {key: each for key, each in others.items() if each.names == own.names}
    if not alike:
        return None
    key, apart = min(((key, distance(own, each)) for key, each in alike.items()), key=lambda pair: pair[1])
    if apart > MOST_APART:
        return None
    return Measurement("duplicate", apart, first_frame, end_frame, other=key)


def distance(own: Digest, other: Digest) -> float:
    """Greatest distance of any joint at any of the moments, in % of its range; infinite if none moves."""
    width = len(own.end)
    if not width:
        return float("inf")
    span = np.maximum(own.high, other.high)[:width] - np.minimum(own.low, other.low)[:width]
    apart = np.abs(np.subtract(own.shape, other.shape).reshape(-1, width)).max(axis=0)
    moving = span > 0
    if not moving.any():
        return float("inf")
    return float(100 * (apart[moving] / span[moving]).max())


def _deviation(own: float, others: Floats) -> tuple[float, float]:
    """Distance from the median of the others, and their robust standard deviation."""
    median = float(np.median(others))
    return abs(own - median), SIGMA_PER_MAD * float(np.median(np.abs(others - median)))
