"""`meta/episodes/**.parquet`: one row per episode, with its place and its statistics."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from teleop_dataset.v3.info import Features
from teleop_dataset.v3.layout import Place
from teleop_dataset.v3.numbering import Episodes
from teleop_dataset.v3.stats import QUANTILES, Stats

_COUNT = "count"
_STATISTICS = ("min", "max", "mean", "std", _COUNT, *QUANTILES)
_OWN_PLACE = (("meta/episodes/chunk_index", pa.int64()), ("meta/episodes/file_index", pa.int64()))


def episodes_schema(features: Features) -> pa.Schema:
    """Columns in LeRobot's order."""
    return pa.schema(
        [
            ("episode_index", pa.int64()),
            ("tasks", _list_of(pa.string())),
            ("length", pa.int64()),
            ("data/chunk_index", pa.int64()),
            ("data/file_index", pa.int64()),
            ("dataset_from_index", pa.int64()),
            ("dataset_to_index", pa.int64()),
            *(
                (f"stats/{key}/{name}", _list_of(pa.int64() if name == _COUNT else pa.float64()))
                for key in features
                for name in _STATISTICS
            ),
            *_OWN_PLACE,
        ]
    )


def episodes_table(
    schema: pa.Schema,
    episodes: Episodes,
    tasks: Sequence[str],
    places: Sequence[Place],
    stats: Mapping[str, Stats],
) -> pa.Table:
    """Rows of consecutive episodes, still without the columns of their own place.

    tasks, places  of each episode: what it shows, and the data file that it lies in
    stats          of each feature, episode by episode
    """
    columns: dict[str, Any] = {
        "episode_index": episodes.indexes,
        "tasks": [[task] for task in tasks],
        "length": episodes.lengths,
        "data/chunk_index": [place.chunk for place in places],
        "data/file_index": [place.file for place in places],
        "dataset_from_index": episodes.begins,
        "dataset_to_index": episodes.ends,
    }
    for key, found in stats.items():
        for name, values in _statistics(found).items():
            columns[f"stats/{key}/{name}"] = _lists(values, schema.field(f"stats/{key}/{name}").type)
    fields = list(schema)[: -len(_OWN_PLACE)]
    return pa.table([pa.array(columns[field.name], field.type) for field in fields], pa.schema(fields))


def put_in_place(table: pa.Table, place: Place) -> pa.Table:
    """`table` with the columns that say which episodes file it lies in."""
    for (name, kind), number in zip(_OWN_PLACE, place, strict=True):
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
    rows, width = values.shape
    offsets = np.arange(0, (rows + 1) * width, width, dtype=np.int32)
    flat = values.ravel().astype(kind.value_type.to_pandas_dtype())
    return pa.ListArray.from_arrays(offsets, flat, type=kind)


def _list_of(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", kind))
