"""Exact statistics of a dataset, for each episode and for the whole, with memory that does not grow.

LeRobot estimates quantiles from histograms and averages those of episodes; these are the order statistics
themselves, interpolated as numpy.quantile does, in float64.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Values = npt.NDArray[Any]

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
LEVELS = np.array(list(QUANTILES.values()))

# Values handled together, as float64: many columns of a short episode, or a single one of a long one.
VALUES_AT_ONCE = 1 << 18
# Statistics are computed of these types, which hold every value of the others.
KINDS = (np.float32, np.float64, np.int64, np.uint64)
LARGEST = float(np.finfo(np.float64).max)


@dataclass(frozen=True)
class Stats:
    """Statistics of one feature, W values wide, over each of E stretches of frames.

    count                 (E,) frames, however many values each has
    low, high, mean, std  (E, W); std is the population's
    quantiles             (E, len(QUANTILES), W)
    """

    count: Integers
    low: Values
    high: Values
    mean: Floats
    std: Floats
    quantiles: Floats

    def as_document(self) -> dict[str, list[float] | list[int]]:
        """The first stretch as LeRobot writes it, in its order."""
        return {
            "min": self.low[0].astype(np.float64).tolist(),
            "max": self.high[0].astype(np.float64).tolist(),
            "mean": self.mean[0].tolist(),
            "std": self.std[0].tolist(),
            "count": [int(self.count[0])],
            **dict(zip(QUANTILES, self.quantiles[0].tolist(), strict=True)),
        }


def join(parts: Sequence[Stats]) -> Stats:
    """The stretches of all `parts`, of one feature, one after the other."""
    return Stats(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Stats)))


def describe(features: Mapping[str, Values], lengths: Integers) -> dict[str, Stats]:
    """Statistics of consecutive episodes.

    features  each (sum of lengths, W), or (sum of lengths, N, W) of which all N count as values of the frame,
              as LeRobot has it; numbers or truth values. Those of a type are taken together, because most of
              a short episode's cost is in the calls. Values that are not finite are left out; where there
              are no others, everything is 0
    lengths   (E,), each at least 1; what `count` tells, whether all of them are finite or not
    """
    found: dict[str, Stats] = {}
    plain: dict[str, Values] = {}
    for key, given in features.items():
        values = promoted(given)
        if values.ndim > 2:
            found[key] = _describe_nested(values, lengths)
        elif not np.isfinite(values).all():
            found[key] = _describe_finite(values, lengths)
        else:
            plain[key] = values
    for kind in KINDS:
        alike = {key: values for key, values in plain.items() if values.dtype == kind}
        if alike:
            together = _describe(np.concatenate(list(alike.values()), axis=1), lengths)
            found |= _split(together, {key: values.shape[1] for key, values in alike.items()})
    return {key: found[key] for key in features}


def promoted(values: Values) -> Values:
    """The same values as one of KINDS."""
    if values.dtype == np.float16:
        return values.astype(np.float32)
    return values if values.dtype in KINDS else values.astype(np.int64)


def _describe_nested(values: Values, lengths: Integers) -> Stats:
    _, rows, width = values.shape
    found = describe({"": values.reshape(-1, width)}, lengths * rows)[""]
    return replace(found, count=lengths)


def _describe_finite(values: Values, lengths: Integers) -> Stats:
    """The same of each column's finite values in each episode, one after the other."""
    columns = []
    for column in values.T:
        cells = []
        for part in np.split(column, np.cumsum(lengths)[:-1]):
            finite = part[np.isfinite(part)]
            some = finite if len(finite) else np.zeros(1, values.dtype)
            cells.append(_describe(some[:, None], np.array([len(some)])))
        columns.append(join(cells))
    wide = (
        np.concatenate([getattr(each, name) for each in columns], axis=-1)
        for name in ("low", "high", "mean", "std", "quantiles")
    )
    return Stats(lengths, *wide)


def count_finite(values: Values, lengths: Integers) -> Integers:
    """(E, W): how many values of each episode are finite.

    values  as `describe` takes them
    """
    finite = np.isfinite(values)
    if finite.ndim > 2:
        finite = finite.sum(axis=1)
    begins = np.cumsum(lengths) - lengths
    counts: Integers = np.add.reduceat(finite.astype(np.int64), begins, axis=0)
    return counts


def _split(stats: Stats, widths: Mapping[str, int]) -> dict[str, Stats]:
    found: dict[str, Stats] = {}
    begin = 0
    for key, width in widths.items():
        part = (..., slice(begin, begin + width))
        parts = (each[part] for each in (stats.low, stats.high, stats.mean, stats.std, stats.quantiles))
        found[key] = Stats(stats.count, *parts)
        begin += width
    return found


