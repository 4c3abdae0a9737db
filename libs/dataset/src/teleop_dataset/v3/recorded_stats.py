"""Exact statistics of the recorded features over a whole dataset, in a few passes over its files."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from teleop_dataset.v3.data import column_values
from teleop_dataset.v3.episodes import WITHOUT_STATISTICS
from teleop_dataset.v3.info import DEFAULT_FEATURES, Features
from teleop_dataset.v3.selection import Ordered, Selection
from teleop_dataset.v3.stats import Moments, Stats, count_finite, promoted

# Large enough that numpy's time dominates, not Python's; 12 joints take 3 MB.
BLOCK_ROWS = 65_536

type Quantiles = Selection | Ordered


class RecordedStats:
    """Statistics during the export; for float32 columns, writing itself is the first pass."""

    def __init__(self, features: Features) -> None:
        recorded = {
            key: feature
            for key, feature in features.items()
            if key not in DEFAULT_FEATURES and feature["dtype"] not in ("video", *WITHOUT_STATISTICS)
        }
        self._moments = {key: Moments() for key in recorded}
        self._columns = sum(feature["shape"][-1] for feature in recorded.values())
        self._selections: dict[str, list[Quantiles]] = {
            key: [Selection.of_floats(self._columns) for _ in range(feature["shape"][-1])]
            for key, feature in recorded.items()
            if feature["dtype"] in ("float32", "float16")
        }
        # Columns of whole numbers that never descended so far (such as times), each with its last value.
        self._last: dict[str, np.generic | None] = {
            key: None
            for key, feature in recorded.items()
            if "int" in feature["dtype"] and list(feature["shape"]) == [1]
        }

    def add(self, values: Mapping[str, npt.NDArray[Any]], stats: Mapping[str, Stats]) -> None:
        """Add some episodes: their `values`, as `stats.describe` takes them, and their `stats`,
        feature by feature."""
        for key, moments in self._moments.items():
            whole = values[key].ndim == 2 and np.isfinite(values[key]).all()
            moments.add(stats[key], None if whole else count_finite(values[key], stats[key].count))
        for key, selections in self._selections.items():
            _feed(selections, values[key])
        for key, last in list(self._last.items()):
            column = promoted(values[key])[:, 0]
            if (column[1:] < column[:-1]).any() or (last is not None and column[0] < last):
                del self._last[key]
            else:
                self._last[key] = column[-1]

    def finish(self, root: Path, advance: Callable[[int, int], None]) -> dict[str, Stats]:
        """The statistics, once everything added lies in the data files below `root`.

        advance  called with the frames read so far and their total; may raise to stop
        """
        for selections in self._selections.values():
            for selection in selections:
                selection.end_pass()
        for key, moments in self._moments.items():
            if key in self._last:
                self._selections[key] = [Ordered(moments.count)]
            elif key not in self._selections:
                pairs = zip(moments.low, moments.high, strict=True)
                self._selections[key] = [Selection.between(low, high, self._columns) for low, high in pairs]
        total = max(
            (each.passes_left for selections in self._selections.values() for each in selections), default=0
        )
        frames = next((moments.count for moments in self._moments.values()), 0)
        for number in range(total):
            for seen in self._look_again(root):
                advance(number * frames + seen, total * frames)
        return {
            key: moments.finish(np.stack([each.quantiles() for each in self._selections[key]], axis=1))
            for key, moments in self._moments.items()
        }

    def _look_again(self, root: Path) -> Iterator[int]:
        """One more pass, which yields how many frames it has read."""
        unfinished = {
            key: selections
            for key, selections in self._selections.items()
            if not all(each.done for each in selections)
        }
        seen = 0
        for block in read_blocks(root, list(unfinished)):
            for key, selections in unfinished.items():
                _feed(selections, column_values(block, key))
            seen += block.num_rows
            yield seen
        for selections in unfinished.values():
            for selection in selections:
                if not selection.done:
                    selection.end_pass()


def read_blocks(root: Path, columns: list[str]) -> Iterator[pa.Table]:
    """Some columns of all data files in order, about BLOCK_ROWS at a time:
    several short episodes' row groups together, a long one's in parts."""
    for path in sorted(root.glob("data/*/*.parquet")):
        with pq.ParquetFile(path) as file:
            groups: list[int] = []
            rows = 0
            for group in range(file.num_row_groups):
                groups.append(group)
                rows += file.metadata.row_group(group).num_rows
                if rows >= BLOCK_ROWS or group + 1 == file.num_row_groups:
                    for batch in file.iter_batches(2 * BLOCK_ROWS, groups, columns, use_threads=False):
                        yield pa.Table.from_batches([batch])
                    groups, rows = [], 0


def _feed(selections: list[Quantiles], values: npt.NDArray[Any]) -> None:
    kept = promoted(values)
    for column, selection in enumerate(selections):
        if selection.done:
            continue
        some = kept[..., column].ravel()
        finite = np.isfinite(some)
        selection.feed(some if finite.all() else some[finite])
