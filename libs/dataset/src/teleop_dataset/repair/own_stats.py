"""Holds the rows against the statistics that LeRobot computed of them when it saved each episode.

A hole in a data file (a lost write) can leave pages that can be read, with other values. What LeRobot's tools
edit stays true to its episodes' statistics, but for the numbering, which has rules of its own.
"""

from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from teleop_schema.words import counted

from teleop_dataset.repair.metadata import Row
from teleop_dataset.repair.rows import Episode
from teleop_dataset.v3.data import column_values
from teleop_dataset.v3.episodes import PICTURES, WITHOUT_STATISTICS
from teleop_dataset.v3.info import DEFAULT_FEATURES, Features

COMPARED = ("min", "max", "mean", "std")
_EPS = float(np.finfo(np.float32).eps)
_TINY = float(np.finfo(np.float32).tiny)
# Squares of larger values are infinite in single precision, and so are LeRobot's statistics.
_LARGEST = 1e18

Flags = npt.NDArray[np.bool_]


def compare_rows(
    root: Path, features: Features, told: Mapping[int, tuple[Episode, Row]]
) -> tuple[dict[int, str], list[str]]:
    """Why some episodes' rows are not those that were recorded, by position; and lesser doubts, for people.

    An episode is only given up if at least two statistics of the same values contradict its rows: a hole in
    the statistics themselves changes one. If most episodes do, somebody has changed the rows on purpose.

    told  each episode with its own row, by position
    """
    found: dict[int, list[str]] = {}
    notes: list[str] = []
    for key, feature in features.items():
        if key in DEFAULT_FEATURES or feature["dtype"] in PICTURES | WITHOUT_STATISTICS:
            continue
        compared, broken = 0, []
        for number, flags in _compare(root, key, told):
            compared += 1
            index = told[number][0].index
            if (flags.sum(axis=0) > 1).any():
                broken.append(number)
            elif flags.any():
                names = ", ".join(COMPARED[each] for each in np.flatnonzero(np.any(flags, axis=1)))
                notes.append(f"episode {index}: {key} has another {names} than its statistics say")
        if 2 * len(broken) > compared:
            notes.append(
                f"{key} does not match the statistics of {len(broken)} of {counted(compared, 'episode')}: "
                "it was changed after the recording, or is damaged"
            )
            continue
        for number in broken:
            found.setdefault(number, []).append(key)
    problems = {
        number: f"its rows do not match its own statistics: {', '.join(keys)}"
        for number, keys in found.items()
    }
    return problems, notes


class _Column:
    """One column of a data file. A group of rows is read once for all of its episodes, and only for one that
    is asked for: another may be unreadable."""

    def __init__(self, file: pq.ParquetFile, key: str) -> None:
        self._file, self._key = file, key
        groups = range(file.num_row_groups)
        self._ends = list(accumulate(file.metadata.row_group(group).num_rows for group in groups))
        self._held: tuple[int, pa.Table | None] = (-1, None)

    def rows(self, episode: Episode) -> npt.NDArray[Any]:
        """The values of an episode's rows, (frames, …, W)."""
        parts = []
        for group, end in enumerate(self._ends):
            begin = self._ends[group - 1] if group else 0
            low, high = max(episode.begin, begin), min(episode.end, end)
            if low < high:
                parts.append(self._group(group).slice(low - begin, high - low))
        return column_values(pa.concat_tables(parts), self._key)

    def _group(self, group: int) -> pa.Table:
        if self._held[0] != group:
            self._held = (group, self._file.read_row_group(group, [self._key], use_threads=False))
        return self._held[1]


def _compare(root: Path, key: str, told: Mapping[int, tuple[Episode, Row]]) -> Iterator[tuple[int, Flags]]:
    """What contradicts the rows of each episode that has statistics of this feature, file by file."""
    for place in sorted({episode.place for episode, _ in told.values()}):
        with pq.ParquetFile(root / place.data_path()) as file:
            column = _Column(file, key)
            for number, (episode, row) in told.items():
                stats = {name: row.get(f"stats/{key}/{name}") for name in COMPARED}
                if episode.place == place and None not in stats.values():
                    yield number, contradictions(column.rows(episode), stats)


def contradictions(values: npt.NDArray[Any], told: Mapping[str, Any]) -> Flags:
    """Which statistics are not those of these values: (COMPARED, W).

    The tolerance is the most that a sum of that many values in single precision can be off, as LeRobot adds
    them up. What is not finite, or has statistics of another shape, contradicts nothing.

    values  (…, W)
    told    each of COMPARED, (W,)
    """
    with np.errstate(over="ignore", invalid="ignore"):
        exact = values.reshape(-1, values.shape[-1]).astype(np.float64)
        claims = [np.asarray(told[name], np.float64) for name in COMPARED]
        if any(each.shape != exact.shape[1:] for each in claims):
            return np.zeros((len(COMPARED), exact.shape[1]), np.bool_)
        low, high, mean, std = claims
        size = np.max(np.abs([exact.min(axis=0), exact.max(axis=0), low, high]), axis=0)
        # Each of so many additions is off by at most half an epsilon of the sum so far.
        mean_error = (len(exact) / 2 + 4) * _EPS
        apart = np.abs(
            [
                exact.min(axis=0) - low,
                exact.max(axis=0) - high,
                exact.mean(axis=0) - mean,
                exact.var(axis=0) - std**2,
            ]
        )
        # LeRobot's variance is the mean of the squares less the square of the mean; tiny squares are 0.
        square_error = 4 * mean_error * size**2 + _TINY
        allowed = np.stack([4 * _EPS * size, 4 * _EPS * size, mean_error * size, square_error])
        comparable = np.isfinite(exact).all(axis=0) & np.isfinite(claims).all(axis=0) & (size < _LARGEST)
        flags: Flags = (apart > allowed) & comparable
        return flags
