"""Rows of `episode_look` and `episode_flag`: which episodes are to be looked at, and what was found."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from teleop_runtime.postgres.pool import Connection, Pool, connected, transaction

from teleop_telemetry.suspicion.history import MOST_HISTORY, Digest
from teleop_telemetry.suspicion.measurement import Measurement
from teleop_telemetry.suspicion.measuring import Flag
from teleop_telemetry.suspicion.peers import LEAST_PEERS, MOST_PEERS, EpisodeKey

TIMEOUT_S = 30.0
# A look takes some milliseconds. Whoever has not finished one after this time has died.
LEASE_S = 60.0
# Due again after a change of thresholds or of the measurements, per step, so that no robot waits for a row.
MARK_TOGETHER = 500
# Recordings of the same thing differ in length by less than this share.
ALIKE_LENGTH = 0.02
SUSPICION_UNIT = 100

# Newest first, so that what is being recorded does not wait for all that was recorded before.
CLAIM = """
UPDATE episode_look l
   SET due_at = now() + make_interval(secs => $1), attempts = least(l.attempts + 1, 100)
  FROM (SELECT d.session_id, d.episode_index
          FROM episode_look d
          JOIN episode e USING (session_id, episode_index)
          JOIN teleop_session s ON s.id = d.session_id
         WHERE d.due_at <= now() AND e.end_frame IS NOT NULL AND s.deleted_at IS NULL
         ORDER BY d.session_id DESC, d.episode_index DESC LIMIT 1 FOR UPDATE OF d SKIP LOCKED) AS due,
       episode e, teleop_session s LEFT JOIN session_archive a ON a.session_id = s.id
 WHERE l.session_id = due.session_id AND l.episode_index = due.episode_index AND s.id = due.session_id
   AND e.session_id = due.session_id AND e.episode_index = due.episode_index
RETURNING l.due_at, jsonb_build_object(
    'session_id', l.session_id, 'episode_index', l.episode_index, 'attempts', l.attempts,
    'start_frame', e.start_frame, 'end_frame', e.end_frame, 'task', coalesce(e.task, s.task),
    'robot_type', s.robot_type, 'fps', s.fps, 'state_names', s.state_names, 'action_names', s.action_names,
    'archived', a.dropped_at IS NOT NULL, 'first', l.looked_at IS NULL,
    'pauses', (SELECT coalesce(jsonb_agg(jsonb_build_array(p.first_frame, p.end_frame)
                                         ORDER BY p.first_frame), '[]')
                 FROM episode_pause p
                WHERE p.session_id = l.session_id AND p.episode_index = l.episode_index),
    'measured', CASE WHEN l.basis >> 32 = $2 AND l.start_frame = e.start_frame AND l.end_frame = e.end_frame
                     THEN l.measured END,
    'digest', CASE WHEN l.basis >> 32 = $2 AND l.start_frame = e.start_frame AND l.end_frame = e.end_frame
                   THEN l.digest END) AS look
"""

# Those of the same robots at the same rate, the latest; only digests that this version understands.
HISTORY = """
SELECT l.digest FROM episode_look l
 WHERE l.robot_type = $1 AND l.fps = $2 AND l.digest->'names' = $3::jsonb
   AND (l.session_id, l.episode_index) <> ($4, $5::int) AND l.basis >> 32 = $7
 ORDER BY l.session_id DESC, l.episode_index DESC LIMIT $6
"""
OF_TASK = """
SELECT l.digest FROM episode_look l
  JOIN episode e USING (session_id, episode_index)
  JOIN teleop_session s ON s.id = l.session_id AND s.deleted_at IS NULL
 WHERE l.robot_type = $1 AND l.task IS NOT DISTINCT FROM $2 AND l.digest IS NOT NULL
   AND e.outcome IS DISTINCT FROM 'discarded' AND (l.session_id, l.episode_index) <> ($3, $4::int)
   AND l.basis >> 32 = $6
 ORDER BY l.session_id DESC, l.episode_index DESC LIMIT $5
