"""The ledger's measurements of a session's frames, kept for as long as they are true.

Frames below a session's watermark never change. An account is therefore true as long as the watermark and the
time of the last commit are the same as when it was measured. The database notices changes to frames by hand.
Gaps, refusals and video are not part of it, because they are few and read each time. Every function works on
its caller's connection, in its snapshot.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from teleop_runtime.postgres.pool import Connection

from teleop_telemetry.frames.intervals import Intervals

# Per query, so that what comes is a few MiB and takes the event loop a few ms. By frames, not by their
# indexes: gaps may claim any number of these. WITH TIES, so that no duplicate is lost between two blocks.
BLOCK_FRAMES = 200_000
# The times go to `Intervals` as they are: window functions and sorts of PostgreSQL took 2.6 times as long.
BLOCK = """
SELECT string_agg(int8send(frame_index), '' ORDER BY frame_index) AS index,
       string_agg(timestamptz_send("timestamp"), '' ORDER BY frame_index) AS time_us,
       count(observation_age_us) AS repeated,
       count(*) FILTER (WHERE state && '{NaN,Infinity,-Infinity}' OR action && '{NaN,Infinity,-Infinity}')
       AS not_finite
  FROM (SELECT frame_index, "timestamp", observation_age_us, state, action FROM teleop_frame
         WHERE session_id = $1 AND frame_index > $2 AND frame_index < $3
         ORDER BY frame_index FETCH FIRST $4 ROWS WITH TIES) block
"""
# From the future: as of the last commit, so that what was measured is not another thing tomorrow.
LATEST = "SELECT timestamptz_send(coalesce($1::timestamptz, now()) + interval '1 day')"

NOT_FINITE = """
SELECT told.name, count(*) AS frames
  FROM teleop_session s
  JOIN teleop_frame f ON f.session_id = s.id
 CROSS JOIN LATERAL (
       SELECT 'observation.' || n AS name, v FROM unnest(s.state_names, f.state) AS state(n, v)
       UNION ALL
       SELECT 'action.' || n, v FROM unnest(s.action_names, f.action) AS action(n, v)) told
 WHERE s.id = $1 AND f.frame_index < $2
   AND (f.state && '{NaN,Infinity,-Infinity}' OR f.action && '{NaN,Infinity,-Infinity}')
   AND told.v = ANY('{NaN,Infinity,-Infinity}')
 GROUP BY told.name ORDER BY told.name
"""

STAND = "SELECT next_frame_index, last_commit_at, frames_changed_at FROM teleop_session WHERE id = $1"
KEPT = """
SELECT account FROM session_account
 WHERE session_id = $1 AND next_frame_index = $2 AND last_commit_at IS NOT DISTINCT FROM $3
   AND frames_changed_at IS NOT DISTINCT FROM $4
"""
# Does nothing if frames have arrived meanwhile.
KEEP = """
INSERT INTO session_account (session_id, next_frame_index, last_commit_at, frames_changed_at, account)
SELECT id, next_frame_index, last_commit_at, frames_changed_at, $5::jsonb FROM teleop_session
 WHERE id = $1 AND next_frame_index = $2 AND last_commit_at IS NOT DISTINCT FROM $3
   AND frames_changed_at IS NOT DISTINCT FROM $4 AND status <> 'recording'
ON CONFLICT (session_id) DO UPDATE
   SET next_frame_index = EXCLUDED.next_frame_index, last_commit_at = EXCLUDED.last_commit_at,
       frames_changed_at = EXCLUDED.frames_changed_at, account = EXCLUDED.account
"""


class Stand(NamedTuple):
    """The state for which an account is true: the session's watermark, its last commit,
    and changes by hand."""

    frames: int
    committed_at: datetime | None
    changed_at: datetime | None


class FrameAccount(NamedTuple):
    """The ledger's measurements of a session's frames at that time."""

    session_id: int
    stand: Stand
    told: Mapping[str, Any]
    kept: bool = False


async def measure_frames(connection: Connection, session_id: int) -> FrameAccount:
    """Of the session's frames below its watermark, of those that are in the database."""
    return await _measure(connection, session_id, await _stand(connection, session_id))


async def account_frames(connection: Connection, session_id: int) -> FrameAccount:
    """The same; measured only if it is not stored yet."""
    stand = await _stand(connection, session_id)
    kept = await connection.fetchval(KEPT, session_id, *stand)
    if kept is None:
        return await _measure(connection, session_id, stand)
    return FrameAccount(session_id, stand, msgspec.json.decode(kept), kept=True)


async def keep(connection: Connection, account: FrameAccount) -> None:
    """Store an account, if the session has ended and has not changed since."""
    if not account.kept:
        told = msgspec.json.encode(account.told).decode()
        await connection.execute(KEEP, account.session_id, *account.stand, told)


async def _stand(connection: Connection, session_id: int) -> Stand:
    row = await connection.fetchrow(STAND, session_id)
    assert row is not None  # noqa: S101
    return Stand(*row)


async def _measure(connection: Connection, session_id: int, stand: Stand) -> FrameAccount:
    [latest_us] = _integers(await connection.fetchval(LATEST, stand.committed_at)).tolist()
    intervals, repeated, not_finite = Intervals(latest_us), 0, 0
    last, more = -1, True
    while more:
        row = await connection.fetchrow(BLOCK, session_id, last, stand.frames, BLOCK_FRAMES)
        assert row is not None  # noqa: S101
        index = _integers(row["index"] or b"")
        if more := len(index) >= BLOCK_FRAMES:
            last = int(index[-1])
        if len(index):
            intervals.add(index, _integers(row["time_us"]))
        repeated += row["repeated"]
        not_finite += row["not_finite"]
    rows = await connection.fetch(NOT_FINITE, session_id, stand.frames) if not_finite else []
    told = {
        **intervals.told(),
        "repeated_observations": repeated,
        "not_finite": {row["name"]: row["frames"] for row in rows},
    }
    return FrameAccount(session_id, stand, told)


def _integers(sent: bytes) -> NDArray[np.int64]:
    """Numbers as PostgreSQL sends them: 8 bytes each, the highest first."""
    return np.frombuffer(sent, ">i8").astype(np.int64)
