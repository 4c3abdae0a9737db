"""Rows of `dataset` and `dataset_file`. Every function works on its caller's connection."""

import asyncpg
from teleop_runtime.postgres.pool import Connection
from teleop_schema.files import DatasetFile

from teleop_video_ingest.errors import NamesOverlap

NEWEST_FILE = """
SELECT f.*, o.chunks, o.damage
  FROM dataset d
  JOIN dataset_file f ON f.dataset_id = d.id
  JOIN stored_object o USING (sha256)
 WHERE d.robot_id = $1 AND d.name = $2 AND f.path = $3
 ORDER BY f.revision DESC LIMIT 1
"""

ALL_DATASETS = "SELECT robot_id, name FROM dataset ORDER BY id"

FIND_DATASET = "SELECT id FROM dataset WHERE robot_id = $1 AND name = $2"

# New datasets of a robot are made one after the other, so that none gets inside another.
LOCK_ROBOT = "SELECT pg_advisory_xact_lock(hashtextextended($1, 1))"

FIND_OVERLAP = """
SELECT name FROM dataset
 WHERE robot_id = $1 AND (starts_with(name, $2 || '/') OR starts_with($2, name || '/')) LIMIT 1
"""

MAKE_DATASET = "INSERT INTO dataset (robot_id, name) VALUES ($1, $2) RETURNING id"

# For each dataset, the version to serve by default, as in version_table.BEST_VERSION.
LIST_DATASETS = """
SELECT d.id AS number, d.robot_id, d.name, d.created_at AS made_at, best.*,
       (SELECT count(*) FROM dataset_version v WHERE v.dataset_id = d.id) AS versions,
       EXISTS (SELECT FROM stored_object o JOIN dataset_version_file f USING (sha256)
                WHERE o.damage IS NOT NULL AND f.version_id = best.id) AS damaged
  FROM dataset d
  LEFT JOIN LATERAL (SELECT * FROM dataset_version v WHERE v.dataset_id = d.id
                      ORDER BY finalised OR source = 'repair' DESC, created_at DESC, version DESC
                      LIMIT 1) best ON true
 WHERE ($1::text IS NULL OR d.robot_id = $1)
   AND ($2::text IS NULL OR d.name = $2)
   AND ($3::bigint IS NULL OR d.id < $3)
 ORDER BY d.id DESC LIMIT $4
"""

ADD_REVISION = """
INSERT INTO dataset_file (dataset_id, path, revision, sha256, size_bytes)
SELECT $1, $2, coalesce(max(revision), 0) + 1, $3, $4 FROM dataset_file WHERE dataset_id = $1 AND path = $2
RETURNING *
"""


async def newest_file(
    connection: Connection, robot_id: str, dataset: str, path: str
) -> asyncpg.Record | None:
    """The file at that path of the dataset, with its chunks and damage; None if there is none."""
    return await connection.fetchrow(NEWEST_FILE, robot_id, dataset, path)


async def check_apart(connection: Connection, robot_id: str, dataset: str) -> int | None:
    """The dataset's id, None if it is new; raises NamesOverlap if its folder would be inside another's."""
    found: int | None = await connection.fetchval(FIND_DATASET, robot_id, dataset)
    if found is None:
        other = await connection.fetchval(FIND_OVERLAP, robot_id, dataset)
        if other is not None:
            raise NamesOverlap(
                f"dataset {dataset!r} and dataset {other!r} would be inside one another", field="dataset"
            )
    return found


async def ensure_dataset(connection: Connection, robot_id: str, dataset: str) -> int:
    """The dataset's id; a new dataset is created. Raises NamesOverlap."""
    found = await check_apart(connection, robot_id, dataset)
    if found is not None:
        return found
    await connection.execute(LOCK_ROBOT, robot_id)
    found = await check_apart(connection, robot_id, dataset)
    if found is None:
        found = await connection.fetchval(MAKE_DATASET, robot_id, dataset)
    assert found is not None  # noqa: S101
    return found


async def all_datasets(connection: Connection) -> list[tuple[str, str]]:
    """(robot_id, name) of every dataset."""
    return [(row[0], row[1]) for row in await connection.fetch(ALL_DATASETS)]


async def add_revision(connection: Connection, dataset_id: int, file: DatasetFile) -> asyncpg.Record:
    """Add a row for `file`, and return it."""
    row = await connection.fetchrow(ADD_REVISION, dataset_id, file.path, file.sha256, file.size_bytes)
    assert row is not None  # noqa: S101
    return row


async def list_datasets(
    connection: Connection, robot_id: str | None, name: str | None, before: int | None, limit: int
) -> list[asyncpg.Record]:
    """Up to `limit` datasets with a lower id than `before`, newest first, each with its best version."""
    return await connection.fetch(LIST_DATASETS, robot_id, name, before, limit)
