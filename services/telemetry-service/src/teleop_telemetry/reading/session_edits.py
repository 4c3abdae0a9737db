"""Changes that people make to sessions."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, Struct
from teleop_runtime.postgres.erasing import lacking_session
from teleop_runtime.postgres.pool import Pool, connected, transaction
from teleop_schema.errors import SessionArchived

from teleop_telemetry.tables.lost_copies import archived_copy, take_again
from teleop_telemetry.tables.told import stripped, stripped_all
from teleop_telemetry.tables.views import SessionChange

# Waits for one row, to which its robot may be writing.
EDIT_TIMEOUT_S = 10.0

# Of one session, the newest ones; the archive keeps them all in one document.
MAX_KEPT = 200

TO_CHANGE = """
SELECT task, tags, note, operator FROM teleop_session WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE
"""
# Its note in the store is written again: a new database may find the session by that alone.
CHANGE_SESSION = """
UPDATE teleop_session SET task = $2, tags = $3, note = $4, operator = $5, noted_at = NULL WHERE id = $1
"""
NOTE = """
INSERT INTO session_change (session_id, revision, changed_by, before, after)
SELECT $1, coalesce(max(revision), 0) + 1, $2, $3::jsonb, $4::jsonb FROM session_change WHERE session_id = $1
RETURNING revision
"""
FORGET = "DELETE FROM session_change WHERE session_id = $1 AND revision <= $2"
HISTORY = """
SELECT to_jsonb(c) - 'session_id' FROM session_change c
 WHERE session_id = $1 ORDER BY revision DESC LIMIT $2
"""
IS_SESSION = "SELECT EXISTS (SELECT FROM teleop_session WHERE id = $1 AND deleted_at IS NULL)"

DELETE_SESSION = """
UPDATE teleop_session SET deleted_at = now() WHERE id = $1 AND deleted_at IS NULL RETURNING id
"""

LOCK_SESSION = "SELECT status FROM teleop_session WHERE id = $1 AND deleted_at IS NULL FOR UPDATE"

# Frames that only the store knows of are above the watermark, so their robot may still send them.
RAISE_WATERMARK = """
UPDATE teleop_session SET next_frame_index = greatest(next_frame_index, logged_frames)
 WHERE id = $1 AND found_at IS NOT NULL
"""

# Below the watermark: ranges with neither a frame nor a gap.
NAME_MISSING = """
INSERT INTO frame_gap (session_id, first_frame, end_frame, reason)
SELECT $1, reached, first_frame, $2
  FROM (SELECT first_frame,
               max(end_frame) OVER (ORDER BY first_frame, end_frame
                                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached
          FROM (SELECT frame_index AS first_frame, frame_index + 1 AS end_frame
                  FROM teleop_frame f JOIN teleop_session s ON s.id = f.session_id
                 WHERE f.session_id = $1 AND frame_index < s.next_frame_index
                 UNION ALL
                SELECT first_frame, end_frame FROM frame_gap WHERE session_id = $1
                 UNION ALL
                SELECT next_frame_index, next_frame_index FROM teleop_session WHERE id = $1
                 UNION ALL
                SELECT 0, 0) AS known) AS steps
 WHERE first_frame > reached
RETURNING end_frame - first_frame AS frames
"""


class SessionHistory(Struct, kw_only=True):
    """One change that somebody made of a session.

    revision    counts the changes, from 1
    changed_at  when, by the server's clock
    changed_by  the name of who made it
    before      what was changed, with what it was
    after       the same, with what it became
    """

    revision: int
    changed_at: datetime
    changed_by: str
    before: dict[str, Any]
    after: dict[str, Any]


class SessionEdits:
    """Writes a person's changes; each call is one transaction."""

    def __init__(self, pool: Pool, edited: Callable[[int], Awaitable[None]] | None = None) -> None:
        """`edited` is called after each change, with the number of the session. It never raises."""
        self._pool = pool
        self._edited = edited

    async def change_session(self, session_id: int, change: SessionChange, by: str) -> None:
        """Raises SessionNotFound, SessionErased."""
        async with transaction(self._pool, timeout_s=EDIT_TIMEOUT_S) as connection:
            row = await connection.fetchrow(TO_CHANGE, session_id)
            if row is None:
                raise await lacking_session(connection, session_id)
            stored = dict(row)
            told = _changed(stored, change)
            names = [name for name in stored if told[name] != stored[name]]
            if not names:
                return
            await connection.execute(CHANGE_SESSION, session_id, *told.values())
            before, after = (_json({name: each[name] for name in names}) for each in (stored, told))
            revision = await connection.fetchval(NOTE, session_id, by, before, after)
            await connection.execute(FORGET, session_id, revision - MAX_KEPT)
        await self._tell(session_id)

    async def history(self, session_id: int) -> list[SessionHistory]:
        """What people changed, newest first, at most MAX_KEPT; raises SessionNotFound, SessionErased."""
        async with connected(self._pool, timeout_s=EDIT_TIMEOUT_S) as connection:
            if not await connection.fetchval(IS_SESSION, session_id):
                raise await lacking_session(connection, session_id)
            rows = await connection.fetch(HISTORY, session_id, MAX_KEPT)
        return [msgspec.json.decode(row[0], type=SessionHistory) for row in rows]

    async def delete_session(self, session_id: int) -> None:
        """Hide a session; raises SessionNotFound, also if it is deleted already, and SessionErased."""
        async with connected(self._pool, timeout_s=EDIT_TIMEOUT_S) as connection:
            if await connection.fetchval(DELETE_SESSION, session_id) is None:
                raise await lacking_session(connection, session_id)
        await self._tell(session_id)

    async def give_up_missing(self, session_id: int, reason: str) -> int:
        """Name the frames that nobody has accounted for as lost, for that reason; how many there were.

        Of a session that the archive has lost, these are all. Raises SessionNotFound, SessionErased,
        SessionArchived.
        """
        async with transaction(self._pool, timeout_s=EDIT_TIMEOUT_S) as connection:
            status = await connection.fetchval(LOCK_SESSION, session_id)
            if status is None:
                raise await lacking_session(connection, session_id)
            if archived := await archived_copy(connection, session_id):
                if archived.damage is None:
                    raise SessionArchived(f"frames of session {session_id} have left the database")
                await take_again(connection, session_id, status)
            await connection.execute(RAISE_WATERMARK, session_id)
            rows = await connection.fetch(NAME_MISSING, session_id, reason)
        return sum(row["frames"] for row in rows)

    async def _tell(self, session_id: int) -> None:
        if self._edited is not None:
            await self._edited(session_id)


def _changed(stored: Mapping[str, Any], change: SessionChange) -> dict[str, Any]:
    """The columns of `stored`, in their order, as they are after the change."""
    told = dict(stored)
    for name in ("task", "note", "operator"):
        if (value := getattr(change, name)) is not UNSET:
            told[name] = stripped(value)
    if change.tags is not UNSET:
        told["tags"] = stripped_all(change.tags)
    return told


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
