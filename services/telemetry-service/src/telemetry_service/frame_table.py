"""The one place that writes frames: watermark compare-and-set and COPY in one transaction."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pgpq
import pyarrow as pa
from numpy.typing import NDArray
from pgpq.encoders import StringEncoderBuilder
from pgpq.schema import Jsonb
from teleop_runtime.database import Connection, Pool

from telemetry_service.event_rows import store_events
from telemetry_service.frame_block import FrameBlock

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COMMIT_TIMEOUT_S = 30.0

COLUMNS = pa.schema(
    [
        pa.field("session_id", pa.int64()),
        pa.field("frame_index", pa.int64()),
        pa.field("timestamp", pa.timestamp("us")),
        pa.field("state", pa.list_(pa.float32())),
        pa.field("action", pa.list_(pa.float32())),
        pa.field("extra", pa.string()),
    ]
)
ENCODERS = {column.name: pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(column) for column in COLUMNS} | {
    "extra": StringEncoderBuilder.new_with_output(COLUMNS.field("extra"), Jsonb())
}

# Rows are locked in the order of their ids, so that two commits never wait for each other in a circle.
ADVANCE = """
WITH wanted AS (
    SELECT s.id, b.last, b.frame_time
      FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::bigint[], $5::timestamptz[])
           AS b(id, epoch, first, last, frame_time)
      JOIN teleop_session s ON s.id = b.id AND s.epoch = b.epoch AND s.next_frame_index = b.first
     ORDER BY s.id
       FOR UPDATE OF s
)
UPDATE teleop_session s
   SET next_frame_index = wanted.last, last_commit_at = now(),
       last_frame_time = coalesce(wanted.frame_time, s.last_frame_time)
  FROM wanted WHERE s.id = wanted.id
RETURNING s.id
"""

STORE_GAPS = """
INSERT INTO frame_gap (session_id, first_frame, end_frame, reason)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[])
"""

READ_WATERMARKS = "SELECT id, epoch, next_frame_index FROM teleop_session WHERE id = ANY($1::bigint[])"


@dataclass(frozen=True)
class Append:
    """Frames to add to one session, by a connection of that epoch."""

    session_id: int
    epoch: int
    block: FrameBlock


@dataclass(frozen=True)
class Watermark:
    """Where a session stands in the database."""

    epoch: int
    next: int


class FrameTable:
    """Writes to `teleop_frame`, and to what moves with it: watermark, gaps, events."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def append(self, appends: Sequence[Append]) -> set[int]:
        """Commit frames of any number of sessions, at most one Append a session, all in one transaction.

        Returns the ids of the sessions whose frames are now durable. A session that is missing had another
        epoch or watermark than the Append says: nothing of it was stored. After an exception the outcome is
        unknown; trying again is safe, for what was committed will then be missing from the answer.
        """
        ordered = sorted(appends, key=lambda append: append.session_id)
        async with self._pool.acquire(timeout=COMMIT_TIMEOUT_S) as connection, connection.transaction():
            advanced = await self._advance(connection, ordered)
            stored = [append for append in ordered if append.session_id in advanced]
            await _copy(connection, stored)
            await _store_gaps(connection, stored)
            await store_events(
                connection, [(append.session_id, event) for append in stored for event in append.block.events]
            )
        return advanced

    async def watermarks(self, session_ids: Sequence[int]) -> Mapping[int, Watermark]:
        """Where the sessions stand now."""
        rows = await self._pool.fetch(READ_WATERMARKS, session_ids, timeout=COMMIT_TIMEOUT_S)
        return {row["id"]: Watermark(row["epoch"], row["next_frame_index"]) for row in rows}

    async def _advance(self, connection: Connection, appends: Sequence[Append]) -> set[int]:
        rows = await connection.fetch(
            ADVANCE,
            [append.session_id for append in appends],
            [append.epoch for append in appends],
            [append.block.first for append in appends],
            [append.block.end for append in appends],
            [_last_time(append.block) for append in appends],
            timeout=COMMIT_TIMEOUT_S,
        )
        return {row["id"] for row in rows}


async def _copy(connection: Connection, appends: Sequence[Append]) -> None:
    filled = [append for append in appends if len(append.block.frame_index)]
    if not filled:
        return
    encoded = encode_rows(filled)

    async def source() -> AsyncIterator[bytes]:
        yield encoded

    await connection.copy_to_table(
        "teleop_frame",
        source=source(),
        format="binary",
        columns=COLUMNS.names,
        timeout=COMMIT_TIMEOUT_S,
    )


async def _store_gaps(connection: Connection, appends: Sequence[Append]) -> None:
    gaps = [(append.session_id, gap) for append in appends for gap in append.block.gaps]
    if gaps:
        await connection.execute(
            STORE_GAPS,
            [session_id for session_id, _ in gaps],
            [gap.first for _, gap in gaps],
            [gap.end for _, gap in gaps],
            [gap.reason for _, gap in gaps],
        )


def encode_rows(appends: Sequence[Append]) -> bytes:
    """Rows of `teleop_frame` in PostgreSQL's binary COPY format."""
    blocks = [append.block for append in appends]
    counts = [len(block.frame_index) for block in blocks]
    batch = pa.record_batch(
        [
            pa.array(np.repeat(np.array([append.session_id for append in appends], np.int64), counts)),
            pa.array(np.concatenate([block.frame_index for block in blocks])),
            pa.array(np.concatenate([block.timestamps for block in blocks])).cast(pa.timestamp("us")),
            _list_column([block.state for block in blocks], counts),
            _list_column([block.action for block in blocks], counts),
            _extra_column(blocks, sum(counts)),
        ],
        schema=COLUMNS,
    )
    encoder = pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(COLUMNS, ENCODERS)
    return b"".join((encoder.write_header(), encoder.write_batch(batch), encoder.finish()))


def _list_column(matrices: Sequence[NDArray[np.float32]], counts: Sequence[int]) -> pa.ListArray:
    widths = np.repeat(np.array([matrix.shape[1] for matrix in matrices], np.int32), counts)
    offsets = np.zeros(len(widths) + 1, np.int32)
    np.cumsum(widths, out=offsets[1:])
    values = np.concatenate([matrix.reshape(-1) for matrix in matrices])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, pa.float32()))


def _extra_column(blocks: Sequence[FrameBlock], rows: int) -> pa.Array:
    if not any(block.extra for block in blocks):
        return pa.nulls(rows, pa.string())
    return pa.array(
        [block.extra.get(int(index)) for block in blocks for index in block.frame_index], pa.string()
    )


def _last_time(block: FrameBlock) -> datetime | None:
    if not len(block.timestamps):
        return None
    return EPOCH + timedelta(microseconds=int(block.timestamps[-1]))
