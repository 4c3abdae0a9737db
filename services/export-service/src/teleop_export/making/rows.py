"""The rows of some episodes: which of their recorded frames they are, and how old what they hold is. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from teleop_dataset.v3.episodes import Clip
from teleop_dataset.v3.info import OBSERVATION_AGE, PICTURE_AGE
from teleop_dataset.v3.numbering import TaskRows
from teleop_dataset.v3.stats import Stats

from teleop_export.making.frame_source import Fetched
from teleop_export.planning.pieces import Piece
from teleop_export.planning.played import EpisodeTime, told_time
from teleop_export.timing.loop_times import Flags, Integers, Which, loop_times
from teleop_export.timing.pace import choose_samples
from teleop_export.timing.pauses import closed

MS_PER_US = 1e-3


@dataclass(frozen=True)
class Rows:
    """Rows of consecutive episodes.

    frames     one recorded frame per row
    lengths    rows of each episode
    sample_us  of each row: when its frame was taken, us since the Unix epoch, robot's clock
    times      of each episode: how it plays, against how it was recorded
    tasks      of each episode: its tasks one after the other, each with its rows
    """

    frames: pa.Table
    lengths: list[int]
    sample_us: Integers
    times: list[EpisodeTime]
    tasks: list[list[TaskRows]]

    @property
    def index(self) -> Integers:
        """Of each row: its frame's number in the session."""
        index: Integers = self.frames.column("frame_index").to_numpy()
        return index


@dataclass(frozen=True)
class ShownEpisodes:
    """One camera's pictures of such episodes.

    clips   where each episode's video lies
    age_ms  (rows,) float32: how long before the row's sample its picture was taken
    """

    clips: list[Clip]
    stats: Stats
    age_ms: npt.NDArray[np.float32]


def choose_rows(fetched: Fetched, which: Which, *, fps: int) -> Rows:
    """All frames of the pieces that become rows, or where the loop was faster those nearest to the times of
    the rows.

    fps  of the dataset
    """
    frames = fetched.frames
    sample_us = frames.column("timestamp").cast(pa.int64()).to_numpy()
    # A frame whose observation is an earlier frame's would show the robot twice in one place.
    meant = frames.column("observation_age_us").is_null().to_numpy() | which.repeated
    meant &= acted(frames.column("action")) | which.unacted
    index = frames.column("frame_index").to_numpy()
    session = loop_times(fetched.index, fetched.taken_us)
    every: list[Integers] = []
    lengths, times, tasks, begin = [], [], [], 0
    for piece in fetched.pieces:
        ours = index[begin : begin + piece.frames]
        offsets = np.flatnonzero(meant[begin : begin + piece.frames])
        chosen = choose_samples(closed(session.at(ours), piece.pauses).at(ours[offsets]), fps=fps)
        every.append(begin + offsets[chosen.positions])
        lengths.append(len(chosen.positions))
        times.append(told_time(piece, chosen, ours[offsets], fps=fps))
        tasks.append(_tasks(piece, ours[offsets[chosen.positions]]))
        begin += piece.frames
    taken = np.concatenate(every)
    # Usually each frame becomes a row, and copying all of them would take as much memory again.
    rows = frames if len(taken) == len(frames) else frames.take(pa.array(taken))
    return Rows(rows, lengths, sample_us[taken], times, tasks)


def acted(action: pa.ChunkedArray) -> Flags:
    """(N,) whether these have an action: one whose values all are missing is none."""
    width = action.type.list_size
    values = pc.list_flatten(action).to_numpy().reshape(len(action), width)
    flags: Flags = ~np.isnan(values).all(axis=1) if width else np.ones(len(action), np.bool_)
    return flags


def _tasks(piece: Piece, index: Integers) -> list[TaskRows]:
    """Tasks of which there are rows, one after the other; `index`: of the rows, their frames' numbers."""
    told = [(piece.first, piece.task), *piece.changes]
    edges = [*np.searchsorted(index, [frame for frame, _ in told]).tolist(), len(index)]
    rows = [end - begin for begin, end in pairwise(edges)]
    return [TaskRows(task, count) for (_, task), count in zip(told, rows, strict=True) if count]


def with_ages(
    rows: Rows,
    shown: Mapping[str, ShownEpisodes],
    *,
    observation_age: bool,
    picture_age: bool,
) -> pa.Table:
    """The rows' frames with the columns of ages that the dataset has."""
    table = rows.frames
    if observation_age:
        # No age in the database means that the observation is the frame's own.
        age_us = table.column("observation_age_us").fill_null(0).to_numpy()
        table = table.append_column(OBSERVATION_AGE, _vectors((age_us * MS_PER_US)[:, None]))
    if picture_age and shown:
        ages = np.stack([each.age_ms for each in shown.values()], axis=1)
        table = table.append_column(PICTURE_AGE, _vectors(ages))
    return table


def _vectors(values: npt.NDArray[Any]) -> pa.Array:
    flat = pa.array(values.astype(np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
