"""Columns of untrusted Parquet files as flat values, each as long as it has to be."""

import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from teleop_schema.columns import MAX_COLUMN_BYTES
from teleop_schema.disk.opening import open_regular

from teleop_dataset.errors import BrokenFile, NotImportable
from teleop_dataset.parquet_thrift import read_footer

# Rows at a time: 12 joints and 7 kB of further values are 140 MB.
BATCH_ROWS = 20_000


def read_batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a file, BATCH_ROWS at a time; raises BrokenFile, NotImportable, OSError, ArrowException."""
    with open_regular(path) as file:
        # Refuses what would expand to more than memory holds.
        if read_footer(file, file.seek(0, io.SEEK_END)) is None:
            raise BrokenFile("it has no footer: its writer did not close it")
        with pq.ParquetFile(file) as table:
            for name in columns:
                if name not in table.schema_arrow.names:
                    raise NotImportable(f"it has no column {name}", field=name)
            for batch in table.iter_batches(BATCH_ROWS, columns=list(columns), use_threads=False):
                batch.validate(full=True)
                yield batch


def plain_numbers(batch: pa.RecordBatch, name: str) -> npt.NDArray[Any]:
    """(rows,) of a column that has a number in each row; raises NotImportable."""
    numbers: npt.NDArray[Any] = flat_values(batch, name, (1,)).to_numpy(zero_copy_only=False)
    if numbers.dtype.kind not in "iuf":
        raise NotImportable(f"{name} is not a number", field=name)
    return numbers


def flat_values(batch: pa.RecordBatch, name: str, shape: Sequence[int]) -> pa.Array:
    """(rows * values,) of a column, in C order.

    shape   of each row's value; [1] is a plain value
    raises  NotImportable if a row has none, or one of another shape
    """
    values = batch.column(name)
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    # LeRobot stores one value as such, and as a list of one in older files.
    for length in shape:
        if values.null_count:
            raise NotImportable(f"{name} is missing in a row", field=name)
        if isinstance(values, pa.FixedSizeListArray):
            if values.type.list_size != length:
                raise _other_shape(name, shape)
        elif isinstance(values, pa.ListArray | pa.LargeListArray):
            if (np.diff(values.offsets.to_numpy()) != length).any():
                raise _other_shape(name, shape)
        elif tuple(shape) == (1,):
            break
        else:
            raise _other_shape(name, shape)
        values = values.flatten()
    if values.null_count:
        raise NotImportable(f"{name} is missing in a row", field=name)
    if len(values) != batch.num_rows * math.prod(shape):
        raise _other_shape(name, shape)
    return values


def as_dtype(values: pa.Array, name: str, dtype: str) -> pa.Array:
    """The values as LeRobot reads them: in the type that info.json tells; raises NotImportable."""
    kind = pa.string() if dtype == "string" else pa.type_for_alias(dtype)
    try:
        cast = values if values.type == kind else values.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise NotImportable(f"{name} is not {dtype}: {error}", field=name) from None
    if dtype == "string" and (pc.max(pc.binary_length(cast)).as_py() or 0) > MAX_COLUMN_BYTES:
        raise NotImportable(f"a text of {name} is too long", field=name, limit=MAX_COLUMN_BYTES)
    return cast


def _other_shape(name: str, shape: Sequence[int]) -> NotImportable:
    return NotImportable(f"a value of {name} is not of the shape {list(shape)}", field=name)
