"""Columns of sessions beyond state and action; the tables are telemetry-service's, here only read."""

from collections.abc import Sequence

import msgspec
import numpy as np
from teleop_schema.columns import Column

from teleop_export.sessions.recorded import Values
from teleop_export.tables.database import Connection
from teleop_export.timing.loop_times import SampleTimes, Which

COLUMNS = """
SELECT session_id, position, name, dtype, shape, names
  FROM session_column WHERE session_id = ANY(%s) ORDER BY session_id, position
"""

# The bitmap of each frame's packed values, as wide as that of a frame that has them all.
PRESENT = """
SELECT string_agg(
           substring(coalesce(substring(columns FROM 2 FOR get_byte(columns, 0)), '') || %(none)s::bytea
                     FROM 1 FOR %(width)s),
           '' ORDER BY frame_index) AS present
  FROM teleop_frame WHERE session_id = %(session)s AND frame_index < %(watermark)s
 GROUP BY frame_index / 8192 ORDER BY frame_index / 8192
"""


async def read_columns(connection: Connection, session_ids: list[int]) -> dict[int, tuple[Column, ...]]:
    """The columns of those sessions that have any, by position."""
    rows = await (await connection.execute(COLUMNS, [session_ids])).fetchall()
    found: dict[int, tuple[Column, ...]] = {}
    for row in rows:
        column = msgspec.convert({name: row[name] for name in row if name != "session_id"}, Column)
        found[row["session_id"]] = (*found.get(row["session_id"], ()), column)
    return found


async def read_values(
    connection: Connection,
    session_id: int,
    watermark: int,
    columns: Sequence[Column],
    samples: SampleTimes,
    which: Which,
) -> Values:
    """Which of a session's samples have values of its columns.

    which  samples become rows
    """
    width = max((column.position for column in columns), default=-1) // 8 + 1
    present = b""
    if width:
        wanted = {"session": session_id, "watermark": watermark, "width": width, "none": bytes(width)}
        rows = await (await connection.execute(PRESENT, wanted, binary=True)).fetchall()
        present = b"".join(row["present"] for row in rows)
    bits = np.frombuffer(present, np.uint8).reshape(len(samples), width)
    return Values(samples.index, samples.rows(which), bits)
