"""Writes frames as JSON, CSV, Arrow or Parquet, a piece at a time; pure."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf, isfinite
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from teleop_runtime.postgres.columns import unpack
from teleop_runtime.postgres.frames import frame_schema
from teleop_schema.columns import Column

FORMATS = {
    "application/json": "json",
    "text/csv": "csv",
    "application/vnd.apache.arrow.stream": "arrow",
    "application/vnd.apache.parquet": "parquet",
}

NOT_FINITE_JSON = {inf: "Infinity", -inf: "-Infinity"}
NOT_FINITE_CSV = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}

# What browsers and curl ask for when they do not care.
FAMILIES = {
    "": "application/json",
    "*/*": "application/json",
    "application/*": "application/json",
    "text/*": "text/csv",
}


def choose_format(accept: str) -> str | None:
    """The available media type that an Accept header prefers, None if it accepts none."""
    found: tuple[float, str] | None = None
    for part in accept.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = _quality(parameters)
        media_type = FAMILIES.get(name, name)
        # Of equal ones the first counts; a quality of 0 refuses.
        if media_type in FORMATS and quality > (found[0] if found else 0):
            found = (quality, media_type)
    return found and found[1]


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0
    return 1


def flatten(
    table: pa.Table, state_names: Sequence[str], action_names: Sequence[str], columns: Sequence[Column] = ()
) -> pa.Table:
    """One column per joint, and 0 for the age of an observation that is the frame's own.

    They are frame_index, timestamp, observation.<name>, action.<name>, columns.<name> (null where a frame has
    no value of it), observation_age_us, extra.
    """
    flat: dict[str, Any] = {name: table[name] for name in ("frame_index", "timestamp")}
    for prefix, vector, names in (
        ("observation", "state", state_names),
        ("action", "action", action_names),
    ):
        values = table[vector].combine_chunks().flatten()
        for number, name in enumerate(names):
            flat[f"{prefix}.{name}"] = values[number :: len(names)]
    for column, array in zip(columns, unpack(table["columns"], columns), strict=True):
        flat[f"columns.{column.name}"] = array
    flat["observation_age_us"] = table["observation_age_us"].fill_null(0)
    flat["extra"] = table["extra"]
    return pa.table(flat)


def flat_schema(
    state_names: Sequence[str], action_names: Sequence[str], columns: Sequence[Column] = ()
) -> pa.Schema:
    """Columns of a flat table."""
    empty = frame_schema(len(state_names), len(action_names)).empty_table()
    return flatten(empty, state_names, action_names, columns).schema


def encode(media_type: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> Iterator[bytes]:
    """The file of all `tables`, which share `schema`, in pieces."""
    if media_type == "application/json":
        return _json(tables)
    if media_type == "text/csv":
        return _csv(schema, tables)
    writers: dict[str, Callable[[Any], Any]] = {
        "application/vnd.apache.arrow.stream": lambda sink: pa.ipc.new_stream(sink, schema),
        "application/vnd.apache.parquet": lambda sink: pq.ParquetWriter(sink, schema),
    }
    return _written(writers[media_type], tables)


def encode_parquet(schema: pa.Schema, tables: Iterable[pa.Table]) -> Iterator[bytes]:
    """A Parquet file to keep, a row group for each of `tables`, in pieces."""
    return _written(lambda sink: pq.ParquetWriter(sink, schema, compression="zstd"), tables)


def _csv(schema: pa.Schema, tables: Iterable[pa.Table]) -> Iterator[bytes]:
    """CSV as pyarrow.csv writes it, apart from NaN and infinities, which it writes differently."""
    yield ",".join(map(_quoted, schema.names)).encode() + b"\n"
    for table in tables:
        cells = [_csv_cells(column) for column in table.columns]
        # Column by column in Arrow, not row by row in Python.
        lines = pc.binary_join_element_wise(*cells, ",", null_handling="replace", null_replacement="")
        yield "".join(f"{line}\n" for line in lines.to_pylist()).encode()


def _csv_cells(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_string(column.type):
        return pc.binary_join_element_wise('"', pc.replace_substring(column, '"', '""'), '"', "")
    if pa.types.is_fixed_size_list(column.type):
        lists = [value and msgspec.json.encode(value).decode() for value in _json_values(column)]
        return _csv_cells(pa.chunked_array([pa.array(lists, pa.string())]))
    cells = column.cast(pa.string())
    if pa.types.is_floating(column.type) and not np.isfinite(column.to_numpy()).all():
        for told, word in NOT_FINITE_CSV.items():
            cells = pc.if_else(pc.equal(cells, told), word, cells)
    return cells


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _json(tables: Iterable[pa.Table]) -> Iterator[bytes]:
    separator = b'{"frames":['
    for table in tables:
        names = table.column_names
        rows = zip(*map(_json_values, table.columns), strict=True)
        frames = b",\n".join(msgspec.json.encode(_frame(names, row)) for row in rows)
        yield separator + frames
        separator = b",\n"
    yield b"]}" if separator == b",\n" else separator + b"]}"


def _json_values(column: pa.ChunkedArray) -> list[Any]:
    """JSON has neither NaN, which becomes null, nor infinity, which becomes text."""
    values: list[Any] = column.to_pylist()
    if pa.types.is_fixed_size_list(column.type):
        return [value and [_json_value(each) for each in value] for value in values]
    if pa.types.is_floating(column.type) and not np.isfinite(column.to_numpy()).all():
        return [_json_value(value) for value in values]
    return values


def _json_value(value: Any) -> Any:
    return NOT_FINITE_JSON.get(value) if isinstance(value, float) and not isfinite(value) else value


def _frame(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """Nested as a plain client sends frames; the time is in ISO 8601."""
    flat = dict(zip(names, values, strict=True))
    frame: dict[str, Any] = {
        "frame_index": flat.pop("frame_index"),
        "timestamp": flat.pop("timestamp"),
        "observation": {},
        "action": {},
    }
    if age_us := flat.pop("observation_age_us"):
        frame["observation_age_us"] = age_us
    if (extra := flat.pop("extra")) is not None:
        frame["extra"] = msgspec.json.decode(extra)
    for name, value in flat.items():
        part, _, joint = name.partition(".")
        if part != "columns":
            frame[part][joint] = value
        elif value is not None:
            frame.setdefault(part, {})[joint] = value
    return frame


def _written(open_writer: Callable[[Any], Any], tables: Iterable[pa.Table]) -> Iterator[bytes]:
    sink = _Sink()
    with open_writer(sink) as writer:
        for table in tables:
            writer.write(table)
            yield sink.take()
    yield sink.take()


class _Sink:
    """A file whose content is taken piece by piece while it is written."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, piece: bytes) -> int:
        # A copy, because Arrow may use the buffer again.
        self._pieces.append(bytes(piece))
        return len(piece)

    def take(self) -> bytes:
        # What a writer keeps until the end, Parquet's footer for example, comes with the last piece.
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def flush(self) -> None:
        """Nothing lies between a write and the list."""

    def close(self) -> None:
        self.closed = True
