"""Rows of `video_chunk`, and of their sessions. Every function works on its caller's connection."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import msgspec
from teleop_runtime.postgres.pool import Connection, Pool, connected
from teleop_schema.files import DroppedFrames, VideoFile
from teleop_schema.identifiers import MAX_ID
from teleop_schema.instants import instant_of, us_of

from teleop_video_ingest.errors import VideoNotFound
from teleop_video_ingest.model.coverage import CoveredChunk, runs_of
from teleop_video_ingest.model.worker_messages import LOOK_VERSION, Probed

# Time limit for one row by its key.
ROBOT_TIMEOUT_S = 10.0
# Of 10 s and 30 pictures a second, these hold 15,000 pictures.
CHUNKS_TOGETHER = 50

SESSION = """
SELECT id, robot_id, fps, next_frame_index, cameras, deleted_at IS NOT NULL, start_time,
       CASE WHEN status <> 'recording' THEN coalesce(last_frame_time, end_time) END, stream_id
  FROM teleop_session WHERE id = $1
"""
SESSION_OF_STREAM = """
SELECT id, robot_id, fps, next_frame_index, cameras, deleted_at IS NOT NULL, start_time,
       CASE WHEN status <> 'recording' THEN coalesce(last_frame_time, end_time) END, stream_id
  FROM teleop_session WHERE stream_id = $1
"""

FIND_CHUNK = """
SELECT * FROM video_chunk WHERE session_id = $1 AND camera_key = $2 AND chunk_index = $3
"""

ADD_CHUNK = """
INSERT INTO video_chunk (session_id, camera_key, chunk_index, file_path, sha256, size_bytes, start_timestamp,
                         end_timestamp, first_frame_index, frame_count, frame_indices, captured_us, dropped,
                         fps, codec, pix_fmt, width, height, keyframes, quarantine, depth_unit,
                         look_version, look_after, failed_looks)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
        $22, CASE WHEN $22 > 0 THEN NULL ELSE now() + interval '30 seconds' END, $23)
RETURNING *
"""

# The whole row, whatever columns it has by then.
AS_TOLD = """
SELECT c.file_path,
       jsonb_build_object('stream', s.stream_id, 'robot_id', s.robot_id, 'camera_key', c.camera_key,
                          'chunk_index', c.chunk_index, 'sha256', c.sha256, 'chunk', to_jsonb(c))::text
  FROM video_chunk c JOIN teleop_session s ON s.id = c.session_id WHERE c.id = $1
"""
NOTED = "UPDATE video_chunk SET noted_at = now() WHERE id = $1 RETURNING id"
UNNOTED = "SELECT id FROM video_chunk WHERE noted_at IS NULL ORDER BY id LIMIT $1"

# The object's row is touched, as by all who refer to it.
CLAIM_OBJECT = """
UPDATE stored_object o SET found_at = NULL, stored_at = now()
  FROM jsonb_populate_record(NULL::video_chunk, $1::jsonb->'chunk') AS told
 WHERE o.sha256 = told.sha256 AND o.size_bytes = told.size_bytes
RETURNING o.sha256
"""
ADOPT_CHUNK = """
INSERT INTO video_chunk (session_id, camera_key, chunk_index, file_path, sha256, size_bytes, start_timestamp,
                         end_timestamp, first_frame_index, frame_count, frame_indices, captured_us, dropped,
                         fps, codec, pix_fmt, width, height, keyframes, quarantine, depth_unit, look_after,
                         look_version, corrected_at, stored_at, noted_at)
SELECT $1, camera_key, chunk_index, $2, sha256, size_bytes, start_timestamp,
       end_timestamp, first_frame_index, frame_count, frame_indices, captured_us, dropped,
       fps, codec, pix_fmt, width, height, keyframes, quarantine, depth_unit, look_after,
       coalesce(look_version, CASE WHEN look_after IS NULL THEN 1 ELSE 0 END), corrected_at, stored_at,
       CASE WHEN file_path = $2 THEN now() END
  FROM jsonb_populate_record(NULL::video_chunk, $3::jsonb->'chunk')
