"""Turns blocks of all robots into the columns of one COPY, and finds frames that no table accepts; pure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pgpq
import pyarrow as pa
from numpy.typing import NDArray
from pgpq.encoders import StringEncoderBuilder
from pgpq.schema import Jsonb
from teleop_schema.limits import FIRST_US, LAST_US

from teleop_telemetry.frames.block import NOTHING_BEYOND, VALUE_BYTES, FrameBlock, FrameExtras, Run

COLUMNS = pa.schema(
    [
        pa.field("session_id", pa.int64()),
        pa.field("frame_index", pa.int64()),
        # Without a zone: pgpq writes the same eight bytes, which PostgreSQL takes for UTC.
        pa.field("timestamp", pa.timestamp("us")),
        pa.field("state", pa.list_(pa.float32())),
        pa.field("action", pa.list_(pa.float32())),
        pa.field("extra", pa.string()),
        pa.field("observation_age_us", pa.int64()),
        pa.field("columns", pa.binary()),
    ]
)
ENCODERS = {column.name: pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(column) for column in COLUMNS} | {
    "extra": StringEncoderBuilder.new_with_output(COLUMNS.field("extra"), Jsonb())
}


def encode_rows(session_ids: Sequence[int], blocks: Sequence[FrameBlock]) -> bytes:
    """Rows of `teleop_frame` in PostgreSQL's binary COPY format; blocks[i] belongs to session_ids[i]."""
    runs = [run for block in blocks for run in block.runs]
    counts = np.array([run.count for run in runs])
    sessions = np.array(
        [session for session, block in zip(session_ids, blocks, strict=True) for _ in block.runs], np.int64
    )
    batch = pa.record_batch(
        [
            _arrow(pa.int64(), np.repeat(sessions, counts)),
            _arrow(pa.int64(), _frame_indexes(runs, counts)),
            _arrow(pa.timestamp("us"), _timestamps(runs)),
            _list_column([run.state for run in runs], counts),
            _list_column([run.action for run in runs], counts),
            *_beyond_columns(blocks, int(counts.sum())),
        ],
        schema=COLUMNS,
    )
    encoder = pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(COLUMNS, ENCODERS)
    return b"".join((encoder.write_header(), encoder.write_batch(batch), encoder.finish()))


def encode_tables(session_id: int, tables: Iterable[pa.Table]) -> Iterator[bytes]:
    """Frames of a session, from FrameReader's tables, in the same format, one piece per table."""
    encoder = pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(COLUMNS, ENCODERS)
    yield encoder.write_header()
    for table in tables:
        sessions = _arrow(pa.int64(), np.full(len(table), session_id, np.int64))
        rows = table.add_column(0, COLUMNS.field("session_id"), sessions).cast(COLUMNS).combine_chunks()
        for batch in rows.to_batches():
            yield encoder.write_batch(batch)
    yield encoder.finish()


def quarantine(blocks: Sequence[FrameBlock]) -> list[FrameBlock]:
    """The blocks, in which frames with a value that no table accepts have become gaps.

    That is a timestamp outside of the years 1 to 9999.
    """
    runs = [run for block in blocks for run in block.runs]
    if not runs:
        return list(blocks)
    timestamps = _timestamps(runs)
    # One look at all robots' times together; only if one is wrong does it matter whose.
    if timestamps.min() >= FIRST_US and timestamps.max() <= LAST_US:
        return list(blocks)
    return [_without_culprits(block) for block in blocks]


def _without_culprits(block: FrameBlock) -> FrameBlock:
    culprits: dict[int, str] = {}
    for run in block.runs:
        for row in np.nonzero(_outside(_timestamps([run])))[0]:
            culprits.setdefault(run.first + int(row), "the timestamp is outside the years 1 to 9999")
    return block.without(culprits) if culprits else block


def _outside(timestamps: NDArray[np.int64]) -> NDArray[np.bool_]:
    return (timestamps < FIRST_US) | (timestamps > LAST_US)


def _frame_indexes(runs: Sequence[Run], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    firsts = np.array([run.first for run in runs], np.int64)
    starts = np.cumsum(counts) - counts
    return np.repeat(firsts - starts, counts) + np.arange(counts.sum())


def _timestamps(runs: Sequence[Run]) -> NDArray[np.int64]:
    return np.frombuffer(b"".join([run.timestamps for run in runs]), "<i8")


def _floats(columns: Sequence[bytes]) -> NDArray[np.float32]:
    return np.frombuffer(b"".join(columns), "<f4")


def _list_column(columns: Sequence[bytes], counts: NDArray[np.int64]) -> pa.ListArray:
    widths = np.array([len(column) for column in columns]) // (VALUE_BYTES * counts)
    offsets = np.zeros(int(counts.sum()) + 1, np.int32)
    np.cumsum(np.repeat(widths, counts), out=offsets[1:])
    return pa.ListArray.from_arrays(_arrow(pa.int32(), offsets), _arrow(pa.float32(), _floats(columns)))


def _arrow(kind: pa.DataType, values: NDArray[Any]) -> pa.Array:
    """The same memory as an Arrow array; unlike `pa.array` this does not load pandas to look at it."""
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _beyond_columns(blocks: Sequence[FrameBlock], rows: int) -> list[pa.Array]:
    """The columns that are empty for most frames."""
    kinds = {name: COLUMNS.field(name).type for name in FrameExtras.__struct_fields__}
    # Nearly always: no Python object is made for a row then.
    if not any(block.beyond for block in blocks):
        return [pa.nulls(rows, kind) for kind in kinds.values()]
    beyond = [
        block.beyond.get(index, NOTHING_BEYOND)
        for block in blocks
        for run in block.runs
        for index in range(run.first, run.end)
    ]
    return [pa.array([getattr(each, name) for each in beyond], kind) for name, kind in kinds.items()]