def _describe(values: Values, lengths: Integers) -> Stats:
    columns = np.array(values.T, order="C")
    ends = np.cumsum(lengths)
    mean = np.empty((len(lengths), len(columns)))
    std = np.empty_like(mean)
    for episode, (begin, end) in enumerate(zip((ends - lengths).tolist(), ends.tolist(), strict=True)):
        together = max(1, VALUES_AT_ONCE // (end - begin))
        for first in range(0, len(columns), together):
            some = slice(first, first + together)
            part = columns[some, begin:end]
            part.sort(axis=1)
            mean[episode, some], std[episode, some] = _moments(part)
    below, above, weights = ranks(lengths)
    begins = (ends - lengths)[:, None]
    quantiles = interpolate(columns[:, begins + below], columns[:, begins + above], weights)
    low, high = columns[:, ends - lengths].T, columns[:, ends - 1].T
    return Stats(lengths, low, high, mean, std, np.moveaxis(quantiles, 0, -1))


def _moments(ordered: Values) -> tuple[Floats, Floats]:
    """Mean and population standard deviation of each ascending row. Integers are taken from their minimum on,
    because nanoseconds since 1970 are too large for a float64."""
    integers = ordered.dtype.kind != "f"
    origin: Values = ordered[:, 0] if integers else np.zeros(len(ordered))
    exact = _apart(ordered[:, :1], ordered) if integers else ordered.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = exact.sum(axis=1) / exact.shape[1]
        exact -= mean[:, None]
        np.square(exact, out=exact)
        return _bounded(origin + mean), _bounded(np.sqrt(exact.sum(axis=1) / exact.shape[1]))


def _apart(below: Values, above: Values) -> Floats:
    """How far integers are apart: their difference may be more than their own type can tell."""
    apart: Floats = (above.astype(np.uint64) - below.astype(np.uint64)).astype(np.float64)
    return apart


def _bounded(figures: Floats) -> Floats:
    """Replace results that exceed a float64 (from values beyond 1e154) by the largest float64."""
    bounded: Floats = np.nan_to_num(figures, nan=0.0, posinf=LARGEST, neginf=-LARGEST)
    return bounded


class Moments:
    """Count, minimum, maximum, mean and standard deviation of a feature over all episodes added so far.

    Parallel variance: Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances", 1979. Means are kept as distances from the first one, which is small beside wall-clock times.
    """

    def __init__(self) -> None:
        self.count = 0
        self._counted: Integers
        self.low: Values
        self.high: Values
        self._origin: Floats
        self._shift: Floats
        self._squares: Floats

    def add(self, stats: Stats, counts: Integers | None = None) -> None:
        """Add the episodes of `stats`.

        counts  (E, W) of the values that they are of; None: of all
        """
        low, high = stats.low, stats.high
        if counts is None:
            counts = np.broadcast_to(stats.count[:, None], stats.mean.shape)
        elif not counts.all():
            low, high = np.where(counts, low, np.inf), np.where(counts, high, -np.inf)
        count = counts.sum(axis=0)
        share = counts / np.maximum(count, 1)
        low, high = low.min(axis=0), high.max(axis=0)
        if not self.count:
            self._counted = np.zeros_like(count)
            self._origin = stats.mean[0]
            self._shift, self._squares = np.zeros_like(stats.mean[0]), np.zeros_like(stats.mean[0])
            self.low, self.high = low, high
        total = self._counted + count
        with np.errstate(over="ignore", invalid="ignore"):
            apart = stats.mean - self._origin
            shift = (apart * share).sum(axis=0)
            squares = ((stats.std**2 + (apart - shift) ** 2) * counts).sum(axis=0)
            between = (shift - self._shift) ** 2 * (self._counted * count / np.maximum(total, 1))
            self._squares = self._squares + squares + between
            self._shift = self._shift + (shift - self._shift) * (count / np.maximum(total, 1))
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self._counted = total
        self.count += int(stats.count.sum())

    def finish(self, quantiles: Floats) -> Stats:
        """The statistics of all episodes as one stretch, with `quantiles` (len(QUANTILES), W)."""
        mean = _bounded(self._origin + self._shift)
        std = _bounded(np.sqrt(self._squares / np.maximum(self._counted, 1)))
        low, high = (np.where(self._counted, each, 0) for each in (self.low, self.high))
        return Stats(np.array([self.count]), low[None], high[None], mean[None], std[None], quantiles[None])


def describe_weighted(values: Values, weights: Integers) -> Stats:
    """Statistics, as one stretch, of a column with `weights[i]` times the value `values[i]`, ascending."""
    reached = np.cumsum(weights)
    count = reached[-1:]
    below, above, between = ranks(count)
    lower, upper = (values[np.searchsorted(reached, each[0], side="right")] for each in (below, above))
    exact, share = values.astype(np.float64), weights / count
    mean = (exact * share).sum()
    std = np.sqrt(((exact - mean) ** 2 * share).sum())
    return Stats(
        count,
        values[:1, None],
        values[-1:, None],
        np.array([[mean]]),
        np.array([[std]]),
        interpolate(lower, upper, between[0])[None, :, None],
    )


def ranks(count: Integers) -> tuple[Integers, Integers, Floats]:
    """For each of `count` (E,) values' quantiles the rank below, the rank above, and how far it is between.

    returns  each (E, len(QUANTILES))
    """
    position: Floats = LEVELS * (count[:, None] - 1)
    below = np.floor(position).astype(np.int64)
    above: Integers = np.minimum(below + 1, count[:, None] - 1)
    return below, above, position - below


def interpolate(below: Values, above: Values, weights: Floats) -> Floats:
    """Linear interpolation with numpy.quantile's rounding (numpy.lib._function_base_impl._lerp)."""
    if below.dtype.kind == "f":
        below, above = below.astype(np.float64), above.astype(np.float64)
        with np.errstate(over="ignore"):
            apart = above - below
        # Two doubles may be further apart than a double can say; then each has its share, which is less
        # exact.
        if not np.isfinite(apart).all():
            return below * (1 - weights) + above * weights
    else:
        apart = _apart(below, above)
    found: Floats = np.where(weights >= 0.5, above - apart * (1 - weights), below + apart * weights)
    return found


def dataset_document(stats: Mapping[str, Stats], pictures: Container[str] = ()) -> dict[str, Any]:
    """`meta/stats.json`.

    pictures  features whose values are those of channels: LeRobot wants them of shape (channels, 1, 1)
    """
    return {
        key: _per_channel(feature.as_document()) if key in pictures else feature.as_document()
        for key, feature in stats.items()
    }


def _per_channel(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: values if name == "count" else [[[value]] for value in values]
        for name, values in document.items()
    }
