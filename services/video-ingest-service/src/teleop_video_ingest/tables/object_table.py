"""Rows of `stored_object`: the objects in the store. Every function works in its caller's transaction."""

from collections.abc import Collection, Sequence

from teleop_runtime.postgres.pool import Connection

# Whoever adds a reference to an object touches its row, and so waits for a sweep that is removing it.
KEEP = """
INSERT INTO stored_object (sha256, size_bytes, chunks) VALUES ($1, $2, nullif($3, ''::bytea))
ON CONFLICT (sha256) DO UPDATE
   SET stored_at = now(), found_at = NULL, chunks = coalesce(excluded.chunks, stored_object.chunks)
"""

FIND_DAMAGE = "SELECT damage FROM stored_object WHERE sha256 = $1"

SOUND_SIZE = "SELECT size_bytes FROM stored_object WHERE sha256 = $1 AND damage IS NULL"

LOCK_DAMAGED = "SELECT FROM stored_object WHERE sha256 = $1 AND damage IS NOT NULL FOR UPDATE"

NOTE_SOUND = "UPDATE stored_object SET damage = NULL, verified_at = now() WHERE sha256 = ANY($1)"

NOTE_DAMAGE = """
UPDATE stored_object SET damage = $2, verified_at = now() WHERE sha256 = $1 RETURNING sha256
"""

# Of a dataset's path, only the newest revision has the name in the tree.
NAMES_OF = """
SELECT file_path FROM video_chunk WHERE sha256 = $1
 UNION ALL
SELECT d.robot_id || '/' || d.name || '/' || f.path
  FROM dataset_file f JOIN dataset d ON d.id = f.dataset_id
 WHERE f.sha256 = $1
   AND NOT EXISTS (SELECT FROM dataset_file newer
                    WHERE newer.dataset_id = f.dataset_id AND newer.path = f.path
                      AND newer.revision > f.revision)
"""

SENT_BY = """
SELECT EXISTS (SELECT FROM video_chunk c JOIN teleop_session s ON s.id = c.session_id
                WHERE c.sha256 = $1 AND s.robot_id = ANY($2))
    OR EXISTS (SELECT FROM dataset_file f JOIN dataset d ON d.id = f.dataset_id
                WHERE f.sha256 = $1 AND d.robot_id = ANY($2))
"""

HAS_SIZE = """
SELECT EXISTS (SELECT FROM stored_object o
                WHERE o.size_bytes = $1
                  AND (EXISTS (SELECT FROM video_chunk c JOIN teleop_session s ON s.id = c.session_id
                                WHERE c.sha256 = o.sha256 AND s.robot_id = $2)
                       OR EXISTS (SELECT FROM dataset_file f JOIN dataset d ON d.id = f.dataset_id
                                   WHERE f.sha256 = o.sha256 AND d.robot_id = $2)))
"""

# Two paths may share a hash: one of them then waits without need, and nothing goes wrong.
LOCK_PATH = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"


async def keep_object(connection: Connection, sha256: str, size_bytes: int, chunks: bytes) -> None:
    """Create or touch the object's row; until the transaction ends, no sweep removes the object."""
    await connection.execute(KEEP, sha256, size_bytes, chunks)


async def lock_path(connection: Connection, path: str) -> None:
    """Lock `path` of the tree until the transaction ends, after waiting for others."""
    await connection.execute(LOCK_PATH, path)


async def damage_of(connection: Connection, sha256: str) -> str | None:
    """What the last check of the object found wrong; None: nothing, or the object is not known."""
    damage: str | None = await connection.fetchval(FIND_DAMAGE, sha256)
    return damage


async def sound_size(connection: Connection, sha256: str) -> int | None:
    """Bytes of an object; None if it is not known, or known to be damaged."""
    size_bytes: int | None = await connection.fetchval(SOUND_SIZE, sha256)
    return size_bytes


async def lock_damaged(connection: Connection, sha256: str) -> bool:
    """Whether the object is known to be damaged; its row then stays locked until the transaction ends."""
    return await connection.fetchrow(LOCK_DAMAGED, sha256) is not None


async def names_of(connection: Connection, sha256: str) -> list[str]:
    """Every path of the tree that stands for the object."""
    return [row[0] for row in await connection.fetch(NAMES_OF, sha256)]


async def sent_by(connection: Connection, sha256: str, robot_ids: Collection[str]) -> bool:
    """Whether one of these robots has a file with these bytes."""
    sent: bool = await connection.fetchval(SENT_BY, sha256, list(robot_ids))
    return sent


async def has_size(connection: Connection, size_bytes: int, robot_id: str) -> bool:
    """Whether one of the robot's files has that size."""
    found: bool = await connection.fetchval(HAS_SIZE, size_bytes, robot_id)
    return found


async def note_sound(connection: Connection, sha256s: Sequence[str]) -> None:
    """Record that the bytes of these objects were read and are right."""
    await connection.execute(NOTE_SOUND, sha256s)


async def note_damage(connection: Connection, sha256: str, damage: str) -> bool:
    """Record what is wrong with an object; False if it has been removed meanwhile."""
    return await connection.fetchval(NOTE_DAMAGE, sha256, damage) is not None
