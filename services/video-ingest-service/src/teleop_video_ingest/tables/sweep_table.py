"""Removes versions and revisions that later ones contain, and objects that nothing refers to any more."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import asyncpg
from teleop_runtime.postgres.pool import Connection

# Without it, two replicas would remove things twice; a replica that finds it taken has nothing to do.
SWEEP_LOCK = 7_264_981_003
TRY_LOCK = "SELECT pg_try_advisory_lock($1)"
UNLOCK = "SELECT pg_advisory_unlock($1)"

# By time, not by number: an adopted version may be older than its number says. The source of a repair stays,
# so that the repair can be judged.
TOO_MANY_VERSIONS = """
WITH aged AS (
    SELECT id, dataset_id, version,
           row_number() OVER (PARTITION BY dataset_id, recording_begun
                              ORDER BY created_at DESC, version DESC) AS age
      FROM dataset_version WHERE source = 'robot' AND NOT finalised AND recording_begun IS NOT NULL)
SELECT id FROM aged a
 WHERE age > $1
   AND NOT EXISTS (SELECT FROM dataset_version repair
                    WHERE repair.dataset_id = a.dataset_id AND repair.repaired_from = a.version)
"""

# The newest revisions of a path stay, and what versions refer to.
REVISIONS_OF = """
DELETE FROM dataset_file old USING dataset_version v JOIN dataset_version_file f ON f.version_id = v.id
 WHERE v.id = ANY($1)
   AND old.dataset_id = v.dataset_id AND old.path = f.path AND old.sha256 = f.sha256
   AND EXISTS (SELECT FROM dataset_file newer
                WHERE newer.dataset_id = old.dataset_id AND newer.path = old.path
                  AND newer.revision >= old.revision + $2)
   AND NOT EXISTS (SELECT FROM dataset_version stays JOIN dataset_version_file g ON g.version_id = stays.id
                    WHERE stays.dataset_id = old.dataset_id AND stays.id <> ALL($1)
                      AND g.path = old.path AND g.sha256 = old.sha256)
RETURNING old.sha256
"""

# The rows of files go with their version's (ON DELETE CASCADE), but a query sees the tables as they were
# before.
FORGET_VERSIONS = """
WITH gone AS (DELETE FROM dataset_version WHERE id = ANY($1))
SELECT DISTINCT sha256 FROM dataset_version_file WHERE version_id = ANY($1)
"""

# A revision without a version is removed if it came between two versions of one recording, and is of one of
# its files. Nothing is known of others, so they stay. Revisions tell the order; times would tell another one
# once a clock was set back.
THIN_REVISIONS = """
WITH state AS (
    SELECT t.dataset_id, t.path, t.revision, v.recording_begun
      FROM dataset_version v JOIN dataset_version_file f ON f.version_id = v.id
      JOIN dataset_file t ON t.dataset_id = v.dataset_id AND t.path = f.path AND t.sha256 = f.sha256
     WHERE v.recording_begun IS NOT NULL),
recorded AS (
    SELECT dataset_id, path, min(revision) AS first, max(revision) AS last
      FROM state GROUP BY dataset_id, path, recording_begun)
DELETE FROM dataset_file old
 WHERE EXISTS (SELECT FROM dataset_file newer
                WHERE newer.dataset_id = old.dataset_id AND newer.path = old.path
                  AND newer.revision >= old.revision + $1)
   AND NOT EXISTS (SELECT FROM dataset_version v JOIN dataset_version_file f ON f.version_id = v.id
                    WHERE v.dataset_id = old.dataset_id AND f.path = old.path AND f.sha256 = old.sha256)
   AND EXISTS (SELECT FROM recorded r
                WHERE r.dataset_id = old.dataset_id AND r.path = old.path
                  AND old.revision > r.first AND old.revision < r.last)
RETURNING old.sha256
"""

# What was found in the store without a row (`found_at`) is not swept: only a person removes it.
UNREFERENCED = """
SELECT o.sha256 FROM stored_object o
 WHERE o.stored_at < now() - $1::interval AND o.found_at IS NULL
   AND NOT EXISTS (SELECT FROM video_chunk c WHERE c.sha256 = o.sha256)
   AND NOT EXISTS (SELECT FROM dataset_file f WHERE f.sha256 = o.sha256)
   AND NOT EXISTS (SELECT FROM dataset_version_file f WHERE f.sha256 = o.sha256)
"""

# If a reference is added meanwhile, the foreign key refuses this.
REMOVE = """
DELETE FROM stored_object o
 WHERE o.sha256 = $1
   AND NOT EXISTS (SELECT FROM video_chunk c WHERE c.sha256 = o.sha256)
   AND NOT EXISTS (SELECT FROM dataset_file f WHERE f.sha256 = o.sha256)
   AND NOT EXISTS (SELECT FROM dataset_version_file f WHERE f.sha256 = o.sha256)
   AND NOT EXISTS (SELECT FROM upload u WHERE u.base = o.sha256 AND u.finished_at IS NULL)
