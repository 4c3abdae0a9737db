"""`data/**.parquet`: one row per frame, one row group per episode."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from teleop_dataset.v3 import language
from teleop_dataset.v3.info import (
    ACTION,
    CAPTURE_TIME,
    OBSERVATION_AGE,
    PICTURE_AGE,
    STATE,
    Features,
)
from teleop_dataset.v3.numbering import Episodes, numbering_columns

NS_PER_US = 1000

# The column of the recorded frames for each recorded feature.
_SOURCE = {
    ACTION: "action",
    STATE: "state",
    OBSERVATION_AGE: OBSERVATION_AGE,
    PICTURE_AGE: PICTURE_AGE,
}


def data_schema(features: Features) -> pa.Schema:
    """Arrow schema of the data files, with the footer that tells `datasets` (and the Hub) the features.

    Videos have no column. Features of two and more dimensions are nested lists, as `datasets` stores them.
    """
    kept = {key: feature for key, feature in features.items() if feature["dtype"] != "video"}
    fields = [pa.field(key, language.TYPES.get(key) or _arrow_type(feature)) for key, feature in kept.items()]
    described = {key: language.DESCRIBED.get(key) or _described(feature) for key, feature in kept.items()}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": described}})})


def data_table(schema: pa.Schema, frames: pa.Table, episodes: Episodes, fps: int) -> pa.Table:
    """The rows of consecutive episodes.

    frames   their recorded frames, one after the other, as teleop_runtime.postgres.frames reads them; what
             else the schema has is there under the name of the feature: ages as lists, added columns in their
             type
    returns  one row per frame: `timestamp` is on the grid of fps, the real time is in `capture.time_ns`
    """
    columns: dict[str, Any] = dict(numbering_columns(episodes, fps))
    for field in schema:
        if field.name in _SOURCE:
            columns[field.name] = _vectors(frames.column(_SOURCE[field.name]), field.type)
        elif field.name == CAPTURE_TIME:
            captured_us = _combined(frames.column("timestamp")).cast(pa.int64()).to_numpy()
            columns[field.name] = captured_us * NS_PER_US
        elif field.name not in columns:
            columns[field.name] = _combined(frames.column(field.name))
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema)


def column_values(table: pa.Table, key: str) -> npt.NDArray[Any]:
    """Values of a column as (frames, width); a scalar column is one wide, and of a feature of two and more
    dimensions it is (frames, all others, the last one)."""
    values = _combined(table.column(key))
    levels = [len(values)]
    while isinstance(values, pa.FixedSizeListArray | pa.ListArray):
        values = values.flatten()
        levels.append(len(values))
    numbers: npt.NDArray[Any] = values.to_numpy(zero_copy_only=False)
    if len(levels) < 3:
        return numbers.reshape(levels[0], -1)
    return numbers.reshape(levels[0], levels[-2] // levels[0], -1)


def nested_lists(values: pa.Array, shape: Sequence[int]) -> pa.Array:
    """Lists of lists, as `datasets` stores features of two and more dimensions.

    values  of all frames in C order, (frames * all of `shape`,)
    """
    # From the inside out: the innermost lists hold the values.
    for length in reversed(shape):
        offsets = np.arange(0, len(values) + 1, length, dtype=np.int32)
        kind = pa.list_(pa.field("element", values.type))
        values = pa.ListArray.from_arrays(pa.array(offsets), values, type=kind)
    return values


def _combined(column: pa.ChunkedArray) -> Any:
    """One array, copied only if the column has several chunks."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _vectors(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    values = _combined(column).flatten()
    if not pa.types.is_fixed_size_list(kind):
        return values
    return pa.FixedSizeListArray.from_arrays(values, type=kind)


def _arrow_type(feature: Any) -> pa.DataType:
    """The Arrow type of a feature; LeRobot stores one-wide vectors as plain values, and pictures as files in
    the table."""
    if feature["dtype"] == "image":
        return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    kind = pa.type_for_alias(feature["dtype"])
    shape = feature["shape"]
    if len(shape) == 1:
        return kind if shape[0] == 1 else pa.list_(pa.field("element", kind), shape[0])
    for _ in shape:
        kind = pa.list_(pa.field("element", kind))
    return kind


def _described(feature: Any) -> dict[str, Any]:
    """A feature in the form of `datasets.Features`."""
    if feature["dtype"] == "image":
        return {"_type": "Image"}
    shape = feature["shape"]
    if len(shape) > 1:
        return {"shape": list(shape), "dtype": feature["dtype"], "_type": f"Array{len(shape)}D"}
    value = {"dtype": feature["dtype"], "_type": "Value"}
    return value if shape[0] == 1 else {"feature": value, "length": shape[0], "_type": "List"}
