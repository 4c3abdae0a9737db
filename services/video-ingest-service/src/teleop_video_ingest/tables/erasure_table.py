"""What is erased of sessions and datasets. Every function works on its caller's connection."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg
from teleop_runtime.postgres.erasing import Share
from teleop_runtime.postgres.pool import Connection

from teleop_video_ingest.tables.sweep_table import remove_row

# A client names a session by its number or its stream, however it writes that.
UPLOADS_OF_SESSION = """
SELECT id FROM upload
 WHERE file->>'kind' = 'video'
   AND (lower(replace(file->>'session', '-', '')) = replace($2::text, '-', '')
        OR file->>'session' = $1::text AND file->>'robot_id' = $3)
"""
UPLOADS_OF_DATASET = """
SELECT id FROM upload
 WHERE file->>'kind' = 'dataset' AND file->>'robot_id' = $1 AND file->>'dataset' = $2
"""

OBJECTS_OF_SESSION = """
SELECT DISTINCT sha256 FROM video_chunk WHERE session_id = $1
"""
OBJECTS_OF_DATASET = """
SELECT f.sha256 FROM dataset_file f WHERE f.dataset_id = $1
 UNION
SELECT f.sha256 FROM dataset_version v JOIN dataset_version_file f ON f.version_id = v.id
 WHERE v.dataset_id = $1
"""
CHUNKS = "SELECT id, file_path FROM video_chunk WHERE session_id = $1 ORDER BY id LIMIT $2"
DELETE_CHUNK = "DELETE FROM video_chunk WHERE id = $1"
DELETE_IMPORTS = "DELETE FROM dataset_import WHERE session_id = $1"
SESSION_STREAM = "SELECT stream_id FROM teleop_session WHERE id = $1"

DATASET = "SELECT id FROM dataset WHERE robot_id = $1 AND name = $2"
VERSIONS = "SELECT id FROM dataset_version WHERE dataset_id = $1 ORDER BY id"
DELETE_VERSION = "DELETE FROM dataset_version WHERE id = $1"
PATHS = "SELECT DISTINCT path FROM dataset_file WHERE dataset_id = $1 LIMIT $2"
DELETE_FILE = "DELETE FROM dataset_file WHERE dataset_id = $1 AND path = $2"
DELETE_DATASET = "DELETE FROM dataset WHERE id = $1"

# A row for bytes that came without one: it keeps others from referring to them until they are gone.
ENSURE_ROW = "INSERT INTO stored_object (sha256, size_bytes) VALUES ($1, 0) ON CONFLICT DO NOTHING"
IS_KEPT = """
SELECT EXISTS (SELECT FROM video_chunk WHERE sha256 = $1)
    OR EXISTS (SELECT FROM dataset_file WHERE sha256 = $1)
    OR EXISTS (SELECT FROM dataset_version_file WHERE sha256 = $1)
"""


async def uploads_of(connection: Connection, share: Share) -> list[UUID]:
    """Uploads of what is erased, finished or not."""
    if share.dataset is None:
        about = str(share.session_id), str(share.stream_id), share.robot_id
        rows = await connection.fetch(UPLOADS_OF_SESSION, *about)
    else:
        rows = await connection.fetch(UPLOADS_OF_DATASET, share.robot_id, share.dataset)
    return [row["id"] for row in rows]


async def is_session(connection: Connection, share: Share) -> bool:
    """Whether the session still has its row, or nobody else has its number."""
    stream: UUID | None = await connection.fetchval(SESSION_STREAM, share.session_id)
    return stream is None or stream == share.stream_id


async def dataset_of(connection: Connection, share: Share) -> int | None:
    """Id of the dataset; None if there is no row of it."""
    found: int | None = await connection.fetchval(DATASET, share.robot_id, share.dataset)
    return found


async def objects_of_session(connection: Connection, session_id: int) -> list[str]:
    """The objects of its video."""
    return [row[0] for row in await connection.fetch(OBJECTS_OF_SESSION, session_id)]


async def objects_of_dataset(connection: Connection, dataset_id: int) -> list[str]:
    """The objects of all of its versions and revisions."""
    return [row[0] for row in await connection.fetch(OBJECTS_OF_DATASET, dataset_id)]


async def some_chunks(connection: Connection, session_id: int, limit: int) -> Sequence[asyncpg.Record]:
    """Id and path of up to `limit` chunks."""
    return await connection.fetch(CHUNKS, session_id, limit)


async def delete_chunk(connection: Connection, chunk_id: int) -> None:
    await connection.execute(DELETE_CHUNK, chunk_id)


async def delete_imports(connection: Connection, session_id: int) -> None:
    """Forget that the session was made of a dataset, which stays."""
    await connection.execute(DELETE_IMPORTS, session_id)


async def versions_of(connection: Connection, dataset_id: int) -> list[int]:
    """Ids of all versions."""
    return [row[0] for row in await connection.fetch(VERSIONS, dataset_id)]


async def delete_version(connection: Connection, version_id: int) -> None:
    await connection.execute(DELETE_VERSION, version_id)


async def some_paths(connection: Connection, dataset_id: int, limit: int) -> list[str]:
    """Up to `limit` paths of its files."""
    return [row[0] for row in await connection.fetch(PATHS, dataset_id, limit)]


async def delete_file(connection: Connection, dataset_id: int, path: str) -> int:
    """Delete every revision at that path; returns how many there were."""
    command: str = await connection.execute(DELETE_FILE, dataset_id, path)
    return int(command.rpartition(" ")[2])


async def delete_dataset(connection: Connection, dataset_id: int) -> None:
    await connection.execute(DELETE_DATASET, dataset_id)


async def take_row(connection: Connection, sha256: str) -> bool:
    """Whether nothing refers to an object: its row, if it has one, is gone once the transaction ends."""
    await connection.execute(ENSURE_ROW, sha256)
    return await remove_row(connection, sha256)


async def is_kept(connection: Connection, sha256: str) -> bool:
    """Whether a file of somebody else has these bytes, too."""
    kept: bool = await connection.fetchval(IS_KEPT, sha256)
    return kept
