"""Rows of `dataset_version`: states of a dataset that are wholly there. On the caller's connection."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg
from teleop_runtime.postgres.pool import Connection
from teleop_schema.files import DatasetVersion, Manifest, ManifestFile

from teleop_video_ingest.errors import DatasetNotFound, VersionNotFound

# PostgreSQL's integer.
MAX_VERSION = 2**31 - 1

FIND_DATASET = "SELECT id FROM dataset WHERE robot_id = $1 AND name = $2"

# Versions of a dataset are made one after the other.
LOCK_DATASET = "SELECT id FROM dataset WHERE robot_id = $1 AND name = $2 FOR UPDATE"

NEWEST_OF_ROBOT = """
SELECT * FROM dataset_version WHERE dataset_id = $1 AND source = 'robot'
 ORDER BY created_at DESC, version DESC LIMIT 1
"""

# Holding the objects' rows, so that no sweep takes one away before the version refers to it.
LOCK_PRESENT = """
SELECT wanted.path
  FROM unnest($2::text[], $3::text[], $4::bigint[]) AS wanted(path, sha256, size_bytes)
  JOIN stored_object o ON o.sha256 = wanted.sha256 AND o.size_bytes = wanted.size_bytes
 WHERE o.damage IS NULL
   AND EXISTS (SELECT FROM dataset_file f
                WHERE f.dataset_id = $1 AND f.path = wanted.path AND f.sha256 = wanted.sha256)
   FOR KEY SHARE OF o
"""

# Newer than all others, also if the clock was set back.
ADD_VERSION = """
INSERT INTO dataset_version (dataset_id, version, source, repaired_from, manifest_sha256, total_episodes,
                             total_frames, finalised, files, size_bytes, created_at)
SELECT $1, coalesce(max(version), 0) + 1, $2, $3, $4, $5, $6, $7, $8, $9,
       greatest(now(), max(created_at) + interval '1 microsecond')
  FROM dataset_version WHERE dataset_id = $1
RETURNING *
"""

ADD_FILES = """
INSERT INTO dataset_version_file (version_id, path, sha256, size_bytes)
SELECT $1, * FROM unnest($2::text[], $3::text[], $4::bigint[])
"""

ALL_PRESENT = """
SELECT count(*) = $4 FROM unnest($1::text[], $2::text[], $3::bigint[]) AS wanted(path, sha256, size_bytes)
  JOIN stored_object o ON o.sha256 = wanted.sha256 AND o.size_bytes = wanted.size_bytes
"""

ADOPT_FILES = """
INSERT INTO dataset_file (dataset_id, path, sha256, size_bytes, revision)
SELECT $1, told.path, told.sha256, told.size_bytes,
       1 + (SELECT coalesce(max(f.revision), 0) FROM dataset_file f
             WHERE f.dataset_id = $1 AND f.path = told.path)
  FROM unnest($2::text[], $3::text[], $4::bigint[]) AS told(path, sha256, size_bytes)
 WHERE NOT EXISTS (SELECT FROM dataset_file f
                    WHERE f.dataset_id = $1 AND f.path = told.path AND f.sha256 = told.sha256)
"""

# Its number may have been given to another version while this database did not know it.
ADOPT_VERSION = """
INSERT INTO dataset_version (dataset_id, version, source, repaired_from, manifest_sha256, total_episodes,
                             total_frames, finalised, files, size_bytes, created_at, noted_at)
SELECT $1,
       CASE WHEN EXISTS (SELECT FROM dataset_version v WHERE v.dataset_id = $1 AND v.version = $2)
            THEN (SELECT greatest(max(version), $12) + 1 FROM dataset_version v WHERE v.dataset_id = $1)
            ELSE $2 END,
       $3, $4, $5, $6, $7, $8, $9, $10, $11, now()
RETURNING id, version
"""

# What the dataset was at that moment, or became once more: the robot has sent again what was forgotten.
FIND_ADOPTED = """
SELECT version FROM dataset_version
 WHERE dataset_id = $1 AND manifest_sha256 = $2 AND source = $3 AND created_at >= $4
 ORDER BY created_at, version LIMIT 1
