"""Rows of `dataset_import` and `import_video`; every function works on its caller's connection.

telemetry-service makes the sessions, and says in these rows how far it is and which file has which
pictures.
"""

from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec
from teleop_runtime.postgres.pool import Connection

from teleop_video_ingest.errors import ImportNotFound
from teleop_video_ingest.model.views import DatasetImport, ImportProblem
from teleop_video_ingest.model.worker_messages import LOOK_VERSION, Probed

# One replica at a time makes chunks of imported videos.
VIDEO_LOCK = 7_264_981_015
TRY_LOCK = "SELECT pg_try_advisory_lock($1)"
UNLOCK = "SELECT pg_advisory_unlock($1)"

# Asked again, one that has failed begins again; another stays as it is.
ASK = """
INSERT INTO dataset_import (dataset_id, version, again, asked_by) VALUES ($1, $2, $3, $4)
ON CONFLICT (dataset_id, version) DO UPDATE
   SET status = 'queued', again = EXCLUDED.again, asked_by = EXCLUDED.asked_by, problem = NULL,
       finished_at = NULL
 WHERE dataset_import.status = 'failed'
"""
IMPORTS = """
SELECT i.*, s.status AS session_status,
       (SELECT count(*) FROM import_video v WHERE v.import_id = i.id AND v.sha256 IS NOT NULL) AS videos,
       (SELECT count(*) FROM import_video v
         WHERE v.import_id = i.id AND v.sha256 IS NOT NULL AND v.done) AS stored_videos
  FROM dataset_import i LEFT JOIN teleop_session s ON s.id = i.session_id
 WHERE i.dataset_id = $1 AND ($2::integer IS NULL OR i.version = $2)
 ORDER BY i.version DESC
"""
# Which sessions its versions have become, also those before this one.
SESSIONS = """
SELECT DISTINCT session_id FROM dataset_import
 WHERE dataset_id = $1 AND session_id IS NOT NULL ORDER BY session_id
"""

DUE = """
SELECT v.import_id, v.camera_key, v.chunk_index, v.sha256, v.size_bytes, v.depth_unit,
       cardinality(v.frame_indices), v.captured_us[cardinality(v.captured_us)] - v.captured_us[1],
       i.session_id, d.robot_id, s.stream_id
  FROM import_video v JOIN dataset_import i ON i.id = v.import_id
  JOIN dataset d ON d.id = i.dataset_id JOIN teleop_session s ON s.id = i.session_id
 WHERE i.status = 'video' AND NOT v.done AND v.problem IS NULL
 ORDER BY v.import_id, v.camera_key, v.chunk_index LIMIT 1
"""
# It keeps its row and its bytes until the transaction ends.
HOLD_OBJECT = "SELECT damage FROM stored_object WHERE sha256 = $1 FOR KEY SHARE"
OTHER_CHUNK = """
DELETE FROM video_chunk c USING import_video v
 WHERE v.import_id = $1 AND v.camera_key = $2 AND v.chunk_index = $3
   AND c.session_id = $4 AND c.camera_key = $2 AND c.chunk_index = $3
   AND (c.sha256, c.frame_indices, c.captured_us) IS DISTINCT FROM (v.sha256, v.frame_indices, v.captured_us)
RETURNING c.id
"""
ADD_CHUNK = """
INSERT INTO video_chunk (session_id, camera_key, chunk_index, file_path, sha256, size_bytes, start_timestamp,
                         end_timestamp, first_frame_index, frame_count, frame_indices, captured_us, dropped,
                         fps, codec, pix_fmt, width, height, keyframes, quarantine, depth_unit,
                         look_version, look_after, failed_looks)
SELECT $4, v.camera_key, v.chunk_index, $5, v.sha256, v.size_bytes,
       'epoch'::timestamptz + v.captured_us[1] * interval '1 microsecond',
       'epoch'::timestamptz + v.captured_us[cardinality(v.captured_us)] * interval '1 microsecond',
       v.frame_indices[1], coalesce($6, cardinality(v.frame_indices)), v.frame_indices, v.captured_us, '[]',
       coalesce($7, v.fps), $8, $9, $10, $11, $12, $13, v.depth_unit,
       $14, CASE WHEN $14 > 0 THEN NULL ELSE now() + interval '30 seconds' END, $15
  FROM import_video v WHERE v.import_id = $1 AND v.camera_key = $2 AND v.chunk_index = $3
ON CONFLICT (session_id, camera_key, chunk_index) DO NOTHING
RETURNING id
"""
# The chunk has them now.
DONE = """
UPDATE import_video SET done = true, frame_indices = NULL, captured_us = NULL
 WHERE import_id = $1 AND camera_key = $2 AND chunk_index = $3
"""
PROBLEM = """
UPDATE import_video SET problem = $4 WHERE import_id = $1 AND camera_key = $2 AND chunk_index = $3
"""


