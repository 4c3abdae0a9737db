"""The episodes that data files hold, as far as their rows follow the format."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from teleop_dataset.v3.data import column_values
from teleop_dataset.v3.info import DEFAULT_FEATURES, Features
from teleop_dataset.v3.layout import FileNumber

# LeRobot's own tolerance, in seconds.
TIMESTAMP_TOLERANCE_S = 1e-4
# More than a recorder's episodes ever have.
MAX_GROUP_ROWS = 50_000_000


@dataclass(frozen=True)
class Episode:
    """The rows of one episode.

    index  its episode_index
    place  place of their data file
    begin  position of the first row in that file
    first  position of the first row in the dataset, by `index`
    tasks  numbers of its tasks, each once, in order of appearance
    """

    index: int
    place: FileNumber
    begin: int
    first: int
    length: int
    tasks: tuple[int, ...]

    @property
    def end(self) -> int:
        """One past its last row in the file."""
        return self.begin + self.length


class BadRows(Exception):
    """Some rows don't follow the format; says why."""


class RowReader:
    """Finds the whole episodes in data files, one file after the other."""

    def __init__(self, features: Features, fps: float) -> None:
        self._columns = [key for key, feature in features.items() if feature["dtype"] != "video"]
        self._fps = fps
        self.episodes: list[Episode] = []

    def read(self, path: Path, place: FileNumber) -> list[str]:
        """Add the file's episodes; returns which rows are left out, and why.

        An episode may continue in the next row group. If an episode has lost some rows,
        all of its rows are left out.
        """
        problems: list[str] = []
        begin = 0
        try:
            with pq.ParquetFile(path) as file:
                if missing := [key for key in self._columns if key not in file.schema_arrow.names]:
                    return [f"it has no column {missing[0]}"]
                for group in range(file.num_row_groups):
                    problems += self._read_group(file, group, place, begin)
                    begin += file.metadata.row_group(group).num_rows
        except (OSError, pa.ArrowException, ValueError) as error:
            problems.append(f"it can't be read: {error}")
        return problems

    def _read_group(self, file: pq.ParquetFile, group: int, place: FileNumber, begin: int) -> list[str]:
        rows = file.metadata.row_group(group).num_rows
        if rows > MAX_GROUP_ROWS:
            return [f"a row group has more than {MAX_GROUP_ROWS} rows"]
        try:
            table = file.read_row_group(group, self._columns, use_threads=False)
            table.validate(full=True)
            numbers = {name: _plain(table, name) for name in DEFAULT_FEATURES}
        except (OSError, pa.ArrowException, ValueError, MemoryError, BadRows) as error:
            return [f"rows {begin} to {begin + rows - 1} can't be read: {error}"]
        problems = []
        for low, high in _runs(numbers["episode_index"]):
            part = {name: values[low:high] for name, values in numbers.items()}
            try:
                self._add(part, place, begin + low)
            except BadRows as error:
                problems.append(str(error))
        return problems

    def _add(self, numbers: dict[str, npt.NDArray[Any]], place: FileNumber, begin: int) -> None:
        index, first, length = (
            int(numbers["episode_index"][0]),
            int(numbers["index"][0]),
            len(numbers["index"]),
        )
        last = self.episodes[-1] if self.episodes and self.episodes[-1].place == place else None
        if last is not None and last.index == index and last.end == begin:
            self._check(numbers, last, last.first + last.length, last.length)
            tasks = tuple(dict.fromkeys(last.tasks + tuple(numbers["task_index"].tolist())))
            self.episodes[-1] = Episode(index, place, last.begin, last.first, last.length + length, tasks)
            return
        if last is not None and _goes_on(last, index, first, int(numbers["frame_index"][0])):
            self.episodes.pop()
            if numbers["frame_index"][0] == 0:
                self._add(numbers, place, begin)
            raise BadRows(f"episode {last.index} has lost its rows from {last.length} on")
        self._check(numbers, None, first, 0)
        tasks = tuple(dict.fromkeys(numbers["task_index"].tolist()))
        self.episodes.append(Episode(index, place, begin, first, length, tasks))

    def _check(
        self, numbers: dict[str, npt.NDArray[Any]], begun: Episode | None, first: int, frame: int
    ) -> None:
        """Raise BadRows unless the rows continue from these numbers; their episode is then left out too."""
        index, length = numbers["episode_index"][0], len(numbers["index"])
        grid = np.arange(frame, frame + length)
        problem = ""
        if index < 0 or first < 0 or (numbers["index"] != first + np.arange(length)).any():
            problem = f"the row numbers of episode {index} do not continue"
        elif (numbers["frame_index"] != grid).any():
            problem = f"the frames of episode {index} are not numbered from 0"
        elif not (np.abs(numbers["timestamp"] - grid / self._fps) < TIMESTAMP_TOLERANCE_S).all():
            problem = f"the timestamps of episode {index} are not frame_index / fps"
        if problem:
            if begun is not None:
                self.episodes.pop()
            raise BadRows(problem)


def _goes_on(last: Episode, index: int, first: int, frame: int) -> bool:
    """Whether the next rows show that `last` had more rows than were found."""
    return (
        (index == last.index and frame > 0)
        or frame == last.length
        or (index == last.index + 1 and frame == 0 and first > last.first + last.length)
    )


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
