"""Which partitions may be archived, and which copies of their sessions exist."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import msgspec
from teleop_runtime.postgres.pool import Connection
from teleop_schema.columns import Column
from teleop_schema.errors import Conflict, NotFound
from teleop_schema.words import counted

from teleop_telemetry.tables.event_rows import read_columns
from teleop_telemetry.tables.frame_accounts import measure_frames
from teleop_telemetry.tables.frame_partition import ensure_partition
from teleop_telemetry.tables.lost_copies import Copied, archived_copy

# Two replicas at once would only do the same work twice.
RETENTION_LOCK = 7_264_981_004
TRY_LOCK = "SELECT pg_try_advisory_lock($1)"
HOLD_LOCK = "SELECT pg_try_advisory_xact_lock($1)"
UNLOCK = "SELECT pg_advisory_unlock($1)"

# By the server's clock. A partition gets no new session once a later partition has one.
DUE = """
SELECT p.part
  FROM (SELECT substring(c.relname FROM '[0-9]+$')::bigint AS part
          FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'teleop_frame'::regclass) p
 WHERE EXISTS (SELECT FROM teleop_session s WHERE s.id >= (p.part + 1) * 1000)
   AND EXISTS (SELECT FROM teleop_session s WHERE s.id >= p.part * 1000 AND s.id < (p.part + 1) * 1000)
   AND NOT EXISTS (
       SELECT FROM teleop_session s LEFT JOIN session_archive a ON a.session_id = s.id
        WHERE s.id >= p.part * 1000 AND s.id < (p.part + 1) * 1000
          AND (s.status = 'recording' AND NOT $2
               OR greatest(coalesce(s.last_commit_at, s.start_time), a.restored_at) > now() - $1::interval))
 ORDER BY p.part
"""

RECORDING = """
SELECT id FROM teleop_session WHERE id >= $1 * 1000 AND id < ($1 + 1) * 1000 AND status = 'recording'
 ORDER BY id
"""

NOT_COPIED = """
SELECT s.id FROM teleop_session s LEFT JOIN session_archive a ON a.session_id = s.id
 WHERE s.id >= $1 * 1000 AND s.id < ($1 + 1) * 1000
   AND (a.session_id IS NULL OR a.dropped_at IS NULL
                                AND (a.next_frame_index <> s.next_frame_index OR a.damage IS NOT NULL))
 ORDER BY s.id
"""

# In one statement, so that all of it is of one moment, even without a snapshot.
DESCRIBE = """
SELECT s.id, s.robot_id, s.next_frame_index, s.status,
       cardinality(s.state_names) AS state_width, cardinality(s.action_names) AS action_width,
       (SELECT coalesce(sum(g.end_frame - g.first_frame), 0)::bigint
          FROM frame_gap g WHERE g.session_id = s.id) AS missing,
       jsonb_build_object(
           'session', to_jsonb(s),
           'episodes', (SELECT coalesce(jsonb_agg(to_jsonb(e) ORDER BY e.episode_index), '[]')
                          FROM episode e WHERE e.session_id = s.id),
           'changes', (SELECT coalesce(jsonb_agg(to_jsonb(c) ORDER BY c.episode_index, c.revision), '[]')
                         FROM episode_change c WHERE c.session_id = s.id),
           'session_changes', (SELECT coalesce(jsonb_agg(to_jsonb(c) ORDER BY c.revision), '[]')
                                 FROM session_change c WHERE c.session_id = s.id),
           'pauses', (SELECT coalesce(jsonb_agg(to_jsonb(p) ORDER BY p.first_frame), '[]')
                        FROM episode_pause p WHERE p.session_id = s.id),
           'gaps', (SELECT coalesce(jsonb_agg(to_jsonb(g) ORDER BY g.first_frame), '[]')
                      FROM frame_gap g WHERE g.session_id = s.id),
           'columns', (SELECT coalesce(jsonb_agg(to_jsonb(c) ORDER BY c.position), '[]')
                         FROM session_column c WHERE c.session_id = s.id),
           'marks', (SELECT coalesce(jsonb_agg(to_jsonb(m) ORDER BY m.frame_index, m.note), '[]')
                       FROM session_mark m WHERE m.session_id = s.id))::text AS about
  FROM teleop_session s WHERE s.id = $1
"""

# Several sessions with the same frames share their file.
REPLACED = """
SELECT a.frames_sha256, a.about_sha256,
       EXISTS (SELECT FROM session_archive other
                WHERE other.frames_sha256 = a.frames_sha256 AND other.session_id <> a.session_id) AS shared
  FROM session_archive a WHERE a.session_id = $1 AND a.dropped_at IS NULL FOR UPDATE
"""

NOTE_COPY = """
INSERT INTO session_archive (session_id, next_frame_index, frames, frames_sha256, frames_bytes,
                             about_sha256, account)
VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb)
ON CONFLICT (session_id) DO UPDATE
   SET next_frame_index = $2, frames = $3, frames_sha256 = $4, frames_bytes = $5, about_sha256 = $6,
       account = $7::jsonb, copied_at = now(), damage = NULL, edits = session_archive.edits + 1
 WHERE session_archive.dropped_at IS NULL
"""

# A session that has gone on since its copy was made is told with the next copy.
EDITED = """
SELECT a.session_id FROM session_archive a JOIN teleop_session s ON s.id = a.session_id
 WHERE a.noted_edits <> a.edits AND a.damage IS NULL AND a.next_frame_index = s.next_frame_index
   AND s.status <> 'recording' AND ($1::bigint IS NULL OR a.session_id = $1)
 ORDER BY a.session_id LIMIT $2
"""
LOCK_EDITS = "SELECT pg_advisory_xact_lock(7264981007)"
READ_EDITED = """
SELECT frames, frames_sha256, frames_bytes, about_sha256, account, next_frame_index, edits
  FROM session_archive WHERE session_id = $1
"""
NOTE_EDITS = """
UPDATE session_archive SET noted_edits = $2, about_sha256 = $3 WHERE session_id = $1 AND frames_sha256 = $4
"""

COPIES = """
SELECT session_id, frames, frames_sha256, frames_bytes, damage FROM session_archive
 WHERE session_id >= $1 * 1000 AND session_id < ($1 + 1) * 1000 AND dropped_at IS NULL
 ORDER BY session_id
"""

ARCHIVED_OF_PARTITION = """
SELECT session_id FROM session_archive
 WHERE session_id >= $1 * 1000 AND session_id < ($1 + 1) * 1000 AND dropped_at IS NOT NULL
 ORDER BY session_id
"""

# Locks this row, so that dropping the session's partition waits for it.
LOCK_SESSION = "SELECT FROM teleop_session WHERE id = $1 FOR UPDATE"
COUNT_FRAMES = "SELECT count(*) FROM teleop_frame WHERE session_id = $1"
NOTE_RESTORED = """
UPDATE session_archive SET dropped_at = NULL, restored_at = now(), damage = NULL WHERE session_id = $1
"""


class NotAccounted(Conflict):
    """The frames in the database do not match the session's ledger, so the session stays where it is."""

    code, retryable = "not_accounted", False


class StillInUse(Conflict):
    """The partition is used by somebody, or is not archived as it stands: it stays where it is."""

    code, retryable = "partition_in_use", True


@dataclass(frozen=True)
class EndedSession:
    """An ended session, as of one moment.

    columns  beyond state and action
    about    JSON object of its row, its episodes and their pauses, gaps, columns and marks
    account  the ledger's measurements of its frames
    """

    id: int
    robot_id: str
    next_frame_index: int
    state_width: int
    action_width: int
    columns: list[Column]
    about: str
    account: dict[str, Any]

    @property
    def frames(self) -> int:
        committed: int = self.account["committed"]
        return committed


@dataclass(frozen=True)
class EditedSession:
    """An archived session that was changed since.

    about         as in EndedSession, with at least those changes that `edits` counts
    account       likewise, of the frames in the copy
    about_sha256  what the archive has now
    """

    robot_id: str
    copied: Copied
    about: str
    account: dict[str, Any]
    about_sha256: str
    edits: int


async def try_lock(connection: Connection) -> bool:
    """Take the lock for archiving; True until `unlock`, or until the connection ends."""
    locked: bool = await connection.fetchval(TRY_LOCK, RETENTION_LOCK)
    return locked


async def hold_lock(connection: Connection) -> bool:
    """Take the same lock; True until the transaction ends."""
    held: bool = await connection.fetchval(HOLD_LOCK, RETENTION_LOCK)
    return held


async def unlock(connection: Connection) -> None:
    """Release the lock for archiving."""
    await connection.execute(UNLOCK, RETENTION_LOCK)


async def due(connection: Connection, age: timedelta, *, but_for_recording: bool = False) -> list[int]:
    """Partitions whose sessions have all ended, the last frame of each committed longer ago than `age`.

    but_for_recording  also partitions whose only open sessions have long been silent
    """
    return [row["part"] for row in await connection.fetch(DUE, age, but_for_recording)]


async def recording(connection: Connection, part: int) -> list[int]:
    """Sessions of a partition that have not ended."""
    return [row["id"] for row in await connection.fetch(RECORDING, part)]


async def not_copied(connection: Connection, part: int) -> list[int]:
    """Sessions of a partition without a copy of their current state."""
    return [row["id"] for row in await connection.fetch(NOT_COPIED, part)]