ON CONFLICT (session_id, camera_key, chunk_index) DO NOTHING
RETURNING id
"""

GET_CHUNK = """
SELECT c.*, s.robot_id, u.unusable
  FROM video_chunk c JOIN teleop_session s ON s.id = c.session_id JOIN video_chunk_use u ON u.id = c.id
 WHERE c.id = $1
"""

ROBOT_OF_CHUNK = """
SELECT s.robot_id FROM video_chunk c JOIN teleop_session s ON s.id = c.session_id WHERE c.id = $1
"""

REMOVE_CHUNK = "DELETE FROM video_chunk WHERE id = $1 AND frame_indices IS NULL RETURNING id"

# Without the pictures' times, which can be many.
LIST_CHUNKS = """
SELECT id, session_id, camera_key, chunk_index, file_path, sha256, size_bytes, start_timestamp, end_timestamp,
       first_frame_index, frame_count, fps, codec, pix_fmt, width, height, depth_unit, keyframes, dropped,
       unusable, look_after, corrected_at, stored_at
  FROM video_chunk JOIN video_chunk_use USING (id)
 WHERE session_id = $1 AND ($2::text IS NULL OR camera_key = $2) AND id > $3
 ORDER BY id LIMIT $4
"""

CAMERAS_OF = "SELECT DISTINCT camera_key FROM video_chunk WHERE session_id = $1"

CHUNKS_OF_CAMERA = """
SELECT chunk_index, start_timestamp, end_timestamp, frame_indices, dropped, fps, frame_count, unusable
  FROM video_chunk JOIN video_chunk_use USING (id)
 WHERE session_id = $1 AND camera_key = $2 AND chunk_index > $3
 ORDER BY chunk_index LIMIT $4
"""


class SessionRow(NamedTuple):
    """What a chunk has to know of its session.

    frames   how many frames of it are committed
    cameras  names of the cameras that the robot has told of
    hidden   somebody has deleted it: it still takes what comes late, and is not shown
    began    by the robot's clock
    ended    time of its last frame; None: it has not ended
    stream   of its writer
    """

    id: int
    robot_id: str
    fps: float
    frames: int
    cameras: tuple[str, ...]
    hidden: bool
    began: datetime
    ended: datetime | None
    stream: UUID


async def find_session(connection: Connection, session: int | UUID) -> SessionRow | None:
    """The session with that number, or of that stream; None if there is none (yet)."""
    row = None
    if isinstance(session, UUID):
        row = await connection.fetchrow(SESSION_OF_STREAM, session)
    elif 1 <= session <= MAX_ID:
        row = await connection.fetchrow(SESSION, session)
    if row is None:
        return None
    id_, robot_id, fps, frames, cameras, *rest = row
    return SessionRow(id_, robot_id, fps, frames, tuple(msgspec.json.decode(cameras)), *rest)


async def find_chunk(
    connection: Connection, session_id: int, camera_key: str, chunk_index: int
) -> asyncpg.Record | None:
    """The chunk's row, None if it has not arrived."""
    return await connection.fetchrow(FIND_CHUNK, session_id, camera_key, chunk_index)


async def get_chunk(connection: Connection, video_id: int) -> asyncpg.Record:
    """The chunk's row with its robot, and why it can't be used; raises VideoNotFound."""
    row = await connection.fetchrow(GET_CHUNK, video_id) if 1 <= video_id <= MAX_ID else None
    if row is None:
        raise VideoNotFound.of(video_id)
    return row


async def robots_of_chunk(pool: Pool, video_id: int) -> list[str]:
    """The robot whose video a chunk is; none if there is no such chunk."""
    async with connected(pool, timeout_s=ROBOT_TIMEOUT_S) as connection:
        robot_id = await connection.fetchval(ROBOT_OF_CHUNK, min(video_id, MAX_ID))
    return [] if robot_id is None else [robot_id]


async def remove_chunk(connection: Connection, video_id: int) -> bool:
    """Remove the row, unless its sender named the frame of each picture; returns whether it was removed."""
    return await connection.fetchval(REMOVE_CHUNK, video_id) is not None


async def list_chunks(
    connection: Connection, session_id: int, camera_key: str | None, after: int, limit: int
) -> list[asyncpg.Record]:
    """Up to `limit` chunks of the session with a higher id than `after`, in the order they arrived."""
    return await connection.fetch(LIST_CHUNKS, session_id, camera_key, after, limit)