"""

# The newest version's files are what lies in the dataset: not those of one that came back ($2).
RAISE_NEWEST = """
UPDATE dataset_file f
   SET revision = 1 + (SELECT max(revision) FROM dataset_file t
                        WHERE t.dataset_id = f.dataset_id AND t.path = f.path)
  FROM dataset_version_file g
 WHERE g.version_id = (SELECT id FROM dataset_version v WHERE v.dataset_id = $1 AND v.source = 'robot'
                        ORDER BY created_at DESC, version DESC LIMIT 1)
   AND f.dataset_id = $1 AND f.path = g.path AND f.sha256 = g.sha256
   AND NOT EXISTS (SELECT FROM dataset_file again
                    WHERE again.dataset_id = $1 AND again.path = f.path AND again.sha256 = f.sha256
                      AND again.revision > f.revision)
   AND EXISTS (SELECT FROM dataset_file top
                 JOIN dataset_version_file back
                   ON back.version_id = $2 AND back.path = top.path AND back.sha256 = top.sha256
                WHERE top.dataset_id = $1 AND top.path = f.path AND top.revision > f.revision)
"""

# Content that was sent several times is the same of each.
FIND_ORIGIN = """
SELECT version FROM dataset_version
 WHERE dataset_id = $1 AND manifest_sha256 = $2 AND source = 'robot'
 ORDER BY created_at <= $3 DESC, created_at DESC LIMIT 1
"""

CLAIM = "UPDATE stored_object SET found_at = NULL WHERE sha256 = ANY($1) AND found_at IS NOT NULL"

LIST_VERSIONS = """
SELECT * FROM dataset_version
 WHERE dataset_id = $1 AND ($2::integer IS NULL OR version < $2) ORDER BY version DESC LIMIT $3
"""

GET_VERSION = "SELECT * FROM dataset_version WHERE dataset_id = $1 AND version = $2"

# What somebody who wants the dataset should get: whole ones first, then the newest. Which that is their times
# tell: one that a database forgot comes back with another number, if its own was given to a later one.
BEST_VERSION = """
SELECT * FROM dataset_version WHERE dataset_id = $1
 ORDER BY finalised OR source = 'repair' DESC, created_at DESC, version DESC LIMIT 1
"""

# The same repair again gives the same bytes, and must not give another version.
FIND_REPAIR = """
SELECT * FROM dataset_version
 WHERE dataset_id = $1 AND repaired_from = $2 AND manifest_sha256 = $3 ORDER BY version DESC LIMIT 1
"""


async def find_dataset(connection: Connection, robot_id: str, dataset: str, *, lock: bool = False) -> int:
    """The dataset's id; raises DatasetNotFound.

    lock  no other transaction makes a version of it until this one ends
    """
    found: int | None = await connection.fetchval(LOCK_DATASET if lock else FIND_DATASET, robot_id, dataset)
    if found is None:
        raise DatasetNotFound(f"robot {robot_id!r} has no dataset {dataset!r}", field="dataset")
    return found


async def newest_of_robot(connection: Connection, dataset_id: int) -> asyncpg.Record | None:
    """Row of the newest version that is as it lay on the robot."""
    return await connection.fetchrow(NEWEST_OF_ROBOT, dataset_id)


async def find_repair(
    connection: Connection, dataset_id: int, repaired_from: int, manifest_sha256: str
) -> asyncpg.Record | None:
    """Row of the version that the same repair made before."""
    return await connection.fetchrow(FIND_REPAIR, dataset_id, repaired_from, manifest_sha256)


async def absent_files(connection: Connection, dataset_id: int, files: Sequence[ManifestFile]) -> list[str]:
    """Paths of those files whose content the dataset has not been sent; the others can't be swept away before
    the transaction ends."""
    rows = await connection.fetch(LOCK_PRESENT, dataset_id, *_columns(files))
    present = {row[0] for row in rows}
    return [file.path for file in files if file.path not in present]


async def add_version(
    connection: Connection,
    dataset_id: int,
    manifest: Manifest,
    manifest_sha256: str,
    *,
    repaired_from: int | None = None,
) -> asyncpg.Record:
    """The new version's row."""
    row = await connection.fetchrow(
        ADD_VERSION,
        dataset_id,
        "robot" if repaired_from is None else "repair",
        repaired_from,
        manifest_sha256,
        manifest.total_episodes,
        manifest.total_frames,
        manifest.finalised,
        len(manifest.files),
        sum(file.size_bytes for file in manifest.files),
    )
    assert row is not None  # noqa: S101
    await connection.execute(ADD_FILES, row["id"], *_columns(manifest.files))
    return row


