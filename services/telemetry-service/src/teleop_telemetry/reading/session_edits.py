"""Changes that people make to sessions."""

from collections.abc import Awaitable, Callable

from msgspec import UNSET
from teleop_runtime.postgres.erasing import lacking_session
from teleop_runtime.postgres.pool import Pool, connected, transaction
from teleop_schema.errors import SessionArchived

from teleop_telemetry.tables.lost_copies import archived_copy, take_again
from teleop_telemetry.tables.views import SessionChange

# Waits for one row, to which its robot may be writing.
EDIT_TIMEOUT_S = 10.0

CHANGE_SESSION = """
UPDATE teleop_session
   SET task = CASE WHEN $2 THEN $3 ELSE task END,
       tags = CASE WHEN $4 THEN $5::text[] ELSE tags END,
       note = CASE WHEN $6 THEN $7 ELSE note END,
       operator = CASE WHEN $8 THEN $9 ELSE operator END
 WHERE id = $1 AND deleted_at IS NULL RETURNING id
"""

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


class SessionEdits:
    """Writes a person's changes; each call is one transaction."""

    def __init__(self, pool: Pool, edited: Callable[[int], Awaitable[None]] | None = None) -> None:
        """`edited` is called after each change, with the number of the session. It never raises."""
        self._pool = pool
        self._edited = edited

    async def change_session(self, session_id: int, change: SessionChange) -> None:
        """Raises SessionNotFound, SessionErased."""
        async with connected(self._pool, timeout_s=EDIT_TIMEOUT_S) as connection:
            changed = await connection.fetchval(
                CHANGE_SESSION,
                session_id,
                *(change.task is not UNSET, change.task or None),
                *(change.tags is not UNSET, change.tags or []),
                *(change.note is not UNSET, change.note or None),
                *(change.operator is not UNSET, change.operator or None),
            )
            if changed is None:
                raise await lacking_session(connection, session_id)
        await self._tell(session_id)

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
