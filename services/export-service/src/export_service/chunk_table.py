"""Rows of `video_chunk`; the table is video-ingest-service's, here it is only read.

Once for the plan of an export, in the service, and once for its making, in a worker's thread.
"""

from collections.abc import Sequence

import numpy as np
import psycopg
from psycopg.rows import DictRow, dict_row
from teleop_runtime.libpq import bounded
from teleop_schema.connections import PREPARE

from export_service.database import Connection
from export_service.pace import Integers, Samples
from export_service.video_chunks import Chunk

CHUNKS = """
SELECT id, camera_key, chunk_index, sha256, size_bytes, start_timestamp, end_timestamp, frame_count,
       frame_indices, captured_us, dropped, fps, codec, pix_fmt, width, height, quarantine
  FROM video_chunk WHERE session_id = %s ORDER BY camera_key, chunk_index
"""

CHUNKS_OF_CAMERA = """
SELECT id, camera_key, chunk_index, sha256, size_bytes, start_timestamp, end_timestamp, frame_count,
       frame_indices, captured_us, dropped, fps, codec, pix_fmt, width, height, quarantine
  FROM video_chunk WHERE session_id = %s AND camera_key = %s AND id = ANY(%s) ORDER BY chunk_index
"""

# Binary: a million samples are 43 MB, and become an array without a Python object for each.
SAMPLES = """
COPY (SELECT frame_index, "timestamp", observation_age_us IS NULL,
             CASE WHEN state && '{NaN,Infinity,-Infinity}' OR action && '{NaN,Infinity,-Infinity}'
                  THEN (SELECT min(number)
                          FROM unnest(state || action) WITH ORDINALITY AS each (value, number)
                         WHERE value IN ('NaN', 'Infinity', '-Infinity'))
                  ELSE 0 END
        FROM teleop_frame
       WHERE session_id = %s AND frame_index < %s ORDER BY frame_index) TO STDOUT (FORMAT BINARY)
"""
# PostgreSQL, documentation of COPY, "Binary Format": signature, flags and length of the extension; then, each
# value behind its length, the rows; -1 in the place of another row.
_COPY_HEADER_BYTES, _COPY_TRAILER_BYTES = 19, 2
_SAMPLE = np.dtype(
    [
        ("fields", ">i2"),
        ("b0", ">i4"),
        ("index", ">i8"),
        ("b1", ">i4"),
        ("us", ">i8"),
        ("b2", ">i4"),
        ("own", "?"),
        ("b3", ">i4"),
        ("not_finite", ">i8"),
    ]
)
# timestamptz counts us since 2000-01-01.
_POSTGRES_EPOCH_US = 946_684_800_000_000


async def read_chunks(connection: Connection, session_id: int) -> dict[str, list[Chunk]]:
    """The chunks of each camera of a session, by chunk_index."""
    rows = await (await connection.execute(CHUNKS, [session_id], binary=True)).fetchall()
    found: dict[str, list[Chunk]] = {}
    for row in rows:
        found.setdefault(row["camera_key"], []).append(_chunk(row))
    return found


async def read_samples(connection: Connection, session_id: int, watermark: int) -> Samples:
    """All of a session's samples below its watermark."""
    parts = []
    async with connection.cursor() as cursor, cursor.copy(SAMPLES, [session_id, watermark]) as copy:
        async for part in copy:
            parts.append(bytes(part))
    body = b"".join(parts)[_COPY_HEADER_BYTES:-_COPY_TRAILER_BYTES]
    samples = np.frombuffer(body, _SAMPLE)
    taken_us = samples["us"].astype(np.int64) + _POSTGRES_EPOCH_US
    index, not_finite = (samples[name].astype(np.int64) for name in ("index", "not_finite"))
    return Samples(index, taken_us, samples["own"].copy(), not_finite)


class ChunkReader:
    """Reads chunks over a connection of its own; blocks, so call it in a thread."""

    def __init__(self, database_url: str) -> None:
        self._connection = psycopg.connect(bounded(database_url), autocommit=True, row_factory=dict_row)
        self._connection.execute(PREPARE)

    def read(self, session_id: int, camera: str, ids: Sequence[int]) -> list[Chunk]:
        """Those of `ids` that are there, by chunk_index."""
        rows = self._connection.execute(CHUNKS_OF_CAMERA, [session_id, camera, list(ids)], binary=True)
        return [_chunk(row) for row in rows]

    def close(self) -> None:
        self._connection.close()


def _chunk(row: DictRow) -> Chunk:
    return Chunk(
        id=row["id"],
        chunk_index=row["chunk_index"],
        sha256=row["sha256"],
        size_bytes=row["size_bytes"],
        start=row["start_timestamp"],
        end=row["end_timestamp"],
        frame_count=row["frame_count"],
        frame_indices=_array(row["frame_indices"]),
        captured_us=_array(row["captured_us"]),
        dropped=tuple((each["first"], each["end"], each["reason"]) for each in row["dropped"]),
        fps=row["fps"],
        codec=row["codec"],
        pix_fmt=row["pix_fmt"],
        width=row["width"],
        height=row["height"],
        quarantine=row["quarantine"],
    )


def _array(values: Sequence[int] | None) -> Integers | None:
    return None if values is None else np.array(values, np.int64)