"""
AS_LONG = """
SELECT l.session_id, l.episode_index, l.digest FROM episode_look l
  JOIN teleop_session s ON s.id = l.session_id AND s.deleted_at IS NULL
 WHERE l.robot_type = $1 AND l.duration_s BETWEEN $2 AND $3
   AND (l.session_id, l.episode_index) <> ($4, $5::int) AND l.basis >> 32 = $7
 ORDER BY l.session_id DESC, l.episode_index DESC LIMIT $6
"""

# Not if it has become due again meanwhile, or somebody else has begun.
KEEP = """
UPDATE episode_look
   SET due_at = NULL, attempts = 0, looked_at = now(), basis = $4, start_frame = $5, end_frame = $6,
       robot_type = $7, fps = $8, task = $9, duration_s = $10, measured = $11::jsonb, digest = $12::jsonb,
       suspicion = $13
 WHERE session_id = $1 AND episode_index = $2 AND due_at = $3
RETURNING true
"""
FORGET_FLAGS = "DELETE FROM episode_flag WHERE session_id = $1 AND episode_index = $2"
KEEP_FLAG = """
INSERT INTO episode_flag (session_id, episode_index, number, flag, joint, first_frame, end_frame, value,
                          threshold, other_session, other_episode)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""
PUT_OFF = """
UPDATE episode_look SET due_at = now() + make_interval(secs => $4)
 WHERE session_id = $1 AND episode_index = $2 AND due_at = $3
"""

# Whoever waits for a row here holds others, so rows that somebody has locked are left to the next step.
MARK_OLD = """
UPDATE episode_look l SET due_at = now()
  FROM (SELECT session_id, episode_index FROM episode_look
         WHERE basis < $1 AND due_at IS NULL LIMIT $2 FOR UPDATE SKIP LOCKED) AS old
 WHERE l.session_id = old.session_id AND l.episode_index = old.episode_index
"""
IN_TASK = "SELECT count(*) FROM episode_look WHERE robot_type = $1 AND task IS NOT DISTINCT FROM $2"
MARK_TASK = """
UPDATE episode_look l SET due_at = now()
  FROM (SELECT session_id, episode_index FROM episode_look
         WHERE robot_type = $1 AND task IS NOT DISTINCT FROM $2 AND due_at IS NULL
           FOR UPDATE SKIP LOCKED) AS mates
 WHERE l.session_id = mates.session_id AND l.episode_index = mates.episode_index
   AND (l.session_id, l.episode_index) <> ($3, $4::int)
"""
MARK_ONE = """
UPDATE episode_look l SET due_at = now()
  FROM (SELECT session_id, episode_index FROM episode_look
         WHERE session_id = $1 AND episode_index = $2 AND due_at IS NULL FOR UPDATE SKIP LOCKED) AS one
 WHERE l.session_id = one.session_id AND l.episode_index = one.episode_index
"""


class Look(Struct, frozen=True, kw_only=True):
    """An episode that is to be looked at, and what is known of it.

    attempts  looks that were begun since something changed, this one included
    first     whether nobody has looked at it yet
    archived  whether its frames have left the database
    measured  what was measured before of the same frames in the same way; None: it is to be measured
    """

    session_id: int
    episode_index: int
    attempts: int
    start_frame: int
    end_frame: int
    task: str | None
    robot_type: str
    fps: float
    state_names: list[str]
    action_names: list[str]
    archived: bool
    first: bool
    pauses: list[tuple[int, int]]
    measured: list[Measurement] | None
    digest: Digest | None

    @property
    def key(self) -> EpisodeKey:
        return self.session_id, self.episode_index


