"""The episodes that data files hold, as far as their rows follow the format."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from teleop_dataset.v3.data import column_values
from teleop_dataset.v3.info import DEFAULT_FEATURES, Features
from teleop_dataset.v3.layout import Place

# LeRobot's own, in seconds.
TIMESTAMP_TOLERANCE_S = 1e-4
# More than a recorder's episodes ever have.
MAX_GROUP_ROWS = 50_000_000


@dataclass(frozen=True)
class Episode:
    """The rows of one episode.

    place  of their data file
    begin  the first of them, in that file
    first  the same in the dataset
    tasks  numbers of its tasks, each once, as they come
    """

    index: int
    place: Place
    begin: int
    first: int
    length: int
    tasks: tuple[int, ...]

    @property
    def end(self) -> int:
        """One past its last row in the file."""
        return self.begin + self.length


class BadRows(Exception):
    """Rows from here on don't follow the format; says why."""


class RowReader:
    """Takes the episodes out of data files, one file after the other."""

    def __init__(self, features: Features, fps: float) -> None:
        self._columns = [key for key, feature in features.items() if feature["dtype"] != "video"]
        self._fps = fps
        self.episodes: list[Episode] = []

    def read(self, path: Path, place: Place) -> None:
        """Add the file's episodes; raises BadRows at the first row that can't be used.

        The last episode may go on in the next row group, so an episode only counts once it has ended.
        """
        begin = 0
        for numbers in self._groups(path):
            for low, high in _runs(numbers["episode_index"]):
                part = {name: values[low:high] for name, values in numbers.items()}
                self._add(part, place, begin + low)
            begin += len(numbers["index"])

    def _groups(self, path: Path) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """The numbering of each row group, all of whose columns could be read."""
        try:
            with pq.ParquetFile(path) as file:
                if missing := [key for key in self._columns if key not in file.schema_arrow.names]:
                    raise BadRows(f"it has no column {missing[0]}")
                for group in range(file.num_row_groups):
                    if file.metadata.row_group(group).num_rows > MAX_GROUP_ROWS:
                        raise BadRows(f"a row group has more than {MAX_GROUP_ROWS} rows")
                    table = file.read_row_group(group, self._columns, use_threads=False)
                    table.validate(full=True)
                    yield {name: _plain(table, name) for name in DEFAULT_FEATURES}
        except (OSError, pa.ArrowException, ValueError) as error:
            raise BadRows(f"a row group can't be read: {error}") from error

    def _add(self, numbers: dict[str, npt.NDArray[Any]], place: Place, begin: int) -> None:
        length = len(numbers["index"])
        last = self.episodes[-1] if self.episodes else None
        index, frame = int(numbers["episode_index"][0]), 0
        first = last.first + last.length if last else 0
        goes_on = last is not None and last.index == index and last.place == place
        if goes_on and last is not None:
            frame = last.length
        elif index != len(self.episodes):
            raise BadRows(f"episode {index} comes where episode {len(self.episodes)} should")
        grid = np.arange(frame, frame + length)
        if (numbers["index"] != first + np.arange(length)).any():
            raise BadRows(f"the rows of episode {index} are not numbered on")
        if (numbers["frame_index"] != grid).any():
            raise BadRows(f"the frames of episode {index} are not numbered from 0 on")
        if not (np.abs(numbers["timestamp"] - grid / self._fps) < TIMESTAMP_TOLERANCE_S).all():
            raise BadRows(f"the timestamps of episode {index} are not frame_index / fps")
        tasks = tuple(dict.fromkeys(numbers["task_index"].tolist()))
        if goes_on and last is not None:
            tasks = tuple(dict.fromkeys(last.tasks + tasks))
            self.episodes[-1] = Episode(index, place, last.begin, last.first, frame + length, tasks)
        else:
            self.episodes.append(Episode(index, place, begin, first, length, tasks))


def read_values(root: Path, episode: Episode, columns: list[str]) -> pa.Table:
    """Some columns of an episode's rows."""
    with pq.ParquetFile(root / episode.place.data_path()) as file:
        begin = 0
        parts = []
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            low, high = max(episode.begin, begin), min(episode.end, begin + rows)
            if low < high:
                part = file.read_row_group(group, columns, use_threads=False)
                parts.append(part.slice(low - begin, high - low))
            begin += rows
    return pa.concat_tables(parts)


def _plain(table: pa.Table, name: str) -> npt.NDArray[Any]:
    if table.column(name).null_count:
        raise BadRows(f"{name} is missing in a row")
    return column_values(table, name)[:, 0]


def _runs(values: npt.NDArray[Any]) -> list[tuple[int, int]]:
    """Begin and end of each stretch of equal values."""
    if not len(values):
        return []
    starts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist()]
    return list(zip(starts, [*starts[1:], len(values)], strict=True))
