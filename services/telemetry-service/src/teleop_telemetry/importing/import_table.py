"""Rows of `dataset_import` and `import_video`; every function works on its caller's connection.

The tables are video-ingest-service's, which is asked for imports and makes chunks of their videos. Here is
noted how far the rest is.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import msgspec
from teleop_dataset.importing import ImportedVideo
from teleop_runtime.postgres.pool import Connection
from teleop_schema.errors import BackendError

from teleop_telemetry.importing.plan import Plan

# One import at a time, whichever replica does it.
IMPORT_LOCK = 7_264_981_014
TRY_LOCK = "SELECT pg_try_advisory_lock($1)"
UNLOCK = "SELECT pg_advisory_unlock($1)"

# An import whose dataset has another that is not over waits for it: they may share a session.
NEXT = """
SELECT i.id, i.dataset_id, i.version, i.session_id, i.again, d.robot_id, d.name,
       (extract(epoch FROM i.asked_at) * 1000000)::bigint AS asked_us
  FROM dataset_import i JOIN dataset d ON d.id = i.dataset_id
 WHERE i.status IN ('queued', 'reading', 'storing')
   AND NOT EXISTS (SELECT FROM dataset_import other
                    WHERE other.dataset_id = i.dataset_id AND other.status = 'video')
 ORDER BY i.asked_at, i.id LIMIT 1
"""
FILES = """
SELECT f.path, f.sha256, f.size_bytes, o.damage
  FROM dataset_version v JOIN dataset_version_file f ON f.version_id = v.id
  JOIN stored_object o ON o.sha256 = f.sha256
 WHERE v.dataset_id = $1 AND v.version = $2 ORDER BY f.path
"""
SET_STATUS = "UPDATE dataset_import SET status = $2, problem = NULL WHERE id = $1 RETURNING id"
FAIL = """
UPDATE dataset_import SET status = 'failed', problem = $2::jsonb, finished_at = now() WHERE id = $1
"""

# What earlier imports have made of it, the newest first.
EARLIER = """
SELECT i.session_id, i.version, i.digests, s.stream_id, s.fps, s.state_names, s.action_names, s.cameras,
       s.next_frame_index, s.deleted_at IS NOT NULL AS hidden, a.dropped_at IS NOT NULL AS archived,
       (extract(epoch FROM s.start_time) * 1000000)::bigint AS start_us
  FROM dataset_import i JOIN teleop_session s ON s.id = i.session_id
  LEFT JOIN session_archive a ON a.session_id = s.id
 WHERE i.dataset_id = $1 AND i.digests IS NOT NULL ORDER BY (i.id = $2) DESC, i.version DESC
"""
# Of a database that was lost, which its files tell of.
FOUND = """
SELECT id FROM teleop_session
 WHERE robot_id = $1 AND imported_from->>'dataset' = $2
   AND NOT EXISTS (SELECT FROM dataset_import i WHERE i.session_id = teleop_session.id)
 ORDER BY id
"""
# Live sessions of the robot with each of these frames, the first three parameters of which are the robot and
# what its frames consist of.
RECORDED = """
SELECT s.id FROM teleop_session s
 WHERE s.robot_id = $1 AND s.state_names = $2 AND s.action_names = $3 AND s.imported_from IS NULL
   AND NOT EXISTS (
       SELECT FROM jsonb_to_recordset($4::jsonb) AS wanted(state real[], action real[])
        WHERE NOT EXISTS (SELECT FROM teleop_frame f
                           WHERE f.session_id = s.id
                             AND f.state = wanted.state AND f.action = wanted.action))
 ORDER BY s.id
"""
BEGIN = """
UPDATE dataset_import
   SET session_id = $2, status = 'storing', episodes = $3, frames = $4, digests = $5, notes = $6,
       stored_frames = $7
 WHERE id = $1 RETURNING id
"""
NOTE_STORED = "UPDATE dataset_import SET stored_frames = $2 WHERE id = $1 AND session_id = $3 RETURNING id"
FORGET_VIDEO = "DELETE FROM import_video WHERE import_id = $1"
ADD_VIDEO = """
INSERT INTO import_video (import_id, camera_key, chunk_index, sha256, size_bytes, fps, depth_unit,
                          frame_indices, captured_us)
SELECT $1, $3, $4, $5, $6, $7, $8, array_agg(f.frame_index ORDER BY f.frame_index),
       array_agg((extract(epoch FROM f."timestamp") * 1000000)::bigint ORDER BY f.frame_index)
  FROM unnest($9::bigint[], $10::bigint[]) AS run(first, stop)
  JOIN teleop_frame f ON f.session_id = $2 AND f.frame_index >= run.first AND f.frame_index < run.stop
"""
# Chunks that an earlier version had, and this has not.
DROP_VIDEO = """
INSERT INTO import_video (import_id, camera_key, chunk_index, fps)
SELECT $1, c.camera_key, c.chunk_index, 1 FROM video_chunk c
 WHERE c.session_id = $2
   AND NOT EXISTS (SELECT FROM import_video v
                    WHERE v.import_id = $1 AND v.camera_key = c.camera_key AND v.chunk_index = c.chunk_index)
"""
WITH_VIDEO = """
SELECT i.id, i.session_id, i.version, d.name, d.robot_id, s.stream_id,
       min(v.problem) AS problem, s.imported_from->>'clock' AS clock
  FROM dataset_import i JOIN dataset d ON d.id = i.dataset_id
  JOIN teleop_session s ON s.id = i.session_id
  LEFT JOIN import_video v ON v.import_id = i.id
 WHERE i.status = 'video'
 GROUP BY i.id, d.id, s.id HAVING bool_and(coalesce(v.done OR v.problem IS NOT NULL, true))