async def find_adopted(
    connection: Connection, dataset_id: int, manifest_sha256: str, source: str, created_at: datetime
) -> int | None:
    """Number of the version that is one the store tells of, or has come since with the same content."""
    found: int | None = await connection.fetchval(
        FIND_ADOPTED, dataset_id, manifest_sha256, source, created_at
    )
    return found


async def find_origin(
    connection: Connection, dataset_id: int, manifest_sha256: str, repaired_at: datetime
) -> int | None:
    """Number of the version with this content that a repair was made of; None if it is not known."""
    found: int | None = await connection.fetchval(FIND_ORIGIN, dataset_id, manifest_sha256, repaired_at)
    return found


async def adopt_version(
    connection: Connection,
    dataset_id: int,
    manifest: Manifest,
    manifest_sha256: str,
    *,
    version: int,
    highest: int,
    source: str,
    repaired_from: int | None,
    created_at: datetime,
) -> asyncpg.Record | None:
    """Id and number of a version that the store tells of; None if a file of it is not in the store.

    It has its number again, unless another version has got that meanwhile: then one above all others, and
    above `highest`.
    """
    paths, sha256s, sizes = _columns(manifest.files)
    if not await connection.fetchval(ALL_PRESENT, paths, sha256s, sizes, len(paths)):
        return None
    totals = manifest.total_episodes, manifest.total_frames, manifest.finalised, len(paths), sum(sizes)
    told = dataset_id, version, source, repaired_from, manifest_sha256, *totals, created_at, highest
    row = await connection.fetchrow(ADOPT_VERSION, *told)
    assert row is not None  # noqa: S101
    await connection.execute(ADD_FILES, row["id"], paths, sha256s, sizes)
    await connection.execute(ADOPT_FILES, dataset_id, paths, sha256s, sizes)
    await connection.execute(CLAIM, sha256s)
    await connection.execute(RAISE_NEWEST, dataset_id, row["id"])
    return row


async def list_versions(
    connection: Connection, dataset_id: int, before: int | None, limit: int
) -> list[asyncpg.Record]:
    """Up to `limit` versions older than `before`, newest first."""
    return await connection.fetch(LIST_VERSIONS, dataset_id, before, limit)


async def best_version(connection: Connection, dataset_id: int) -> asyncpg.Record | None:
    """Row of the version to give out: the newest that is finalised or repaired, else the newest."""
    return await connection.fetchrow(BEST_VERSION, dataset_id)


async def get_version(connection: Connection, dataset_id: int, dataset: str, version: int) -> asyncpg.Record:
    """Row of that version; raises VersionNotFound."""
    row = await connection.fetchrow(GET_VERSION, dataset_id, version) if version <= MAX_VERSION else None
    if row is None:
        raise VersionNotFound(f"dataset {dataset!r} has no version {version}", field="version")
    return row


def view_of(row: asyncpg.Record, robot_id: str, dataset: str) -> DatasetVersion:
    """A row of `dataset_version` as others see it."""
    return DatasetVersion(
        robot_id=robot_id,
        dataset=dataset,
        version=row["version"],
        source=row["source"],
        created_at=row["created_at"],
        total_episodes=row["total_episodes"],
        total_frames=row["total_frames"],
        finalised=row["finalised"],
        files=row["files"],
        size_bytes=row["size_bytes"],
        repaired_from=row["repaired_from"],
    )


def _columns(files: Sequence[ManifestFile]) -> tuple[list[str], list[str], list[int]]:
    return (
        [file.path for file in files],
        [file.sha256 for file in files],
        [file.size_bytes for file in files],
    )
