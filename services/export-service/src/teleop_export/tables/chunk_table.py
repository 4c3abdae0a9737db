"""Rows of `video_chunk`; the table is video-ingest-service's, here it is only read.

Once for the plan of an export, in the service, and once for its making, in a worker's thread.
"""

from collections.abc import Sequence

import numpy as np
import psycopg
from psycopg.rows import DictRow, dict_row
from teleop_runtime.postgres.libpq import bounded
from teleop_schema.connections import PREPARE

from teleop_export.sessions.video_chunks import Chunk
from teleop_export.tables.database import Connection
from teleop_export.timing.loop_times import Integers
from teleop_export.timing.pace import Samples

CHUNKS = """
SELECT id, camera_key, chunk_index, sha256, size_bytes, start_timestamp, end_timestamp, frame_count,
       frame_indices, captured_us, dropped, fps, codec, pix_fmt, width, height, quarantine, depth_unit
  FROM video_chunk WHERE session_id = %s ORDER BY camera_key, chunk_index
"""

CHUNKS_OF_CAMERA = """
SELECT id, camera_key, chunk_index, sha256, size_bytes, start_timestamp, end_timestamp, frame_count,
       frame_indices, captured_us, dropped, fps, codec, pix_fmt, width, height, quarantine, depth_unit
  FROM video_chunk WHERE session_id = %s AND camera_key = %s AND id = ANY(%s) ORDER BY chunk_index
"""

# Thousands of samples are one value: fetched row by row, half a million of them took 1.6 s, of which 1.2 were
# the service's own, in which it answered nobody; so it is 0.65 s and 0.03.
SAMPLES = """
SELECT string_agg(int8send(frame_index) || timestamptz_send("timestamp")
                  || boolsend(observation_age_us IS NULL) || int8send(not_finite), '' ORDER BY frame_index)
       AS samples
  FROM (SELECT frame_index, "timestamp", observation_age_us,
               CASE WHEN state && '{NaN,Infinity,-Infinity}' OR action && '{NaN,Infinity,-Infinity}'
                    THEN (SELECT min(number)
                            FROM unnest(state || action) WITH ORDINALITY AS each (value, number)
                           WHERE value IN ('NaN', 'Infinity', '-Infinity'))
                    ELSE 0 END AS not_finite
          FROM teleop_frame WHERE session_id = %s AND frame_index < %s) AS sample
 GROUP BY frame_index / 8192 ORDER BY frame_index / 8192
"""
_SAMPLE = np.dtype([("index", ">i8"), ("us", ">i8"), ("own", "?"), ("not_finite", ">i8")])
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
    rows = await (await connection.execute(SAMPLES, [session_id, watermark], binary=True)).fetchall()
    samples = np.frombuffer(b"".join(row["samples"] for row in rows), _SAMPLE)
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
        depth_unit=row["depth_unit"],
    )


def _array(values: Sequence[int] | None) -> Integers | None:
    return None if values is None else np.array(values, np.int64)