"""
DONE = "UPDATE dataset_import SET status = 'done', finished_at = now() WHERE id = $1"


class Import(NamedTuple):
    """One that is to be done.

    session_id  that it has begun; None: none yet
    again       also if the same was imported or recorded before
    asked_us    when somebody asked for it, us since the Unix epoch
    """

    id: int
    dataset_id: int
    version: int
    session_id: int | None
    again: bool
    robot_id: str
    dataset: str
    asked_us: int


class StoredFile(NamedTuple):
    """A file of a version; `damage` as in stored_object."""

    path: str
    sha256: str
    size_bytes: int
    damage: str | None


class EarlierImport(NamedTuple):
    """A session that was made of the same dataset.

    digests  of its episodes
    """

    session_id: int
    version: int
    digests: list[str]
    stream_id: UUID
    fps: float
    state_names: list[str]
    action_names: list[str]
    cameras: str
    next_frame_index: int
    hidden: bool
    archived: bool
    start_us: int


class VideoStored(NamedTuple):
    """An import whose videos were looked at.

    problem  of one of them; None: all have become chunks
    """

    id: int
    session_id: int
    version: int
    dataset: str
    robot_id: str
    stream_id: UUID
    problem: str | None
    clock: str


async def try_lock(connection: Connection) -> bool:
    """Take the lock for importing; True until `unlock`, or until the connection ends."""
    locked: bool = await connection.fetchval(TRY_LOCK, IMPORT_LOCK)
    return locked


async def unlock(connection: Connection) -> None:
    """Release the lock for importing."""
    await connection.execute(UNLOCK, IMPORT_LOCK)


async def next_import(connection: Connection) -> Import | None:
    """The oldest that is to be done; None if there is none."""
    row = await connection.fetchrow(NEXT)
    return None if row is None else Import(*row)


async def files_of(connection: Connection, wanted: Import) -> list[StoredFile]:
    """The files of its version; none if that is gone."""
    return [StoredFile(*row) for row in await connection.fetch(FILES, wanted.dataset_id, wanted.version)]


async def set_status(connection: Connection, import_id: int, status: str) -> bool:
    """False if the import is gone, because its session or dataset was erased."""
    return await connection.fetchval(SET_STATUS, import_id, status) is not None


async def fail(connection: Connection, import_id: int, error: BackendError) -> None:
    """Note why it has failed."""
    told = {"code": error.code, "detail": error.detail, "field": error.field, "hint": error.hint}
    await connection.execute(FAIL, import_id, msgspec.json.encode(told).decode())


async def earlier_imports(connection: Connection, wanted: Import) -> list[EarlierImport]:
    """Sessions of the same dataset: this import's own first, if it has begun one, then by version."""
    rows = await connection.fetch(EARLIER, wanted.dataset_id, wanted.id)
    return [EarlierImport(*row) for row in rows]


async def found_sessions(connection: Connection, wanted: Import) -> list[int]:
    """Sessions of the same dataset that no import of this database has made."""
    return [row["id"] for row in await connection.fetch(FOUND, wanted.robot_id, wanted.dataset)]


async def recorded_live(
    connection: Connection, wanted: Import, plan: Plan, frames: Sequence[Mapping[str, list[float]]]
) -> list[int]:
    """Sessions of the robot that were recorded live, and have all of these frames; reads all of theirs.

    frames  state and action of each
    """
    told = msgspec.json.encode(frames).decode()
    rows = await connection.fetch(RECORDED, wanted.robot_id, plan.state_names, plan.action_names, told)
    return [row["id"] for row in rows]


async def begin(connection: Connection, import_id: int, session_id: int, plan: Plan, stored: int) -> bool:
    """Note which session it becomes, and how many frames that has; False if the import is gone."""
    told = session_id, len(plan.episodes), plan.frames, plan.digests, plan.notes, stored
    return await connection.fetchval(BEGIN, import_id, *told) is not None


async def note_stored(connection: Connection, import_id: int, session_id: int, frames: int) -> bool:
    """Note how many frames are stored; False if the import is gone."""
    return await connection.fetchval(NOTE_STORED, import_id, frames, session_id) is not None


async def set_videos(
    connection: Connection,
    import_id: int,
    session_id: int,
    plan: Plan,
    files: dict[str, StoredFile],
) -> None:
    """Say which files become chunks, with the frame and time of each picture."""
    await connection.execute(FORGET_VIDEO, import_id)
    numbers: dict[str, int] = {}
    for video in plan.videos:
        file, number = files[video.path], numbers.get(video.camera, 0)
        numbers[video.camera] = number + 1
        unit = plan.cameras[video.camera].depth_unit
        about = import_id, session_id, video.camera, number, file.sha256, file.size_bytes, plan.fps, unit
        await connection.execute(ADD_VIDEO, *about, *_runs(video))
    await connection.execute(DROP_VIDEO, import_id, session_id)


def _runs(video: ImportedVideo) -> tuple[Sequence[int], Sequence[int]]:
    return [first for first, _ in video.runs], [end for _, end in video.runs]


async def with_video(connection: Connection) -> list[VideoStored]:
    """Imports whose videos were all looked at."""
    return [VideoStored(*row) for row in await connection.fetch(WITH_VIDEO)]


async def set_done(connection: Connection, import_id: int) -> None:
    """Note that it is done."""
    await connection.execute(DONE, import_id)
