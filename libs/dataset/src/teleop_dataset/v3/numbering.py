"""The five columns that every dataset ends with: rows, frames, episodes and tasks by number, time by fps.

They, and their statistics, follow from only the lengths and tasks of the episodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from teleop_dataset.v3.stats import (
    Integers,
    Stats,
    Values,
    describe,
    describe_weighted,
    interpolate,
    ranks,
)

# LeRobot's own tolerance (tolerance_s), seconds.
TOLERANCE_S = 1e-4


class TaskRows(NamedTuple):
    """Rows of one task, one after the other in an episode."""

    task: str
    rows: int


@dataclass(frozen=True)
class Episodes:
    """Consecutive episodes of a dataset.

    index       episode_index of the first of them
    first       `index` of the first frame, which is also its row number in the dataset
    lengths     (E,) frames of each, at least 1
    task_index  (R,) of their tasks, one after the other; an episode has at least one
    task_rows   (R,) how many rows each of these has
    """

    index: int
    first: int
    lengths: Integers
    task_index: Integers
    task_rows: Integers

    @property
    def indexes(self) -> Integers:
        """(E,) episode_index of each."""
        return self.index + np.arange(len(self.lengths))

    @property
    def ends(self) -> Integers:
        """One past each episode's last row."""
        ends: Integers = self.first + np.cumsum(self.lengths)
        return ends

    @property
    def begins(self) -> Integers:
        """(E,) each episode's first row."""
        return self.ends - self.lengths


def numbering_columns(episodes: Episodes, fps: int) -> dict[str, Values]:
    """The columns of the episodes' rows; `timestamp` is the grid with which LeRobot compares video."""
    lengths = episodes.lengths
    index = np.arange(episodes.first, episodes.first + int(lengths.sum()))
    frame_index = index - np.repeat(episodes.begins, lengths)
    return {
        "timestamp": _timestamps(frame_index, fps),
        "frame_index": frame_index,
        "episode_index": np.repeat(episodes.indexes, lengths),
        "index": index,
        "task_index": np.repeat(episodes.task_index, episodes.task_rows),
    }


def numbering_stats(episodes: Episodes, fps: int) -> dict[str, Stats]:
    """Statistics of the columns, episode by episode."""
    zeros = np.zeros_like(episodes.lengths)
    return {
        "timestamp": _grid_stats(episodes.lengths, fps),
        "frame_index": _counting_stats(zeros, episodes.lengths),
        "episode_index": _constant_stats(episodes.indexes, episodes.lengths),
        "index": _counting_stats(episodes.begins, episodes.lengths),
        "task_index": _task_stats(episodes),
    }


def dataset_numbering_stats(every: Sequence[Episodes], fps: int) -> dict[str, Stats]:
    """Statistics of the columns over a whole dataset; `every` is all of its episodes, in order."""
    lengths = np.concatenate([each.lengths for each in every])
    tasks = np.concatenate([each.task_index for each in every])
    task_rows = np.concatenate([each.task_rows for each in every])
    frame_index = np.arange(lengths.max())
    # Frame k is in every episode that is longer than k.
    having = len(lengths) - np.searchsorted(np.sort(lengths), frame_index, side="right")
    task_frames = np.bincount(tasks, weights=task_rows).astype(np.int64)
    used = np.flatnonzero(task_frames)
    return {
        "timestamp": describe_weighted(_timestamps(frame_index, fps), having),
        "frame_index": describe_weighted(frame_index, having),
        "episode_index": describe_weighted(np.arange(len(lengths)), lengths),
        "index": _counting_stats(np.zeros(1, np.int64), lengths.sum(keepdims=True)),
        "task_index": describe_weighted(used, task_frames[used]),
    }


def pictures_are_found(first: int, frames: int, fps: float) -> bool:
    """Whether LeRobotDataset finds the pictures of an episode's rows in its mp4.

    It adds a row's `timestamp` to the time at which the episode begins there, and compares the sum with the
    time of the picture, both in single precision (lerobot.datasets.video_utils, 0.6.1). From 1024 s on such
    times are further apart than the tolerance. What begins with its file is found however long it is, because
    both are rounded alike.

    first   how many pictures are before the episode's in the file
    frames  how many it has
    """
    rows = np.arange(frames)
    # In LeRobot's own order of steps, float32 where it has float32: otherwise the rounding differs.
    wanted = (first / fps + _timestamps(rows, fps).astype(np.float64)).astype(np.float32)
    shown = ((first + rows) / fps).astype(np.float32)
    return bool((np.abs(wanted - shown) < TOLERANCE_S).all())


def _timestamps(frame_index: Integers, fps: float) -> Values:
    # Divided as a double and rounded once, as where LeRobot's recorder puts it into its table.
    return (frame_index / fps).astype(np.float32)


def _task_stats(episodes: Episodes) -> Stats:
    if len(episodes.task_index) == len(episodes.lengths):
        return _constant_stats(episodes.task_index, episodes.lengths)
    rows = np.repeat(episodes.task_index, episodes.task_rows)
    return describe({"task_index": rows[:, None]}, episodes.lengths)["task_index"]


def _constant_stats(values: Integers, lengths: Integers) -> Stats:
    column = values[:, None]
    exact = column.astype(np.float64)
    quantiles = np.repeat(exact[:, None], ranks(lengths)[0].shape[1], axis=1)
    return Stats(lengths, column, column, exact, np.zeros_like(exact), quantiles)


def _counting_stats(first: Integers, lengths: Integers) -> Stats:
    """Of first, first + 1, … over `lengths` values."""
    below, above, weights = ranks(lengths)
    start, last = first[:, None], (first + lengths - 1)[:, None]
    quantiles = interpolate(start + below, start + above, weights)[:, :, None]
    spread = np.sqrt((lengths.astype(np.float64) ** 2 - 1) / 12)[:, None]
    return Stats(lengths, start, last, (start + last) / 2, spread, quantiles)


def _grid_stats(lengths: Integers, fps: int) -> Stats:
    """Of the first `lengths` times of the frame grid."""
    grid = _timestamps(np.arange(lengths.max()), fps)
    exact = grid.astype(np.float64)
    mean = np.cumsum(exact)[lengths - 1] / lengths
    square = np.cumsum(exact**2)[lengths - 1] / lengths
    below, above, weights = ranks(lengths)
    quantiles = interpolate(grid[below], grid[above], weights)[:, :, None]
    last = grid[lengths - 1][:, None]
    spread = np.sqrt(np.maximum(square - mean**2, 0))[:, None]
    return Stats(lengths, np.zeros_like(last), last, mean[:, None], spread, quantiles)