class LookTable:
    """Reads and writes looks."""

    def __init__(self, pool: Pool, rules: int) -> None:
        """`rules`: version of the measurements; what others have measured is not read."""
        self._pool = pool
        self._rules = rules

    async def mark_old(self, basis: int) -> None:
        """Let some of those be looked at again that were looked at otherwise."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            await connection.execute(MARK_OLD, basis, MARK_TOGETHER)

    async def claim(self) -> tuple[datetime, Look] | None:
        """The next episode, which nobody else looks at for LEASE_S, and until when; None: none is due."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            row = await connection.fetchrow(CLAIM, LEASE_S, self._rules)
        return None if row is None else (row["due_at"], msgspec.json.decode(row["look"], type=Look))

    async def history(self, look: Look, names: Sequence[str]) -> list[Digest]:
        """Of other episodes of the robot type with these signals, the latest ones."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            rows = await connection.fetch(
                HISTORY, look.robot_type, look.fps, _json(names), *look.key, MOST_HISTORY, self._rules
            )
        return [msgspec.json.decode(row["digest"], type=Digest) for row in rows]

    async def peers(self, look: Look) -> list[Digest]:
        """Of other episodes of its task."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            rows = await connection.fetch(
                OF_TASK, look.robot_type, look.task, *look.key, MOST_PEERS, self._rules
            )
        return [msgspec.json.decode(row["digest"], type=Digest) for row in rows]

    async def as_long(self, look: Look, duration_s: float) -> dict[EpisodeKey, Digest]:
        """Of other episodes of robots of its type, about as long."""
        around = duration_s * (1 - ALIKE_LENGTH), duration_s * (1 + ALIKE_LENGTH)
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            rows = await connection.fetch(
                AS_LONG, look.robot_type, *around, *look.key, MOST_PEERS, self._rules
            )
        return {(row[0], row[1]): msgspec.json.decode(row[2], type=Digest) for row in rows}

    async def keep(
        self,
        look: Look,
        until: datetime,
        *,
        basis: int,
        measured: Sequence[Measurement],
        digest: Digest | None,
        flags: Sequence[Flag],
        suspicion: float,
        again: Sequence[EpisodeKey],
    ) -> bool:
        """Store what was found, unless the episode has become due again meanwhile; whether it was stored.

        until  as of `claim`
        again  other episodes that are to be looked at again, because of this one
        """
        async with transaction(self._pool, timeout_s=TIMEOUT_S) as connection:
            kept = await connection.fetchval(
                KEEP,
                *look.key,
                until,
                basis,
                look.start_frame,
                look.end_frame,
                look.robot_type,
                look.fps,
                look.task,
                None if digest is None else digest.duration_s,
                _json(measured),
                None if digest is None else _json(digest),
                round(SUSPICION_UNIT * suspicion),
            )
            if not kept:
                return False
            await connection.execute(FORGET_FLAGS, *look.key)
            rows = [_row(look, number, flag) for number, flag in enumerate(flags)]
            await connection.executemany(KEEP_FLAG, rows)
            await _mark(connection, look, again)
        return True

    async def put_off(self, look: Look, until: datetime, seconds: float) -> None:
        """Look at it later."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            await connection.execute(PUT_OFF, *look.key, until, seconds)


async def _mark(connection: Connection, look: Look, again: Sequence[EpisodeKey]) -> None:
    """Once there are enough others of its task, and whenever they have doubled, all of them are compared
    again, so that it makes little difference in which order they came."""
    for key in again:
        await connection.execute(MARK_ONE, *key)
    if look.first:
        others = await connection.fetchval(IN_TASK, look.robot_type, look.task) - 1
        times, rest = divmod(others, LEAST_PEERS)
        if times and not rest and not times & (times - 1):
            await connection.execute(MARK_TASK, look.robot_type, look.task, *look.key)


def _row(look: Look, number: int, flag: Flag) -> tuple[Any, ...]:
    told = flag.measurement
    other = told.other or (None, None)
    where = told.joint, told.first_frame, told.end_frame
    return *look.key, number, told.flag, *where, told.value, flag.threshold, *other


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
