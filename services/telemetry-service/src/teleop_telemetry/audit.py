"""Counts what is stored of each session that has ended, and says so if a frame is not accounted for.

Of long ones it keeps what the ledger tells.
"""

import asyncio

from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.pool import Pool, connected, transaction

from teleop_telemetry.metrics import FRAMES_UNACCOUNTED, SESSIONS_AUDITED
from teleop_telemetry.tables.frame_accounts import account_frames, keep

log = get_logger(__name__)

# Sessions that end while so many wait are not looked at; their ledgers tell the same when somebody asks.
MAX_WAITING = 1000
# It counts every frame of a session.
AUDIT_TIMEOUT_S = 120.0
# Half an hour at 60 Hz. What the ledger of a shorter session tells is measured when somebody asks, in less
# than half a second; of a longer one it is measured here, 4 us a frame, so that nobody has to wait for it.
LONG_FRAMES = 100_000

UNACCOUNTED = """
SELECT s.next_frame_index,
       s.next_frame_index
       - (SELECT coalesce(sum(g.end_frame - g.first_frame), 0)::bigint
            FROM frame_gap g WHERE g.session_id = s.id)
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
            row = await connection.fetchrow(UNACCOUNTED, session_id)
            assert row is not None  # noqa: S101
            frames, unaccounted = row
        SESSIONS_AUDITED.inc()
        if unaccounted:
            FRAMES_UNACCOUNTED.inc(abs(unaccounted))
            log.error("frames are not accounted for", session=session_id, frames=unaccounted)
        if frames >= LONG_FRAMES:
            async with transaction(self._pool, timeout_s=AUDIT_TIMEOUT_S, snapshot=True) as connection:
                account = await account_frames(connection, session_id)
            async with connected(self._pool, timeout_s=AUDIT_TIMEOUT_S) as connection:
                await keep(connection, account)
