"""Rows of `video_chunk`; the table is video-ingest-service's, here it is only read.

Once for the plan of an export, in the service, and once for its making, in a worker's thread.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg.rows import DictRow, dict_row
from teleop_runtime.postgres.libpq import bounded
from teleop_schema.connections import PREPARE

from teleop_export.sessions.finite import Unfit
from teleop_export.sessions.video_chunks import VideoChunk
from teleop_export.tables.database import Connection
from teleop_export.timing.loop_times import Integers, SampleTimes

_CHUNK = """
SELECT id, camera_key, chunk_index, sha256, size_bytes, start_timestamp, end_timestamp, frame_count,
       frame_indices, captured_us, dropped, fps, codec, pix_fmt, width, height, unusable, depth_unit,
       coalesce(look_after IS NOT NULL AND look_version = 0 AND unusable = quarantine, false) AS unchecked
  FROM video_chunk JOIN video_chunk_use USING (id)
"""

CHUNKS = _CHUNK + " WHERE session_id = %s ORDER BY camera_key, chunk_index"

CHUNKS_OF_CAMERA = _CHUNK + " WHERE session_id = %s AND camera_key = %s AND id = ANY(%s) ORDER BY chunk_index"

# SAMPLES_AT_ONCE are one value: fetched row by row, half a million of them took 1.6 s, of which 1.2 were the
# service's own, in which it answered nobody; so it is 0.2 s and 0.02.
SAMPLES = """
SELECT string_agg(int8send(frame_index) || timestamptz_send("timestamp"), '' ORDER BY frame_index) AS samples,
       string_agg(int8send(frame_index), '' ORDER BY frame_index)
         FILTER (WHERE observation_age_us IS NOT NULL) AS repeating,
       string_agg(int8send(frame_index), '' ORDER BY frame_index)
         FILTER (WHERE action[1] = 'NaN' AND action <@ '{NaN}') AS unacted
  FROM (SELECT frame_index, "timestamp", observation_age_us, action
          FROM teleop_frame WHERE session_id = %s AND frame_index >= %s AND frame_index < %s
         ORDER BY frame_index LIMIT %s) AS sample
"""
# The operator && finds the frames; only those few are taken apart to find which value it is.
NOT_FINITE = """
SELECT string_agg(int8send(frame_index) || int8send(number), '' ORDER BY frame_index) AS found
  FROM (SELECT frame_index,
               (SELECT min(number) FROM unnest(state || action) WITH ORDINALITY AS each (value, number)
                 WHERE value IN ('NaN', 'Infinity', '-Infinity')) AS number
          FROM teleop_frame
         WHERE session_id = %s AND frame_index < %s
           AND (state && '{NaN,Infinity,-Infinity}' OR action && '{NaN,Infinity,-Infinity}')) AS frame
"""
# 16 MiB in one value, of which PostgreSQL allows 1 GiB.
SAMPLES_AT_ONCE = 1 << 20
_SAMPLE = np.dtype([("index", ">i8"), ("us", ">i8")])
_UNFIT = np.dtype([("index", ">i8"), ("number", ">i8")])
# timestamptz counts us since 2000-01-01.
_POSTGRES_EPOCH_US = 946_684_800_000_000


async def read_chunks(connection: Connection, session_id: int) -> dict[str, list[VideoChunk]]:
    """The chunks of each camera of a session, by chunk_index."""
    rows = await (await connection.execute(CHUNKS, [session_id], binary=True)).fetchall()
    found: dict[str, list[VideoChunk]] = {}
    for row in rows:
        found.setdefault(row["camera_key"], []).append(_chunk(row))
    return found


async def read_samples(connection: Connection, session_id: int, watermark: int) -> SampleTimes:
    """All of a session's samples below its watermark."""
    parts: list[npt.NDArray[Any]] = []
    repeating = unacted = b""
    first = 0
    while first < watermark:
        wanted = [session_id, first, watermark, SAMPLES_AT_ONCE]
        row = await (await connection.execute(SAMPLES, wanted, binary=True)).fetchone()
        assert row is not None  # noqa: S101
        part = np.frombuffer(row["samples"] or b"", _SAMPLE)
        parts.append(part)
        repeating += row["repeating"] or b""
        unacted += row["unacted"] or b""
        if len(part) < SAMPLES_AT_ONCE:
            break
        first = int(part["index"][-1]) + 1
    samples = np.concatenate(parts) if parts else np.zeros(0, _SAMPLE)
    index = samples["index"].astype(np.int64)
    own, acted = np.ones(len(index), np.bool_), np.ones(len(index), np.bool_)
    own[np.searchsorted(index, np.frombuffer(repeating, ">i8"))] = False
    acted[np.searchsorted(index, np.frombuffer(unacted, ">i8"))] = False
    return SampleTimes(index, samples["us"].astype(np.int64) + _POSTGRES_EPOCH_US, own, acted)


async def read_not_finite(connection: Connection, session_id: int, watermark: int) -> Unfit:
    """Which of a session's samples below its watermark hold a value that is NaN or infinite."""
    row = await (await connection.execute(NOT_FINITE, [session_id, watermark], binary=True)).fetchone()
    assert row is not None  # noqa: S101
    found = np.frombuffer(row["found"] or b"", _UNFIT)
    return Unfit(found["index"].astype(np.int64), found["number"].astype(np.int64))


class ChunkReader:
    """Reads chunks over a connection of its own; blocks, so call it in a thread."""

    def __init__(self, database_url: str) -> None:
        self._connection = psycopg.connect(bounded(database_url), autocommit=True, row_factory=dict_row)
        self._connection.execute(PREPARE)

    def read(self, session_id: int, camera: str, ids: Sequence[int]) -> list[VideoChunk]:
        """Those of `ids` that are there, by chunk_index."""
        rows = self._connection.execute(CHUNKS_OF_CAMERA, [session_id, camera, list(ids)], binary=True)
        return [_chunk(row) for row in rows]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _chunk(row: DictRow) -> VideoChunk:
    return VideoChunk(
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
        unusable=row["unusable"],
        depth_unit=row["depth_unit"],
        unchecked=row["unchecked"],
    )


def _array(values: Sequence[int] | None) -> Integers | None:
    return None if values is None else np.array(values, np.int64)