class ImportedVideo(NamedTuple):
    """A file that becomes a chunk.

    sha256            None: the chunk of this number goes
    frames, span_us   pictures that it should have, from the first to the last
    """

    import_id: int
    camera_key: str
    chunk_index: int
    sha256: str | None
    size_bytes: int | None
    depth_unit: str | None
    frames: int | None
    span_us: int | None
    session_id: int
    robot_id: str
    stream_id: UUID


async def try_lock(connection: Connection) -> bool:
    """Take the lock; True until `unlock`, or until the connection ends."""
    locked: bool = await connection.fetchval(TRY_LOCK, VIDEO_LOCK)
    return locked


async def unlock(connection: Connection) -> None:
    """Release the lock."""
    await connection.execute(UNLOCK, VIDEO_LOCK)


async def ask(connection: Connection, dataset_id: int, version: int, *, again: bool, asked_by: str) -> bool:
    """Ask for an import; False if it is under way, or done."""
    told: str = await connection.execute(ASK, dataset_id, version, again, asked_by)
    return told.endswith(" 1")


async def imports_of(
    connection: Connection, dataset_id: int, robot_id: str, dataset: str, version: int | None
) -> list[DatasetImport]:
    """All imports of a dataset, newest version first, or that of one version; raises ImportNotFound."""
    rows = await connection.fetch(IMPORTS, dataset_id, version)
    if not rows:
        what = f"dataset {dataset!r}" if version is None else f"version {version} of dataset {dataset!r}"
        raise ImportNotFound(f"{what} has not been imported", field="version")
    sessions = [row[0] for row in await connection.fetch(SESSIONS, dataset_id)]
    return [_view(row, robot_id, dataset, sessions) for row in rows]


def _view(row: asyncpg.Record, robot_id: str, dataset: str, sessions: list[int]) -> DatasetImport:
    problem = row["problem"]
    return DatasetImport(
        robot_id=robot_id,
        dataset=dataset,
        version=row["version"],
        status=row["status"],
        session_id=row["session_id"],
        session_ids=sessions,
        episodes=row["episodes"],
        frames=row["frames"],
        stored_frames=row["stored_frames"],
        videos=row["videos"],
        stored_videos=row["stored_videos"],
        notes=row["notes"],
        problem=None if problem is None else msgspec.json.decode(problem, type=ImportProblem),
        asked_by=row["asked_by"],
        asked_at=row["asked_at"],
        finished_at=row["finished_at"],
    )


async def due_video(connection: Connection) -> ImportedVideo | None:
    """The next file that becomes a chunk; None if there is none."""
    row = await connection.fetchrow(DUE)
    return None if row is None else ImportedVideo(*row)


async def hold_object(connection: Connection, sha256: str) -> str | None:
    """What is wrong with its bytes, as in stored_object; no sweep removes it before the transaction ends."""
    damage: str | None = await connection.fetchval(HOLD_OBJECT, sha256)
    return damage


async def replace_chunk(
    connection: Connection, video: ImportedVideo, path: str, probed: Probed | None
) -> int | None:
    """Id of the new chunk; None if there is none, or it is there already.

    probed  what was found in the file; None: the chunk goes
    """
    about = video.import_id, video.camera_key, video.chunk_index
    await connection.execute(OTHER_CHUNK, *about, video.session_id)
    if probed is None:
        return None
    found: int | None = await connection.fetchval(
        ADD_CHUNK,
        *about,
        video.session_id,
        path,
        probed.frames,
        probed.fps,
        probed.codec,
        probed.pix_fmt,
        probed.width,
        probed.height,
        probed.keyframes,
        probed.problem,
        LOOK_VERSION if probed.looked else 0,
        int(probed.slow),
    )
    return found


async def set_done(connection: Connection, video: ImportedVideo) -> None:
    """Note that its chunk is there."""
    await connection.execute(DONE, video.import_id, video.camera_key, video.chunk_index)


async def set_problem(connection: Connection, video: ImportedVideo, problem: str) -> None:
    """Note why it can't become a chunk."""
    await connection.execute(PROBLEM, video.import_id, video.camera_key, video.chunk_index, problem)
