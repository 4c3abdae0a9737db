"""`meta/episodes/**.parquet`: one row per episode, with its place and its statistics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from teleop_dataset.v3.info import Features
from teleop_dataset.v3.layout import FileNumber
from teleop_dataset.v3.numbering import Episodes
from teleop_dataset.v3.stats import QUANTILES, Stats

_COUNT = "count"
STATISTICS = ("min", "max", "mean", "std", _COUNT, *QUANTILES)
# Kinds of features for which LeRobot computes no statistics.
WITHOUT_STATISTICS = frozenset({"string", "language"})
PICTURES = frozenset({"video", "image"})
_VIDEO_PLACE = (
    ("chunk_index", pa.int64()),
    ("file_index", pa.int64()),
    ("from_timestamp", pa.float64()),
    ("to_timestamp", pa.float64()),
)
NO_LABELS = pa.schema([])
OWN_PLACE = (("meta/episodes/chunk_index", pa.int64()), ("meta/episodes/file_index", pa.int64()))


@dataclass(frozen=True)
class Clip:
    """The place of an episode in one camera's mp4 file, in seconds from its beginning."""

    place: FileNumber
    from_s: float
    to_s: float


def places_schema(features: Features) -> pa.Schema:
    """The columns by which LeRobot finds an episode's rows and its video."""
    return pa.schema(
        [
            ("episode_index", pa.int64()),
            ("length", pa.int64()),
            ("data/chunk_index", pa.int64()),
            ("data/file_index", pa.int64()),
            ("dataset_from_index", pa.int64()),
            ("dataset_to_index", pa.int64()),
            *(
                (f"videos/{key}/{name}", kind)
                for key, feature in features.items()
                if feature["dtype"] == "video"
                for name, kind in _VIDEO_PLACE
            ),
        ]
    )


def episodes_schema(features: Features, labels: pa.Schema = NO_LABELS) -> pa.Schema:
    """Columns in LeRobot's order; then `labels`, which LeRobot hands to an `episode_filter`."""
    index, *places = places_schema(features)
    return pa.schema(
        [
            index,
            ("tasks", _list_of(pa.string())),
            *places,
            *(
                (f"stats/{key}/{name}", _list_of(pa.int64()) if name == _COUNT else _statistic_type(feature))
                for key, feature in features.items()
                if feature["dtype"] not in WITHOUT_STATISTICS
                for name in STATISTICS
            ),
            *labels,
            *OWN_PLACE,
        ]
    )


def statistics_per_row(features: Features, labels: pa.Schema = NO_LABELS) -> dict[str, int]:
    """How many values each column of the episodes has in every row; `tasks` has as many as there are, and so
    have `labels` that are lists."""
    numbers = dict.fromkeys(episodes_schema(features, labels).names, 1)
    for name in ("tasks", *(each.name for each in labels if pa.types.is_list(each.type))):
        del numbers[name]
    for key, feature in features.items():
        for name in STATISTICS:
            if name != _COUNT and f"stats/{key}/{name}" in numbers:
                numbers[f"stats/{key}/{name}"] = feature["shape"][-1]
    return numbers


def episodes_table(
    schema: pa.Schema,
    episodes: Episodes,
    tasks: Sequence[Sequence[str]],
    places: Sequence[FileNumber],
    stats: Mapping[str, Stats],
    clips: Mapping[str, Sequence[Clip]],
    labels: Mapping[str, Sequence[Any]] | None = None,
) -> pa.Table:
    """Rows of consecutive episodes, still without the columns of their own place.

    tasks, places  of each episode: each of its tasks once, and the data file that it lies in
    stats          of each feature, episode by episode
    clips          of each camera's feature, episode by episode
    labels         by the names of the schema's columns for them, episode by episode
    """
    columns: dict[str, Any] = {
        "episode_index": episodes.indexes,
        "tasks": [list(each) for each in tasks],
        "length": episodes.lengths,
        "data/chunk_index": [place.chunk for place in places],
        "data/file_index": [place.file for place in places],
        "dataset_from_index": episodes.begins,
        "dataset_to_index": episodes.ends,
        **(labels or {}),
    }
    for key, each in clips.items():
        columns[f"videos/{key}/chunk_index"] = [clip.place.chunk for clip in each]
        columns[f"videos/{key}/file_index"] = [clip.place.file for clip in each]
        columns[f"videos/{key}/from_timestamp"] = [clip.from_s for clip in each]
        columns[f"videos/{key}/to_timestamp"] = [clip.to_s for clip in each]
    for key, found in stats.items():
        for name, values in _statistics(found).items():
            columns[f"stats/{key}/{name}"] = _lists(values, schema.field(f"stats/{key}/{name}").type)
    fields = list(schema)[: -len(OWN_PLACE)]
    return pa.table([pa.array(columns[field.name], field.type) for field in fields], pa.schema(fields))


def put_in_place(table: pa.Table, place: FileNumber) -> pa.Table:
    """`table` with the columns that name its episodes file."""
    for (name, kind), number in zip(OWN_PLACE, place, strict=True):
        table = table.append_column(name, pa.array(np.full(len(table), number), kind))
    return table


def _statistics(stats: Stats) -> dict[str, npt.NDArray[Any]]:
    """Each statistic of one feature as (episodes, width)."""
    return {
        "min": stats.low,
        "max": stats.high,
        "mean": stats.mean,
        "std": stats.std,
        _COUNT: stats.count[:, None],
        **{name: stats.quantiles[:, number] for number, name in enumerate(QUANTILES)},
    }


def _lists(values: npt.NDArray[Any], kind: Any) -> pa.Array:
    """One list per row of `values`; of a `kind` of nested lists, each value is in lists of its own."""
    rows, width = values.shape
    return _cut(rows, width, _nested(values.ravel(), kind.value_type), kind)


def _nested(values: npt.NDArray[Any], kind: Any) -> pa.Array:
    if pa.types.is_list(kind):
        return _cut(len(values), 1, _nested(values, kind.value_type), kind)
    return pa.array(values.astype(kind.to_pandas_dtype()), kind)


def _cut(rows: int, width: int, values: pa.Array, kind: Any) -> pa.Array:
    offsets = pa.array(np.arange(0, (rows + 1) * width, width, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, values, type=kind)


def _statistic_type(feature: Mapping[str, Any]) -> pa.DataType:
    """Of pictures they are per channel, of shape (channels, 1, 1); else per value of the last dimension."""
    numbers = _list_of(pa.float64())
    return _list_of(_list_of(numbers)) if feature["dtype"] in PICTURES else numbers


def _list_of(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", kind))
