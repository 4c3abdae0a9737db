"""The rows of some episodes: which of their recorded frames they are, and how old what they hold is. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from teleop_dataset.v3.episodes import Clip
from teleop_dataset.v3.info import PICTURE_AGE, SAMPLE_AGE
from teleop_dataset.v3.stats import Stats

from export_service.align import Integers, thin_out
from export_service.plan import Piece

MS_PER_US = 1e-3


@dataclass(frozen=True)
class Rows:
    """Rows of consecutive episodes.

    frames     one recorded frame per row
    lengths    rows of each episode
    sample_us  of each row: when its frame was taken, us since the Unix epoch, robot's clock
    age_us     of each row: how long before the row's time that was
    """

    frames: pa.Table
    lengths: list[int]
    sample_us: Integers
    age_us: Integers

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


def choose_rows(frames: pa.Table, pieces: Sequence[Piece], *, loop_fps: float, fps: int) -> Rows:
    """All frames of `pieces`, or of a faster loop those nearest to the times of the rows.

    frames    of the pieces, one after the other
    loop_fps  the rate at which they were recorded
    fps       of the dataset
    """
    sample_us = frames.column("timestamp").cast(pa.int64()).to_numpy()
    lengths = [piece.frames for piece in pieces]
    if loop_fps == fps:
        return Rows(frames, lengths, sample_us, np.zeros_like(sample_us))
    chosen, ages, begin = [], [], 0
    for length in lengths:
        positions, age_us = thin_out(sample_us[begin : begin + length], loop_fps=loop_fps, fps=fps)
        chosen.append(begin + positions)
        ages.append(age_us)
        begin += length
    every = np.concatenate(chosen)
    kept = [len(positions) for positions in chosen]
    return Rows(frames.take(pa.array(every)), kept, sample_us[every], np.concatenate(ages))


def with_ages(
    rows: Rows, shown: Mapping[str, ShownEpisodes], *, sample_age: bool, picture_age: bool
) -> pa.Table:
    """The rows' frames with the columns of ages that the dataset has."""
    table = rows.frames
    if sample_age:
        table = table.append_column(SAMPLE_AGE, _vectors((rows.age_us * MS_PER_US)[:, None]))
    if picture_age and shown:
        ages = np.stack([each.age_ms for each in shown.values()], axis=1)
        table = table.append_column(PICTURE_AGE, _vectors(ages))
    return table


def _vectors(values: npt.NDArray[Any]) -> pa.Array:
    flat = pa.array(values.astype(np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
