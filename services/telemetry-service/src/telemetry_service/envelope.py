"""Downsampling that keeps peaks visible; pure."""

import numpy as np
import pyarrow as pa

# Columns that say where a bucket begins and ends.
EDGES = ("frame_index", "timestamp")


def bucket_frames(frames: int, max_points: int) -> int:
    """Frames per bucket, so that two rows a bucket stay within `max_points`; 1 when all frames fit."""
    if frames <= max_points:
        return 1
    return -(-frames // (max_points // 2))


def envelope(table: pa.Table, bucket: int) -> pa.Table:
    """Two rows for every `bucket` rows of a flat table: each column's minima, then its maxima.

    table    frame_index, timestamp, and columns of numbers and strings; at least one row
    bucket   rows per bucket, the last one may hold fewer
    returns  the same columns; frame_index and timestamp are those of the bucket's first and last row,
             strings are null; NaN is where a bucket has nothing else
    """
    starts = np.arange(0, table.num_rows, bucket)
    ends = np.append(starts[1:], table.num_rows) - 1
    edges = pa.array(np.column_stack([starts, ends]).reshape(-1))
    columns = []
    for field, column in zip(table.schema, table.columns, strict=True):
        if field.name in EDGES:
            columns.append(column.take(edges))
        elif pa.types.is_string(field.type):
            columns.append(pa.nulls(len(edges), field.type))
        else:
            values = column.to_numpy()
            low, high = np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts)
            columns.append(pa.array(np.column_stack([low, high]).reshape(-1), field.type))
    return pa.table(columns, schema=table.schema)
