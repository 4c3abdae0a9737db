"""Writes the frames of a session to a Parquet file that every Parquet reader understands, and reads them.

Values that a command added beyond state and action have their own columns, `columns.<name>`, with their own
type, null if a frame has no value. In the database, one string of bytes has all of them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from teleop_runtime.postgres.columns import arrow_type, pack, unpack
from teleop_runtime.postgres.frames import frame_schema
from teleop_schema.columns import Column

# Lists of variable length, because Parquet's reader does not accept a fixed length of 0.
SCHEMA = pa.schema(
    [
        pa.field("frame_index", pa.int64()),
        pa.field("timestamp", pa.timestamp("us", tz="UTC")),
        pa.field("state", pa.list_(pa.float32())),
        pa.field("action", pa.list_(pa.float32())),
        pa.field("extra", pa.string()),
        pa.field("observation_age_us", pa.int64()),
        pa.field("columns", pa.binary()),
    ]
)
PREFIX = "columns."
# The key of the file's metadata that describes these columns, as JSON.
COLUMNS_KEY = b"teleop_columns"


def file_schema(columns: Sequence[Column]) -> pa.Schema:
    """Columns of the file, for a session with `columns` beyond state and action."""
    fields = [field for field in SCHEMA if field.name != "columns"]
    fields += [pa.field(PREFIX + column.name, arrow_type(column)) for column in columns]
    return pa.schema(fields, {COLUMNS_KEY: msgspec.json.encode(columns)} if columns else None)


def to_file(table: pa.Table, columns: Sequence[Column]) -> pa.Table:
    """Converts frames from FrameReader's form to that of the file."""
    schema = file_schema(columns)
    base = table.drop_columns(["columns"]).cast(pa.schema(list(schema)[: len(SCHEMA) - 1]))
    return pa.table([*base.columns, *unpack(table["columns"], columns)], schema)


def from_file(table: pa.Table) -> pa.Table:
    """Frames of the file with the columns of SCHEMA; an older file may lack some, for its frames had nothing
    of them, or have the added columns packed."""
    told = (table.schema.metadata or {}).get(COLUMNS_KEY)
    columns = msgspec.json.decode(told, type=list[Column]) if told else []
    if columns:
        arrays = [table[PREFIX + column.name].combine_chunks() for column in columns]
        table = table.append_column(SCHEMA.field("columns"), pack(arrays, columns))
    found = [
        table[field.name] if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in SCHEMA
    ]
    return pa.table(found, SCHEMA)


def read_in_blocks(path: Path) -> Iterator[pa.Table]:
    """All frames of a file, a row group at a time."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield from_file(file.read_row_group(group))


def bits_of(table: pa.Table) -> pa.Table:
    """Frames with floats as bits, because no NaN equals another."""
    for name in ("state", "action"):
        column = table[name].combine_chunks()
        bits = pa.ListArray.from_arrays(column.offsets, column.values.view(pa.int32()))
        table = table.set_column(table.column_names.index(name), name, bits)
    return table


class ArchivedFrames:
    """Reads frames from a file in the same form as FrameReader does from the database."""

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path)

    def read(
        self,
        _session_id: int,
        first: int,
        end: int,
        *,
        state_width: int,
        action_width: int,
        limit: int | None = None,
    ) -> pa.Table:
        """Existing frames from `first` to `end - 1`, at most `limit`, ascending, with the schema
        `frame_schema`."""
        found = [SCHEMA.empty_table()]
        rows = 0
        for group, (lowest, highest) in enumerate(self._ranges()):
            if lowest >= end or (limit is not None and rows >= limit):
                break
            if highest >= first:
                table = from_file(self._file.read_row_group(group))
                indexes = table["frame_index"].to_numpy()
                found.append(table.filter(pa.array((indexes >= first) & (indexes < end))))
                rows += found[-1].num_rows
        joined = pa.concat_tables(found).cast(frame_schema(state_width, action_width))
        return joined if limit is None else joined.slice(0, limit)

    def close(self) -> None:
        self._file.close()

    def _ranges(self) -> Iterator[tuple[int, int]]:
        """Lowest and highest frame index of each row group."""
        metadata = self._file.metadata
        for group in range(metadata.num_row_groups):
            told = metadata.row_group(group).column(0).statistics
            yield told.min, told.max
