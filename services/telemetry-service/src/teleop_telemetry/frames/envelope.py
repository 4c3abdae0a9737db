"""Downsampling that keeps peaks visible; pure."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

# Columns that say where a bucket begins and ends.
EDGES = ("frame_index", "timestamp")


def bucket_frames(frames: int, max_points: int) -> int:
    """Frames per bucket, so that two rows per bucket stay within `max_points`; 1 if all frames fit."""
    if frames <= max_points:
        return 1
    return -(-frames // (max_points // 2))


def envelope(table: pa.Table, bucket: int) -> pa.Table:
    """Two rows for every `bucket` rows of a flat table: each column's minima, then its maxima.

    table    frame_index, timestamp, and columns of anything; at least one row
    bucket   rows per bucket; the last one may have fewer
    returns  the same columns; frame_index and timestamp are those of the bucket's first and last row.
             Anything but numbers is null; a bucket is NaN or null only if it has nothing else
    """
    starts = np.arange(0, table.num_rows, bucket)
    ends = np.append(starts[1:], table.num_rows) - 1
    edges = pa.array(np.column_stack([starts, ends]).reshape(-1))
    columns = []
    for field, column in zip(table.schema, table.columns, strict=True):
        if field.name in EDGES:
            columns.append(column.take(edges))
        elif pa.types.is_integer(field.type) or pa.types.is_floating(field.type):
            columns.append(_peaks(column, starts))
        else:
            columns.append(pa.nulls(len(edges), field.type))
    return pa.table(columns, schema=table.schema)


def _peaks(column: pa.ChunkedArray, starts: NDArray[np.int64]) -> pa.Array:
    """Least and greatest value of each bucket, null where it has none."""
    lows = highs = column
    if pa.types.is_integer(column.type) and column.null_count:
        limits = np.iinfo(column.type.to_pandas_dtype())
        lows, highs = column.fill_null(int(limits.max)), column.fill_null(int(limits.min))
    low = np.fmin.reduceat(lows.to_numpy(), starts)
    high = np.fmax.reduceat(highs.to_numpy(), starts)
    empty = ~np.logical_or.reduceat(column.is_valid().to_numpy(), starts)
    return pa.array(np.column_stack([low, high]).reshape(-1), column.type, mask=np.repeat(empty, 2))
