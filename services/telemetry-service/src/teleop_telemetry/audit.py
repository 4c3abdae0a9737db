"""Counts the stored frames of each ended session, and reports frames that are not accounted for.

For long sessions it keeps the ledger's measurements.
"""

import asyncio

from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.pool import Pool, connected, transaction

from teleop_telemetry.metrics import FRAMES_UNACCOUNTED, SESSIONS_AUDITED
from teleop_telemetry.tables.frame_accounts import account_frames, keep

log = get_logger(__name__)

# Further sessions that end while this many wait are skipped; their ledgers say the same when somebody asks.
MAX_WAITING = 1000
# Time limit of a query that counts every frame of a session.
AUDIT_TIMEOUT_S = 120.0
# Half an hour at 60 Hz. A shorter session is measured when somebody asks for its ledger, in less than half a
# second. A longer one is measured here, at 4 us per frame, so that nobody has to wait for it.
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
    """Audits ended sessions one after the other, without slowing down frames."""

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
        """Count the session's frames, above all those that are neither stored nor in a gap."""
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
