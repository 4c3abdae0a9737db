"""Statistics of an episode as LeRobot computes them when it saves one, and of a dataset as it adds them up.

They are not the exact ones of `v3.stats`: a recorder that resumes continues from these,
and its arithmetic (single precision, quantiles from histograms) is part of what it expects.
Formulas: lerobot.datasets.compute_stats.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from teleop_dataset.v3.stats import QUANTILES

Numbers = npt.NDArray[Any]
EpisodeStats = dict[str, Numbers]

# The same as in LeRobot (`RunningQuantileStats`), so that the results are equal.
HISTOGRAM_BINS = 5000
# Padding of the outermost bins.
_MARGIN = 1e-10


def describe_values(values: Numbers) -> EpisodeStats:
    """Statistics of a feature's values over an episode, (frames, …); each per value of the last dimension."""
    frames = len(values)
    rows = values.reshape(-1, values.shape[-1] if values.ndim > 1 else 1)
    rows = rows.astype(np.result_type(rows.dtype, np.float32), copy=False)
    return _describe(rows, None, frames)


def describe_pictures(counts: Numbers, values: Numbers, count: int, divisor: float) -> EpisodeStats:
    """Statistics of sampled pictures, of shape (channels, 1, 1) each.

    counts   (channels, levels): how many of the sampled pixels have each level
    values   (levels,): the value of each level, ascending
    count    the `count` of the statistics
    divisor  by which LeRobot scales the statistics: 255 for colours, 1 for depth
    """
    parts = []
    for channel in counts:
        seen = channel > 0
        parts.append(_describe(values[seen].astype(np.float64)[:, None], channel[seen], count))
    return {
        name: parts[0][name]
        if name == "count"
        else (np.concatenate([part[name] for part in parts]) / divisor).reshape(-1, 1, 1)
        for name in parts[0]
    }


def _describe(rows: Numbers, weights: Numbers | None, count: int) -> EpisodeStats:
    mean = np.average(rows, axis=0, weights=weights) if weights is not None else np.mean(rows, axis=0)
    square = np.average(rows**2, axis=0, weights=weights) if weights is not None else np.mean(rows**2, axis=0)
    low, high = rows.min(axis=0), rows.max(axis=0)
    total = len(rows) if weights is None else int(weights.sum())
    if total < 2:
        quantiles = [mean] * len(QUANTILES)
    else:
        found = [
            _quantiles(column, weights, total, low[index], high[index]) for index, column in enumerate(rows.T)
        ]
        quantiles = list(np.array(found).T)
    return {
        "min": low,
        "max": high,
        "mean": mean,
        "std": np.sqrt(np.maximum(0, square - mean**2)),
        "count": np.array([count]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def _quantiles(column: Numbers, weights: Numbers | None, total: int, low: Any, high: Any) -> list[float]:
    """Each quantile, taken linearly from within the bin that it falls into."""
    edges = np.linspace(low - _MARGIN, high + _MARGIN, HISTOGRAM_BINS + 1)
    histogram = np.histogram(column, bins=edges, weights=weights)[0].astype(np.float64)
    reached = np.cumsum(histogram)
    found = []
    for level in QUANTILES.values():
        target = level * total
        index = int(np.searchsorted(reached, target))
        if index == 0:
            value = edges[0]
        elif index >= len(reached):
            value = edges[-1]
        else:
            share = (target - reached[index - 1]) / (reached[index] - reached[index - 1])
            value = edges[index] + share * (edges[index + 1] - edges[index])
        found.append(float(value))
    return found


def add_up(episodes: Iterable[Mapping[str, EpisodeStats]]) -> dict[str, EpisodeStats]:
    """Statistics of a dataset from those of its episodes, added one after the other as the recorder does."""
    total: dict[str, EpisodeStats] = {}
    for episode in episodes:
        total = {
            key: _added(total[key], stats) if key in total else dict(stats) for key, stats in episode.items()
        }
    return total


def _added(one: EpisodeStats, other: EpisodeStats) -> EpisodeStats:
    """Variance by the parallel algorithm; LeRobot averages the quantiles by the number of samples."""
    counts = np.stack([one["count"], other["count"]])
    total = counts.sum(axis=0)
    means = np.stack([one["mean"], other["mean"]])
    weights = counts.reshape(counts.shape + (1,) * (means.ndim - counts.ndim))
    mean = (means * weights).sum(axis=0) / total
    variances = np.stack([one["std"] ** 2, other["std"] ** 2])
    variance = ((variances + (means - mean) ** 2) * weights).sum(axis=0) / total
    return {
        "min": np.minimum(one["min"], other["min"]),
        "max": np.maximum(one["max"], other["max"]),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": total,
        **{
            name: (np.stack([one[name], other[name]]) * weights).sum(axis=0) / total
            for name in QUANTILES
            if name in one and name in other
        },
    }
