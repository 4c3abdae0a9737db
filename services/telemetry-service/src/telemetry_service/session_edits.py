"""What people change of sessions and episodes."""

from msgspec import UNSET
from teleop_runtime.database import Pool
from teleop_schema.errors import BadInput, NotFound

from telemetry_service.views import EpisodeChange, EpisodeView, SessionChange

CHANGE_SESSION = """
UPDATE teleop_session
   SET task = CASE WHEN $2 THEN $3 ELSE task END,
       tags = CASE WHEN $4 THEN $5::text[] ELSE tags END,
       note = CASE WHEN $6 THEN $7 ELSE note END
 WHERE id = $1 AND deleted_at IS NULL RETURNING id
"""

CHANGE_EPISODE = """
UPDATE episode e
   SET task = CASE WHEN $3 THEN $4 ELSE e.task END,
       outcome = CASE WHEN $5 THEN $6 ELSE e.outcome END,
       note = CASE WHEN $7 THEN $8 ELSE e.note END,
       start_frame = coalesce($9, e.start_frame),
       end_frame = coalesce($10, e.end_frame)
  FROM teleop_session s
 WHERE s.id = e.session_id AND s.deleted_at IS NULL AND e.session_id = $1 AND e.episode_index = $2
RETURNING e.*, s.next_frame_index
"""


class SessionEdits:
    """Writes what a person asked for; each call is one transaction."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def change_session(self, session_id: int, change: SessionChange) -> None:
        """Raises NotFound."""
        changed = await self._pool.fetchval(
            CHANGE_SESSION,
            session_id,
            *(change.task is not UNSET, change.task or None),
            *(change.tags is not UNSET, change.tags or []),
            *(change.note is not UNSET, change.note or None),
        )
        if changed is None:
            raise NotFound(f"there is no session {session_id}", field="session_id")

    async def delete_session(self, session_id: int) -> None:
        """Raises NotFound, also for what is deleted already."""
        deleted = await self._pool.fetchval(
            "UPDATE teleop_session SET deleted_at = now() WHERE id = $1 AND deleted_at IS NULL RETURNING id",
            session_id,
        )
        if deleted is None:
            raise NotFound(f"there is no session {session_id}", field="session_id")

    async def change_episode(self, session_id: int, episode_index: int, change: EpisodeChange) -> EpisodeView:
        """The changed episode; raises NotFound, or BadInput if its bounds make no sense."""
        if not 0 <= episode_index < 2**31:
            raise NotFound(f"there is no episode {episode_index}", field="episode_index")
        bounds = [None if bound is UNSET else bound for bound in (change.start_frame, change.end_frame)]
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(
                CHANGE_EPISODE,
                session_id,
                episode_index,
                *(change.task is not UNSET, change.task or None),
                *(change.outcome is not UNSET, change.outcome or None),
                *(change.note is not UNSET, change.note or None),
                *bounds,
            )
            if row is None:
                raise NotFound(f"session {session_id} has no episode {episode_index}", field="episode_index")
            end = row["next_frame_index"] if row["end_frame"] is None else row["end_frame"]
            if not 0 <= row["start_frame"] <= end <= row["next_frame_index"]:
                raise BadInput(
                    f"episode would hold frames {row['start_frame']} to {end}, "
                    f"the session has 0 to {row['next_frame_index']}",
                    field="end_frame",
                )
        return EpisodeView(**{name: row[name] for name in EpisodeView.__struct_fields__})
