"""The files of a dataset in one version, or in the tree. On the caller's connection."""

from typing import NamedTuple

from teleop_runtime.postgres.pool import Connection
from teleop_schema.files import DatasetVersion

from teleop_video_ingest.errors import FileNotFound
from teleop_video_ingest.tables.version_table import best_version, find_dataset, get_version, view_of

FILES_OF_VERSION = """
SELECT f.path, f.sha256, f.size_bytes, o.damage
  FROM dataset_version_file f JOIN stored_object o USING (sha256)
 WHERE f.version_id = $1 AND f.path > $2 ORDER BY f.path LIMIT $3
"""

FILES_IN_TREE = """
SELECT DISTINCT ON (f.path) f.path, f.sha256, f.size_bytes, o.damage
  FROM dataset_file f JOIN stored_object o USING (sha256)
 WHERE f.dataset_id = $1 AND f.path > $2 ORDER BY f.path, f.revision DESC LIMIT $3
"""

FILE_OF_VERSION = """
SELECT f.path, f.sha256, f.size_bytes, o.damage
  FROM dataset_version_file f JOIN stored_object o USING (sha256)
 WHERE f.version_id = $1 AND f.path = $2
"""

FILE_IN_TREE = """
SELECT f.path, f.sha256, f.size_bytes, o.damage
  FROM dataset_file f JOIN stored_object o USING (sha256)
 WHERE f.dataset_id = $1 AND f.path = $2 ORDER BY f.revision DESC LIMIT 1
"""

EARLIER_FILE = """
SELECT f.path, f.sha256, f.size_bytes, o.damage
  FROM dataset_file f JOIN stored_object o USING (sha256)
 WHERE f.dataset_id = $1 AND f.path = $2 AND f.sha256 <> $3 AND o.damage IS NULL
 ORDER BY f.revision DESC LIMIT 1
"""

# Each object once, under one of the paths that it has.
OBJECTS_OF_VERSION = """
SELECT sha256, min(size_bytes) FROM dataset_version_file WHERE version_id = $1 GROUP BY sha256
"""

OBJECTS_OF_DATASET = """
SELECT sha256, min(size_bytes)
  FROM (SELECT sha256, size_bytes FROM dataset_file WHERE dataset_id = $1
         UNION ALL
        SELECT f.sha256, f.size_bytes
          FROM dataset_version_file f JOIN dataset_version v ON v.id = f.version_id
         WHERE v.dataset_id = $1) AS every
 GROUP BY sha256
"""

DAMAGED_IN_VERSION = """
SELECT f.path, f.sha256, o.damage FROM dataset_version_file f JOIN stored_object o USING (sha256)
 WHERE f.version_id = $1 AND o.damage IS NOT NULL ORDER BY f.path
"""

DAMAGED_IN_DATASET = """
SELECT f.path, f.sha256, o.damage
  FROM dataset_file f JOIN stored_object o USING (sha256)
 WHERE f.dataset_id = $1 AND o.damage IS NOT NULL
 UNION
SELECT f.path, f.sha256, o.damage
  FROM dataset_version v
  JOIN dataset_version_file f ON f.version_id = v.id
  JOIN stored_object o USING (sha256)
 WHERE v.dataset_id = $1 AND o.damage IS NOT NULL
 ORDER BY 1
"""

# If the clock gives two versions the same time, or the wrong order, they are put a microsecond apart.
VERSION_MADE_US = """
SELECT (extract(epoch FROM max(created_at)) * 1000000)::bigint + $2
  FROM dataset_version WHERE dataset_id = $1 AND version <= $2
"""

TREE_MADE_US = """
SELECT coalesce((extract(epoch FROM max(stored_at)) * 1000000)::bigint, 0)
  FROM dataset_file WHERE dataset_id = $1
"""

NS_PER_US = 1_000


class DatasetState(NamedTuple):
    """A dataset's files at one moment.

    version_id, version  of the version; None: the files in the tree, because there is no version
    """

    dataset_id: int
    version_id: int | None
    version: DatasetVersion | None


class FileRow(NamedTuple):
    """One file; `damage` as in stored_object."""

    path: str
    sha256: str
    size_bytes: int
    damage: str | None


async def find_state(
    connection: Connection, robot_id: str, dataset: str, version: int | None
) -> DatasetState:
    """That version; without a number the best one, or the files in the tree if there is none.

    Raises DatasetNotFound, VersionNotFound.
    """
    dataset_id = await find_dataset(connection, robot_id, dataset)
    if version is None:
        row = await best_version(connection, dataset_id)
    else:
        row = await get_version(connection, dataset_id, dataset, version)
    if row is None:
        return DatasetState(dataset_id, None, None)
    return DatasetState(dataset_id, row["id"], view_of(row, robot_id, dataset))


async def published_ns(connection: Connection, state: DatasetState) -> int:
    """When that state was made, ns since the Unix epoch.

    A later version has a later time, even if the clock was set back in between. The tree has the time of its
    newest file.
    """
    if state.version is None:
        us: int = await connection.fetchval(TREE_MADE_US, state.dataset_id)
    else:
        us = await connection.fetchval(VERSION_MADE_US, state.dataset_id, state.version.version)
    return us * NS_PER_US


async def list_files(connection: Connection, state: DatasetState, after: str, limit: int) -> list[FileRow]:
    """Up to `limit` files whose path comes after `after`, by path."""
    if state.version_id is None:
        rows = await connection.fetch(FILES_IN_TREE, state.dataset_id, after, limit)
    else:
        rows = await connection.fetch(FILES_OF_VERSION, state.version_id, after, limit)
    return [FileRow(*row) for row in rows]


async def get_file(connection: Connection, state: DatasetState, path: str) -> FileRow:
    """The file at `path`; raises FileNotFound."""
    if state.version_id is None:
        row = await connection.fetchrow(FILE_IN_TREE, state.dataset_id, path)
    else:
        row = await connection.fetchrow(FILE_OF_VERSION, state.version_id, path)
    if row is None:
        raise FileNotFound(f"the dataset has no file {path!r}", field="path")
    return FileRow(*row)


async def earlier_file(connection: Connection, dataset_id: int, path: str, sha256: str) -> FileRow | None:
    """The newest content of the path other than `sha256`."""
    row = await connection.fetchrow(EARLIER_FILE, dataset_id, path, sha256)
    return None if row is None else FileRow(*row)


async def objects_of(
    connection: Connection, dataset_id: int, version_id: int | None
) -> list[tuple[str, int]]:
    """(SHA-256, bytes) of each object of that version, or of everything that the dataset has."""
    if version_id is None:
        rows = await connection.fetch(OBJECTS_OF_DATASET, dataset_id)
    else:
        rows = await connection.fetch(OBJECTS_OF_VERSION, version_id)
    return [(row[0], row[1]) for row in rows]


async def damaged_files(
    connection: Connection, dataset_id: int, version_id: int | None
) -> list[tuple[str, str, str]]:
    """(path, SHA-256, damage) of the files of that version, or of all, whose bytes are damaged."""
    if version_id is None:
        rows = await connection.fetch(DAMAGED_IN_DATASET, dataset_id)
    else:
        rows = await connection.fetch(DAMAGED_IN_VERSION, version_id)
    return [(row[0], row[1], row[2]) for row in rows]
