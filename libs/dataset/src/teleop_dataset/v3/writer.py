"""The files of a dataset, written in one go."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from teleop_dataset.v3 import layout
from teleop_dataset.v3.data import column_values, data_schema, data_table
from teleop_dataset.v3.episodes import (
    NO_LABELS,
    WITHOUT_STATISTICS,
    Clip,
    episodes_schema,
    episodes_table,
    put_in_place,
)
from teleop_dataset.v3.files import LEROBOTS_ENCODING, ParquetSeries, write_document, write_tasks
from teleop_dataset.v3.info import CAPTURE_TIME, DEFAULT_FEATURES, Features, info_document
from teleop_dataset.v3.layout import FileLimits, FileNumber
from teleop_dataset.v3.numbering import Episodes, TaskRows, dataset_numbering_stats, numbering_stats
from teleop_dataset.v3.recorded_stats import RecordedStats
from teleop_dataset.v3.stats import Stats, dataset_document, describe

# Held back until then: a row has a hundred columns of statistics, and small row groups are slow to read.
EPISODES_PER_ROW_GROUP = 1000

# Measured against LeRobot's own choice (dictionaries everywhere): twice as fast, and files 40 % smaller.
DATA_ENCODING: Mapping[str, Any] = {
    "use_dictionary": ["episode_index", "task_index"],
    "column_encoding": dict.fromkeys(("index", "frame_index", CAPTURE_TIME), "DELTA_BINARY_PACKED"),
}


class NonFiniteValue(Exception):
    """A feature has a value that is NaN or infinite; the message is the feature's key.

    episode  which of the episodes added together
    """

    def __init__(self, key: str, episode: int) -> None:
        super().__init__(key)
        self.episode = episode


class DatasetWriter:
    """Writes episodes in order; the dataset is complete after `finish`.

    not_finite  by feature, how many rows have a value that is NaN or infinite
    tasks       of the rows, numbered as they appeared
    """

    def __init__(
        self,
        root: Path,
        features: Features,
        *,
        fps: int,
        limits: FileLimits,
        finite: Collection[str] | None = None,
        labels: pa.Schema = NO_LABELS,
    ) -> None:
        """
        labels  further columns of the episodes, beside LeRobot's own
        finite  features whose values must be; None: all. Statistics of others are those of the finite values
        """
        self._described = {
            key: each for key, each in features.items() if each["dtype"] not in WITHOUT_STATISTICS
        }
        self._finite = features.keys() if finite is None else finite
        self.not_finite: Counter[str] = Counter()
        self._limits = limits
        self.root = root
        self.features = features
        self.fps = fps
        self.tasks: dict[str, int] = {}
        self.episodes = 0
        self.frames = 0
        self.recorded = RecordedStats(features)
        self._every: list[Episodes] = []
        self._data_schema = data_schema(features)
        self._episodes_schema = episodes_schema(features, labels)
        self._data = ParquetSeries(
            root, self._data_schema, FileNumber.data_path, DATA_ENCODING, limits.data_bytes
        )
        self._meta = ParquetSeries(
            root, self._episodes_schema, FileNumber.episodes_path, LEROBOTS_ENCODING, limits.data_bytes
        )
        self._rows: list[pa.Table] = []

    def add(
        self,
        frames: pa.Table,
        lengths: Sequence[int],
        tasks: Sequence[Sequence[TaskRows]],
        clips: Mapping[str, Sequence[Clip]],
        pictures: Mapping[str, Stats],
        labels: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """Write some episodes; raises NonFiniteValue for a feature that may have none.

        frames           recorded frames of all of them, one after the other
        lengths, tasks   of each; its tasks as they follow one another
        clips, pictures  of each camera's feature: where each episode's video lies, and its statistics
        labels           of each, by the names of the further columns
        """
        told = [each for episode in tasks for each in episode]
        numbers = np.array([self.tasks.setdefault(each.task, len(self.tasks)) for each in told])
        task_rows = np.array([each.rows for each in told])
        episodes = Episodes(self.episodes, self.frames, np.array(lengths), numbers, task_rows)
        table = data_table(self._data_schema, frames, episodes, self.fps)
        described = self._described.keys() - DEFAULT_FEATURES.keys()
        values = {key: column_values(table, key) for key in table.column_names if key in described}
        # Before anything is written: an export that fails here leaves no half an episode.
        self._look_at_finite(values, episodes)
        stats = describe(values, episodes.lengths)
        self.recorded.add(values, stats)
        places = [
            self._write_data(table.slice(begin - self.frames, length))
            for begin, length in zip(episodes.begins.tolist(), lengths, strict=True)
        ]
        stats |= {**numbering_stats(episodes, self.fps), **pictures}
        names = [list(dict.fromkeys(each.task for each in episode)) for episode in tasks]
        self._rows.append(
            episodes_table(self._episodes_schema, episodes, names, places, stats, clips, labels)
        )
        self._every.append(episodes)
        self.episodes += len(lengths)
        self.frames += table.num_rows
        if sum(map(len, self._rows)) >= EPISODES_PER_ROW_GROUP:
            self._write_episodes()

    def close_data(self) -> None:
        """Complete the data and episode files, so that they can be read."""
        self._data.close()
        self._write_episodes()
        self._meta.close()

    def finish(
        self,
        recorded: Mapping[str, Stats],
        pictures: Mapping[str, Stats],
        *,
        robot_type: str,
        provenance: Mapping[str, Any],
        splits: Mapping[str, tuple[int, int]],
    ) -> None:
        """Write what is known only at the end; `info.json`, without which nothing loads, comes last.

        recorded, pictures  statistics of the recorded features and of the cameras' over the whole dataset
        """
        found = {**recorded, **pictures, **dataset_numbering_stats(self._every, self.fps)}
        stats = {key: found[key] for key in self._described}
        write_tasks(self.root, list(self.tasks))
        write_document(self.root, layout.STATS, dataset_document(stats, pictures))
        write_document(self.root, layout.PROVENANCE, provenance)
        # Last, as LeRobot does: a folder without it is nobody's dataset yet.
        info = info_document(
            self.features,
            fps=self.fps,
            robot_type=robot_type,
            episodes=self.episodes,
            frames=self.frames,
            tasks=len(self.tasks),
            limits=self._limits,
            splits=splits,
        )
        write_document(self.root, layout.INFO, info)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._data.close()
        self._meta.close()

    def _look_at_finite(self, features: Mapping[str, npt.NDArray[Any]], episodes: Episodes) -> None:
        for key, values in features.items():
            finite = np.isfinite(values)
            if finite.all():
                continue
            rows = finite.reshape(len(finite), -1).all(axis=1)
            if key in self._finite:
                first = episodes.first + int(np.argmin(rows))
                raise NonFiniteValue(key, int(np.searchsorted(episodes.ends, first, side="right")))
            self.not_finite[key] += int((~rows).sum())

    def _write_data(self, episode: pa.Table) -> FileNumber:
        place = self._data.make_room(episode.nbytes)
        self._data.write(episode)
        return place

    def _write_episodes(self) -> None:
        if self._rows:
            table = pa.concat_tables(self._rows).combine_chunks()
            self._meta.write(put_in_place(table, self._meta.make_room(table.nbytes)))
            self._rows.clear()