async def describe(connection: Connection, session_id: int) -> EndedSession:
    """The session; call it in a snapshot. Raises NotAccounted, StillInUse."""
    row = await connection.fetchrow(DESCRIBE, session_id)
    if row is None or row["status"] == "recording":
        raise StillInUse(f"session {session_id} is being recorded")
    watermark = row["next_frame_index"]
    account = dict((await measure_frames(connection, session_id)).told)
    in_all = await connection.fetchval(COUNT_FRAMES, session_id)
    # Each index below the watermark is a frame or a known gap, once; only then may the frames leave.
    if account["committed"] + row["missing"] != watermark or account["duplicates"] or in_all > watermark:
        raise NotAccounted(
            f"session {session_id} has {counted(watermark, 'frame')}, with {row['missing']} recorded as "
            f"missing; the database holds {in_all}"
        )
    return EndedSession(
        id=session_id,
        robot_id=row["robot_id"],
        next_frame_index=watermark,
        state_width=row["state_width"],
        action_width=row["action_width"],
        columns=await read_columns(connection, session_id),
        about=row["about"],
        account=account,
    )


async def note_copy(
    connection: Connection, session: EndedSession, copied: Copied, about_sha256: str
) -> set[str]:
    """Record a copy that has been compared with the database; returns the objects of the one that it
    replaces."""
    before = await connection.fetchrow(REPLACED, session.id)
    await connection.execute(
        NOTE_COPY,
        session.id,
        session.next_frame_index,
        copied.frames,
        copied.sha256,
        copied.size_bytes,
        about_sha256,
        msgspec.json.encode(session.account).decode(),
    )
    if before is None:
        return set()
    # What the new copy uses as well stays.
    replaced = {before["about_sha256"]} | (set() if before["shared"] else {before["frames_sha256"]})
    return replaced - {copied.sha256, about_sha256}


async def edited(connection: Connection, limit: int, session_id: int | None = None) -> list[int]:
    """Archived sessions, or the one of that number, with changes that the archive does not have yet."""
    return [row["session_id"] for row in await connection.fetch(EDITED, session_id, limit)]


async def lock_edits(connection: Connection) -> None:
    """Wait until nobody else writes changes to the archive; until the end of the transaction."""
    await connection.execute(LOCK_EDITS)


async def read_edited(connection: Connection, session_id: int) -> EditedSession | None:
    """The session; None if the archive has all of its changes, or it has gone on since it was copied."""
    if not await edited(connection, 1, session_id):
        return None
    archive = await connection.fetchrow(READ_EDITED, session_id)
    # After the number of changes: one that comes in between is written now, and once more.
    session = await connection.fetchrow(DESCRIBE, session_id)
    if archive is None or session is None or session["next_frame_index"] != archive["next_frame_index"]:
        return None
    return EditedSession(
        robot_id=session["robot_id"],
        copied=Copied(session_id, archive["frames"], archive["frames_sha256"], archive["frames_bytes"]),
        about=session["about"],
        account=msgspec.json.decode(archive["account"]),
        about_sha256=archive["about_sha256"],
        edits=archive["edits"],
    )


async def note_edits(connection: Connection, told: EditedSession, about_sha256: str) -> None:
    """Record that the archive has these changes."""
    copied = told.copied
    await connection.execute(NOTE_EDITS, copied.session_id, told.edits, about_sha256, copied.sha256)


async def copies(connection: Connection, part: int) -> list[Copied]:
    """Copies of a partition's sessions whose frames are still in the database."""
    return [Copied(*row) for row in await connection.fetch(COPIES, part)]


async def drop_partition(connection: Connection, part: int) -> int:
    """How many frames have left the database with their partition; raises StillInUse."""
    try:
        frames: int = await connection.fetchval("SELECT drop_frame_partition($1)", part)
    # The function refuses what is in use; a reader that holds the partition is as good a reason to wait.
    except (asyncpg.ObjectNotInPrerequisiteStateError, asyncpg.DeadlockDetectedError) as error:
        raise StillInUse(str(error)) from error
    return frames


async def archived_of(connection: Connection, part: int) -> list[int]:
    """Sessions of a partition whose frames have left the database."""
    return [row["session_id"] for row in await connection.fetch(ARCHIVED_OF_PARTITION, part)]


async def claim_for_restore(connection: Connection, session_id: int) -> Copied:
    """The copy of a session, locked until the transaction ends. Raises NotFound."""
    await connection.execute(LOCK_SESSION, session_id)
    found = await archived_copy(connection, session_id)
    if found is None:
        raise NotFound(f"no frames of session {session_id} have left the database", field="session_id")
    await ensure_partition(connection, session_id)
    return found


async def note_restored(connection: Connection, copied: Copied) -> None:
    """Record that all frames are in the database again; raises NotAccounted if they are not."""
    stored = await connection.fetchval(COUNT_FRAMES, copied.session_id)
    if stored != copied.frames:
        raise NotAccounted(
            f"session {copied.session_id} would have {counted(stored, 'frame')}, but its archive has "
            f"{copied.frames}"
        )
    await connection.execute(NOTE_RESTORED, copied.session_id)