async def cameras_of(connection: Connection, session_id: int) -> list[str]:
    """Names of the cameras that have sent a chunk."""
    return [row[0] for row in await connection.fetch(CAMERAS_OF, session_id)]


async def chunks_of_camera(
    connection: Connection, session: SessionRow, camera_key: str
) -> list[CoveredChunk]:
    """All chunks of one camera, ascending; the times of their pictures are read a few chunks at a time."""
    chunks: list[CoveredChunk] = []
    while True:
        after = chunks[-1].index if chunks else -1
        rows = await connection.fetch(CHUNKS_OF_CAMERA, session.id, camera_key, after, CHUNKS_TOGETHER)
        chunks += await asyncio.to_thread(_summed_up, rows, session.fps)
        if len(rows) < CHUNKS_TOGETHER:
            return chunks


def _summed_up(rows: Sequence[asyncpg.Record], session_fps: float) -> list[CoveredChunk]:
    return [
        CoveredChunk(
            index=row["chunk_index"],
            span_us=(us_of(row["start_timestamp"]), us_of(row["end_timestamp"])),
            runs=_runs(row, session_fps),
            dropped=dropped_of(row),
            pictures=row["frame_count"] or 0,
            quarantined=row["unusable"] is not None,
        )
        for row in rows
    ]


def _runs(row: asyncpg.Record, session_fps: float) -> list[tuple[int, int]] | None:
    indices = row["frame_indices"]
    # What can't be used shows nothing, so its pictures do not last.
    fps = row["fps"] if row["unusable"] is None else None
    return None if indices is None else runs_of(indices, fps=fps, session_fps=session_fps)


def dropped_of(row: asyncpg.Record) -> list[DroppedFrames]:
    """What a chunk's sender told of missing pictures."""
    return msgspec.json.decode(row["dropped"], type=list[DroppedFrames])


async def add_chunk(
    connection: Connection, session: SessionRow, file: VideoFile, path: str, probed: Probed
) -> asyncpg.Record:
    """The new row of `file`: what its sender told, and what the look into it found."""
    times = file.frames
    first = times.frame_index[0] if times and times.frame_index else None
    told = len(times.frame_index) if times else None
    row = await connection.fetchrow(
        ADD_CHUNK,
        session.id,
        file.camera_key,
        file.chunk_index,
        path,
        file.sha256,
        file.size_bytes,
        instant_of(file.start_us),
        instant_of(file.end_us),
        first,
        told if probed.frames is None else probed.frames,
        _array(times.frame_index if times else None),
        _array(times.captured_us if times else None),
        msgspec.json.encode(file.dropped).decode(),
        probed.fps or file.fps,
        probed.codec,
        probed.pix_fmt,
        probed.width or file.width,
        probed.height or file.height,
        probed.keyframes,
        probed.problem,
        file.depth_unit,
        LOOK_VERSION if probed.looked else 0,
        int(probed.slow),
    )
    assert row is not None  # noqa: S101
    return row


async def chunk_as_told(connection: Connection, chunk_id: int) -> tuple[str, str] | None:
    """(path in the tree, JSON of what is known) of a chunk; None if there is no such chunk."""
    row = await connection.fetchrow(AS_TOLD, chunk_id)
    return None if row is None else (row[0], row[1])


async def note_chunk_noted(connection: Connection, chunk_id: int) -> bool:
    """The store has been told of the chunk; False if there is no such chunk any more."""
    return await connection.fetchval(NOTED, chunk_id) is not None


async def unnoted_chunks(connection: Connection, limit: int) -> list[int]:
    """Numbers of up to `limit` chunks that the store has not been told of, oldest first."""
    return [row[0] for row in await connection.fetch(UNNOTED, limit)]


async def adopt_chunk(connection: Connection, session_id: int, path: str, told: str) -> bool | None:
    """Whether a chunk, as `chunk_as_told` gave it once, is new here; None if the store has not its file.

    path  where it lies in the tree from now on
    """
    if await connection.fetchval(CLAIM_OBJECT, told) is None:
        return None
    return await connection.fetchval(ADOPT_CHUNK, session_id, path, told) is not None


def _array(values: Sequence[int] | None) -> list[Any] | None:
    return None if values is None else list(values)
