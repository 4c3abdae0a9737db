"""Counts what is stored of each session that has ended, and says so if a frame is not accounted for."""

import asyncio

from teleop_runtime.database import Pool, connected
from teleop_runtime.logs import get_logger

from telemetry_service.metrics import FRAMES_UNACCOUNTED, SESSIONS_AUDITED

log = get_logger(__name__)

# Sessions that end while so many wait are not looked at; their ledgers tell the same when somebody asks.
MAX_WAITING = 1000
AUDIT_TIMEOUT_S = 120.0

UNACCOUNTED = """
SELECT s.next_frame_index
       - (SELECT coalesce(sum(g.end_frame - g.first_frame), 0) FROM frame_gap g WHERE g.session_id = s.id)
       - (SELECT count(*) FROM teleop_frame f
           WHERE f.session_id = s.id AND f.frame_index < s.next_frame_index)
  FROM teleop_session s WHERE s.id = $1
"""


class Audit:
    """Looks at ended sessions one after the other, off the way of frames."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._ended: asyncio.Queue[int] = asyncio.Queue(MAX_WAITING)

    def note(self, session_id: int) -> None:
        """The session has ended."""
        if not self._ended.full():
            self._ended.put_nowait(session_id)

    async def run(self) -> None:
        """Audit until cancelled."""
        while True:
            session_id = await self._ended.get()
            try:
                await self.audit(session_id)
            except Exception as error:
                log.warning("a session could not be audited", session=session_id, error=repr(error))

    async def audit(self, session_id: int) -> None:
        """Count the session's frames, those that are neither stored nor named as missing above all."""
        async with connected(self._pool, timeout_s=AUDIT_TIMEOUT_S) as connection:
            unaccounted = int(await connection.fetchval(UNACCOUNTED, session_id))
        SESSIONS_AUDITED.inc()
        if unaccounted:
            FRAMES_UNACCOUNTED.inc(abs(unaccounted))
            log.error("frames are not accounted for", session=session_id, frames=unaccounted)