RETURNING o.sha256
"""

# Temporary: millions of rows that nobody else needs, and that a crash of the process removes.
BEGIN_LISTING = "CREATE TEMPORARY TABLE listed_object (sha256 text, size_bytes bigint)"
END_LISTING = "DROP TABLE IF EXISTS listed_object"

# The row may come from an upload that has ended since the listing began.
ADOPT = """
INSERT INTO stored_object (sha256, size_bytes, found_at)
SELECT sha256, size_bytes, now() FROM listed_object l
 WHERE NOT EXISTS (SELECT FROM stored_object o WHERE o.sha256 = l.sha256)
ON CONFLICT DO NOTHING
RETURNING sha256
"""

UNCLAIMED = """
SELECT o.sha256, o.size_bytes FROM stored_object o
 WHERE o.found_at IS NOT NULL
   AND NOT EXISTS (SELECT FROM video_chunk c WHERE c.sha256 = o.sha256)
   AND NOT EXISTS (SELECT FROM dataset_file f WHERE f.sha256 = o.sha256)
   AND NOT EXISTS (SELECT FROM dataset_version_file f WHERE f.sha256 = o.sha256)
 ORDER BY o.sha256
"""

NOT_AS_LISTED = """
SELECT o.sha256, o.size_bytes FROM stored_object o LEFT JOIN listed_object l USING (sha256)
 WHERE o.stored_at < $1 AND o.damage IS NULL
   AND (l.sha256 IS NULL OR l.size_bytes <> o.size_bytes)
"""

BACK_AGAIN = """
SELECT o.sha256, o.size_bytes FROM stored_object o JOIN listed_object l USING (sha256, size_bytes)
 WHERE o.damage = $1
"""


async def try_lock(connection: Connection) -> bool:
    """Take the lock for sweeping; True until `unlock`, or until the connection ends."""
    locked: bool = await connection.fetchval(TRY_LOCK, SWEEP_LOCK)
    return locked


async def unlock(connection: Connection) -> None:
    """Release the lock for sweeping."""
    await connection.execute(UNLOCK, SWEEP_LOCK)


async def too_many_versions(connection: Connection, kept: int) -> list[int]:
    """Ids of unfinalised versions that this many newer ones contain completely.

    Versions that are finalised, repaired, sources of repairs, or of unknown recordings stay.
    """
    return [row[0] for row in await connection.fetch(TOO_MANY_VERSIONS, kept)]


async def forget_versions(
    connection: Connection, versions: Sequence[int], *, kept_revisions: int
) -> set[str]:
    """Delete these versions, and revisions that only they refer to.

    Returns the objects that they referred to, which others may still refer to.
    """
    released = await connection.fetch(REVISIONS_OF, versions, kept_revisions)
    released += await connection.fetch(FORGET_VERSIONS, versions)
    return {row[0] for row in released}


async def thin_revisions(connection: Connection, kept: int) -> set[str]:
    """Delete all but the newest revisions of each path, if they were intermediate states of a recording.

    Returns their objects, which others may still refer to.
    """
    return {row[0] for row in await connection.fetch(THIN_REVISIONS, kept)}


async def unreferenced(connection: Connection, older_than: timedelta) -> list[str]:
    """Objects that have had no reference for that long."""
    return [row[0] for row in await connection.fetch(UNREFERENCED, older_than)]


async def unclaimed(connection: Connection) -> list[tuple[str, int]]:
    """(SHA-256, bytes) of objects that were found in the store and have had no reference since."""
    return [(row[0], row[1]) for row in await connection.fetch(UNCLAIMED)]


async def remove_row(connection: Connection, sha256: str) -> bool:
    """Delete the object's row if nothing refers to it; returns whether it is gone."""
    try:
        return await connection.fetchval(REMOVE, sha256) is not None
    # A file or a version has come to refer to it in this moment.
    except asyncpg.ForeignKeyViolationError:
        return False


async def begin_listing(connection: Connection) -> None:
    """Create the table for the listing of the store."""
    # Of a listing that was broken off on this connection.
    await connection.execute(END_LISTING)
    await connection.execute(BEGIN_LISTING)


async def add_listed(connection: Connection, objects: Sequence[tuple[str, int]]) -> None:
    """Add objects (SHA-256, bytes) of the store to the listing."""
    await connection.copy_records_to_table("listed_object", records=objects)


async def adopt(connection: Connection) -> list[str]:
    """Add a row for each listed object without one; returns these objects."""
    return [row[0] for row in await connection.fetch(ADOPT)]


async def back_again(connection: Connection, damage: str) -> list[tuple[str, int]]:
    """(SHA-256, bytes) of the listed objects that this was noted of, although they have their size."""
    return [(row[0], row[1]) for row in await connection.fetch(BACK_AGAIN, damage)]


async def not_as_listed(connection: Connection, before: datetime) -> list[tuple[str, int]]:
    """(SHA-256, bytes) of rows older than `before` whose object was not listed, or has another size."""
    return [(row[0], row[1]) for row in await connection.fetch(NOT_AS_LISTED, before)]


async def end_listing(connection: Connection) -> None:
    """Drop the listing."""
    await connection.execute(END_LISTING)
