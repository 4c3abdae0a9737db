"""Blocks as rows of a COPY, read back as PostgreSQL reads them."""

import struct

import pyarrow as pa
from teleop_telemetry.frames.block import block_of_batch
from teleop_telemetry.frames.columns import COLUMNS, encode_rows, encode_tables
from teleop_testing.robots.robot import batch, values_of

# https://www.postgresql.org/docs/current/sql-copy.html: signature, flags, length of an extension.
HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
# Microseconds from 1970 to 2000, from where PostgreSQL counts.
TO_2000_US = 946_684_800_000_000


def rows_of(content: bytes) -> list[dict[str, bytes | None]]:
    assert content.startswith(HEADER)
    at, rows = len(HEADER), []
    while (count := struct.unpack_from(">h", content, at)[0]) != -1:
        at += 2
        row: dict[str, bytes | None] = {}
        for name in COLUMNS.names[:count]:
            (size,) = struct.unpack_from(">i", content, at)
            at += 4
            row[name] = None if size < 0 else content[at : at + size]
            at += max(size, 0)
        assert len(row) == len(COLUMNS)
        rows.append(row)
    assert content[at:] == b"\xff\xff"
    return rows


def integer(value: bytes | None) -> int:
    assert value is not None
    return int.from_bytes(value, "big", signed=True)


def floats(value: bytes | None) -> list[float]:
    """Of an array: dimensions, has nulls, type, length, lower bound; then a length before each value."""
    assert value is not None
    dimensions, nulls, _, count, _ = struct.unpack_from(">iiIii", value)
    assert (dimensions, nulls) == (1, 0)
    return [struct.unpack_from(">if", value, 20 + 8 * number)[1] for number in range(count)]


def blocks():
    """Two sessions; the second lacks a frame, and one of its frames has more than joints."""
    first = block_of_batch(batch(10, 3), 2, 2)
    second = block_of_batch(batch(0, 4, extra={2: {"note": "x"}}, observation_ages_us={3: 16_000}), 2, 2)
    return first, second.without({1: "lost"})


def test_each_frame_is_a_row_of_its_session():
    """With its own index, values and time; what it has not is null."""
    rows = rows_of(encode_rows([7, 9], blocks()))
    indexes = [(integer(row["session_id"]), integer(row["frame_index"])) for row in rows]
    assert indexes == [(7, 10), (7, 11), (7, 12), (9, 0), (9, 2), (9, 3)]
    runs = [run for block in blocks() for run in block.runs]
    times = [us for run in runs for (us,) in struct.iter_unpack("<q", run.timestamps)]
    assert [integer(row["timestamp"]) + TO_2000_US for row in rows] == times
    for row, (_, index) in zip(rows, indexes, strict=True):
        assert (*floats(row["state"]), *floats(row["action"])) == values_of(index)
    # 1: the version of jsonb's binary format.
    assert [row["extra"] for row in rows] == [None] * 4 + [b'\x01{"note":"x"}', None]
    assert [row["observation_age_us"] and integer(row["observation_age_us"]) for row in rows][-1] == 16_000
    assert {row["columns"] for row in rows} == {None}


def test_frames_that_nobody_has_more_of():
    """Most blocks: nothing beyond joints is a column of nulls."""
    first, _ = blocks()
    for row in rows_of(encode_rows([7], [first])):
        assert (row["extra"], row["observation_age_us"], row["columns"]) == (None, None, None)


def test_tables_make_the_same_rows():
    """What was read back and is written again is bit for bit what it was."""
    first, _ = blocks()
    (run,) = first.runs
    table = pa.table(
        {
            "frame_index": pa.array(range(run.first, run.end), pa.int64()),
            "timestamp": pa.array(
                [us for (us,) in struct.iter_unpack("<q", run.timestamps)], pa.timestamp("us")
            ),
            "state": [list(values) for values in struct.iter_unpack("<2f", run.state)],
            "action": [list(values) for values in struct.iter_unpack("<2f", run.action)],
            "extra": pa.nulls(run.count, pa.string()),
            "observation_age_us": pa.nulls(run.count, pa.int64()),
            "columns": pa.nulls(run.count, pa.binary()),
        }
    )
    pieces = b"".join(encode_tables(7, [table.slice(0, 1), table.slice(1)]))
    assert rows_of(pieces) == rows_of(encode_rows([7], [first]))
