"""Columns that a recording command added beyond state and action: which of them a dataset has. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import Struct
from teleop_dataset.v3.data import nested_lists
from teleop_dataset.v3.info import (
    ACTION,
    CAPTURE_TIME,
    DEFAULT_FEATURES,
    OBSERVATION_AGE,
    PICTURE_AGE,
    STATE,
    Features,
)
from teleop_runtime.postgres.columns import unpack
from teleop_schema.columns import Column
from teleop_schema.words import counted

from teleop_export.errors import RecordingChanged
from teleop_export.planning.pieces import Piece, bytes_of, frames_at_once
from teleop_export.sessions.recorded import Session
from teleop_export.timing.loop_times import Flags

# What a dataset has, or LeRobot itself adds to its rows.
RESERVED = {
    *(ACTION, STATE, CAPTURE_TIME, OBSERVATION_AGE, PICTURE_AGE),
    *DEFAULT_FEATURES,
    *("task", "subtask", "language_persistent", "language_events"),
}
AS_IT_IS = '`"format": "parquet"` and `"format": "mcap"` keep it as it was recorded'
OTHERWISE = f"record it under another name; {AS_IT_IS}"


class LeftOutColumn(Struct, frozen=True):
    """A column that the recording command added, which the dataset does not have; `hint`: what to do."""

    name: str
    reason: str
    hint: str


@dataclass(frozen=True)
class ChosenColumns:
    """What becomes of the sessions' columns.

    columns   that the dataset has
    left_out  by session
    """

    columns: tuple[Column, ...]
    left_out: Mapping[int, tuple[LeftOutColumn, ...]]


@dataclass(frozen=True)
class _Part:
    """What one session gives to the dataset.

    rows  (N,) of its frames, whether they are in exported episodes
    """

    session: Session
    columns: Mapping[str, Column]
    rows: Flags

    def has_all(self, column: Column) -> Flags:
        """(N,) of its frames, whether they have a value of it."""
        bits = self.session.values.bits
        return (bits[:, column.position // 8] >> column.position % 8 & 1).astype(bool)


def choose_columns(sessions: Sequence[Session], pieces: Sequence[Piece]) -> ChosenColumns:
    """The columns that every frame of `pieces` has a value of, always of the same kind.

    LeRobot knows no missing values, and none that is made up would be true.
    """
    parts = [part for part in (_part(session, pieces) for session in sessions) if part.rows.any()]
    named: dict[str, Column] = {}
    for part in parts:
        for name, column in part.columns.items():
            named.setdefault(name, column)
    reasons = {name: _why_not(column, parts) for name, column in named.items()}
    return ChosenColumns(
        tuple(column for name, column in named.items() if reasons[name] is None),
        {
            part.session.id: tuple(left_out for name in part.columns if (left_out := reasons[name]))
            for part in parts
        },
    )


def _part(session: Session, pieces: Sequence[Piece]) -> _Part:
    index = session.values.index
    within = np.zeros(len(index), bool)
    for piece in pieces:
        if piece.session_id == session.id:
            # Of an hour in a hundred pieces, each looks at its own frames only.
            own = slice(*np.searchsorted(index, [piece.first, piece.end]).tolist())
            within[own] |= piece.holds(index[own])
    rows = within & session.values.rows
    return _Part(session, {column.name: column for column in session.columns}, rows)


def _why_not(column: Column, parts: Sequence[_Part]) -> LeftOutColumn | None:
    name = column.name
    if name in RESERVED:
        return LeftOutColumn(name, "datasets already use that feature name for something else", OTHERWISE)
    if "/" in name or "image" in name or not column.shape:
        what = "LeRobot allows no '/' in names, 'image' for pictures only, and no empty shapes"
        return LeftOutColumn(name, what, OTHERWISE)
    lacking = [part.session.id for part in parts if name not in part.columns]
    if lacking:
        having = [part.session.id for part in parts if name in part.columns]
        return LeftOutColumn(
            name, f"no frame of {_sessions(lacking)} has it", f"export {_sessions(having)} without the others"
        )
    for part in parts:
        if _kind(part.columns[name]) != _kind(column):
            return LeftOutColumn(
                name,
                f"it is {_told(column)} in session {parts[0].session.id}, {_told(part.columns[name])} in "
                f"session {part.session.id}",
                "export them as two datasets",
            )
    return next(_without_values(name, parts), None)


def _without_values(name: str, parts: Sequence[_Part]) -> Iterator[LeftOutColumn]:
    for part in parts:
        lacking = part.session.values.index[part.rows & ~part.has_all(part.columns[name])]
        if len(lacking):
            yield LeftOutColumn(
                name,
                f"session {part.session.id} has no value for it in {counted(len(lacking), 'frame')}, the "
                f"first is {lacking[0]}",
                f'give episodes that lack it the outcome "discarded"; {AS_IT_IS}',
            )


def _kind(column: Column) -> tuple[Any, ...]:
    return column.dtype, column.shape, column.names


def _told(column: Column) -> str:
    names = "" if column.names is None else f" of {column.names}"
    return f"{column.dtype} {list(column.shape)}{names}"


def _sessions(numbers: Sequence[int]) -> str:
    return f"session {', '.join(map(str, numbers))}"


def features_of(columns: Sequence[Column]) -> Features:
    """The columns as features of a dataset."""
    return {
        column.name: {"dtype": column.dtype, "shape": list(column.shape), "names": column.names}
        for column in columns
    }


def with_columns(frames: pa.Table, recorded: Sequence[Column], wanted: Sequence[Column]) -> pa.Table:
    """The frames with a column for each of `wanted`, as LeRobot stores it.

    recorded  all columns of the session
    raises    RecordingChanged if a value is missing
    """
    if not wanted:
        return frames
    packed = frames.column("columns")
    # What unpacking takes does not grow with an episode.
    rows = frames_at_once(bytes_of(recorded))
    parts = [
        unpack(packed.slice(begin, rows), recorded, [column.name for column in wanted])
        for begin in range(0, len(packed), rows)
    ]
    for column, *arrays in zip(wanted, *parts, strict=True):
        values = pa.chunked_array([_stored(array, column) for array in arrays])
        frames = frames.append_column(column.name, values)
    return frames.drop_columns(["columns"])


def _stored(values: pa.Array, column: Column) -> pa.Array:
    if values.null_count:
        raise RecordingChanged(
            f"column {column.name} has lost its value in {counted(values.null_count, 'frame')}"
        )
    return nested_lists(values.flatten(), column.shape) if len(column.shape) > 1 else values
