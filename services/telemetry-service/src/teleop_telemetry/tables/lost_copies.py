"""Archived frames that the store has lost: which sessions they are of, and how these take frames again.

Every function works on its caller's connection.
"""

from dataclasses import dataclass
from datetime import datetime

import asyncpg
from teleop_runtime.postgres.pool import Connection

# By the look that lists the whole archive; two replicas at once would only do the same work twice.
LOOK_LOCK = 7_264_981_006
TRY_LOCK = "SELECT pg_try_advisory_lock($1)"
UNLOCK = "SELECT pg_advisory_unlock($1)"

ANY_COPY = "SELECT EXISTS (SELECT FROM session_archive)"
BEGIN_LISTING = "CREATE TEMPORARY TABLE listed_copy (sha256 text, size_bytes bigint)"
END_LISTING = "DROP TABLE IF EXISTS listed_copy"

# What is marked although it is listed, or is not marked although it is not. A younger copy may have come
# after its part of the listing.
NOT_AS_LISTED = """
SELECT a.session_id, a.frames, a.frames_sha256, a.frames_bytes, a.damage
  FROM session_archive a
  LEFT JOIN listed_copy l ON l.sha256 = a.frames_sha256 AND l.size_bytes = a.frames_bytes
 WHERE a.copied_at < $1 AND (l.sha256 IS NULL) = (a.damage IS NULL)
 ORDER BY a.session_id
"""

# The description of a session can always be written again.
TELL_AGAIN = """
UPDATE session_archive a SET edits = edits + 1
 WHERE a.copied_at < $1 AND a.damage IS NULL AND a.noted_edits = a.edits
   AND NOT EXISTS (SELECT FROM listed_copy l WHERE l.sha256 = a.about_sha256)
"""

NOTE_DAMAGE = """
UPDATE session_archive SET damage = $3
 WHERE session_id = $1 AND frames_sha256 = $2 AND damage IS DISTINCT FROM $3
RETURNING session_id
"""

ARCHIVED = """
SELECT session_id, frames, frames_sha256, frames_bytes, damage FROM session_archive
 WHERE session_id = $1 AND dropped_at IS NOT NULL
"""

LOST = """
SELECT a.session_id FROM session_archive a JOIN teleop_session s ON s.id = a.session_id
 WHERE a.damage IS NOT NULL AND a.dropped_at IS NOT NULL AND s.deleted_at IS NULL
 ORDER BY a.session_id
"""

# As a session that a new database has found in the store: its frames come from whoever still has them, and
# those that nobody brings are not accounted for. Labels and tags that people gave it stay. Gaps come again
# with the frames around them.
TAKE_AGAIN = """
WITH lost AS (
    DELETE FROM session_archive
     WHERE session_id = $1 AND dropped_at IS NOT NULL AND damage IS NOT NULL RETURNING session_id),
gaps AS (DELETE FROM frame_gap WHERE session_id IN (SELECT session_id FROM lost)),
account AS (DELETE FROM session_account WHERE session_id IN (SELECT session_id FROM lost))
UPDATE teleop_session
   SET found_at = now(), logged_frames = greatest(logged_frames, next_frame_index), next_frame_index = 0,
       untold_times = 0, status = $2
 WHERE id IN (SELECT session_id FROM lost)
RETURNING id, epoch, next_frame_index
"""


# The only damage that can't be seen by the size, so all bytes are read before this mark goes.
OTHER_BYTES = "its bytes are not those that were archived"


@dataclass(frozen=True)
class Copied:
    """Where the frames of a session are in the store.

    damage  what is known to be wrong with them; None: nothing
    """

    session_id: int
    frames: int
    sha256: str
    size_bytes: int
    damage: str | None = None


async def archived_copy(connection: Connection, session_id: int) -> Copied | None:
    """The copy of a session whose frames have left the database; None if they are in it."""
    row = await connection.fetchrow(ARCHIVED, session_id)
    return None if row is None else Copied(*row)


async def try_lock(connection: Connection) -> bool:
    """Take the lock for looking; True until `unlock`, or until the connection ends."""
    locked: bool = await connection.fetchval(TRY_LOCK, LOOK_LOCK)
    return locked


async def unlock(connection: Connection) -> None:
    """Release the lock for looking."""
    await connection.execute(UNLOCK, LOOK_LOCK)


async def any_copy(connection: Connection) -> bool:
    """Whether any session has been archived at all."""
    found: bool = await connection.fetchval(ANY_COPY)
    return found


async def begin_listing(connection: Connection) -> None:
    """Forget an earlier listing of the store on this connection, and begin one."""
    await connection.execute(END_LISTING)
    await connection.execute(BEGIN_LISTING)


async def add_listed(connection: Connection, objects: list[tuple[str, int]]) -> None:
    """Add (SHA-256, bytes) of objects that the store has."""
    await connection.copy_records_to_table("listed_copy", records=objects)


async def end_listing(connection: Connection) -> None:
    """Forget the listing."""
    await connection.execute(END_LISTING)


async def not_as_listed(connection: Connection, before: datetime) -> list[Copied]:
    """Copies made before then that are marked and listed, or neither."""
    return [Copied(*row) for row in await connection.fetch(NOT_AS_LISTED, before)]


async def tell_again(connection: Connection, before: datetime) -> None:
    """Let the descriptions be written again that are not listed, of copies made before then."""
    await connection.execute(TELL_AGAIN, before)


async def note_damage(connection: Connection, copied: Copied, damage: str | None) -> bool:
    """Mark a copy, or unmark it with None; whether that is news."""
    return await connection.fetchval(NOTE_DAMAGE, copied.session_id, copied.sha256, damage) is not None


async def lost_sessions(connection: Connection) -> list[int]:
    """Sessions whose only copy is marked, but for those that people have deleted."""
    return [row["session_id"] for row in await connection.fetch(LOST)]


async def take_again(connection: Connection, session_id: int, status: str) -> asyncpg.Record | None:
    """Let a session whose archived frames are lost take frames again, from the first on, with that status.

    Returns its id, epoch and watermark; None if nothing of it is marked as lost.
    """
    return await connection.fetchrow(TAKE_AGAIN, session_id, status)
