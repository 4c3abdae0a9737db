"""Changes that people make to episodes: each is kept with who made it, and can be taken back."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import asyncpg
import msgspec
from msgspec import UNSET, Struct, UnsetType, structs
from teleop_runtime.postgres.erasing import lacking_session
from teleop_runtime.postgres.pool import Connection, Pool, connected, transaction
from teleop_schema.errors import EpisodeChanged, NotFound, NothingToUndo

from teleop_telemetry.library.judging import COLUMNS, Judged, changed, differences, taken_back
from teleop_telemetry.library.reason_table import read_reasons
from teleop_telemetry.tables.event_rows import read_episode
from teleop_telemetry.tables.views import EpisodeChange, EpisodeView

# Waits for one row, to which its robot may be writing.
TIMEOUT_S = 10.0
# Of one episode, the newest ones; a person makes some. The archive keeps them all in one document.
MAX_KEPT = 200

IS_SESSION = "SELECT EXISTS (SELECT FROM teleop_session WHERE id = $1 AND deleted_at IS NULL)"

LOCK = """
SELECT to_jsonb(e) AS episode, e.told_revision,
       greatest(s.next_frame_index, CASE WHEN s.found_at IS NOT NULL THEN s.logged_frames END) AS frames,
       s.status = 'recording'
       AND NOT EXISTS (SELECT FROM episode n
                        WHERE n.session_id = e.session_id AND n.start_frame > e.start_frame) AS goes_on
  FROM episode e JOIN teleop_session s ON s.id = e.session_id
 WHERE s.deleted_at IS NULL AND e.session_id = $1 AND e.episode_index = $2
   FOR UPDATE OF e
"""

# The whole of a session that has ended without any, as of now.
HAVE_WHOLE = """
INSERT INTO episode (session_id, episode_index, start_frame, end_frame, end_told, whole)
SELECT e.session_id, e.episode_index, e.start_frame, e.end_frame, false, true
  FROM every_episode e JOIN teleop_session s ON s.id = e.session_id
 WHERE e.session_id = $1 AND e.episode_index = $2 AND s.deleted_at IS NULL
ON CONFLICT DO NOTHING
"""

NEWEST = """
SELECT revision, changed_at, changed_by, after FROM episode_change
 WHERE session_id = $1 AND episode_index = $2 ORDER BY revision DESC LIMIT 1
"""

# Only while the row is locked, so that nothing that its robot tells meanwhile is written over.
CHANGE = """
UPDATE episode e
   SET start_frame = told.start_frame, end_frame = told.end_frame, task = told.task,
       later_tasks = told.later_tasks, outcome = told.outcome, reason = told.reason, quality = told.quality,
       note = told.note, tags = told.tags, operator = told.operator
  FROM jsonb_populate_record(NULL::episode, $3::jsonb) AS told
 WHERE e.session_id = $1 AND e.episode_index = $2
"""

NOTE = """
INSERT INTO episode_change (session_id, episode_index, revision, changed_by, before, after, undoes)
VALUES ($1, $2, $3, $4, $5::jsonb, $6::jsonb, $7)
"""

FORGET = "DELETE FROM episode_change WHERE session_id = $1 AND episode_index = $2 AND revision <= $3"

TO_UNDO = """
SELECT c.revision, c.before, c.after FROM episode_change c
 WHERE c.session_id = $1 AND c.episode_index = $2 AND c.undoes IS NULL
   AND NOT EXISTS (SELECT FROM episode_change u
                    WHERE u.session_id = $1 AND u.episode_index = $2 AND u.undoes = c.revision)
 ORDER BY c.revision DESC LIMIT 1
"""

HISTORY = """
SELECT to_jsonb(c) || jsonb_build_object('before', c.before - 'later_tasks',
                                         'after', c.after - 'later_tasks')
  FROM episode_change c WHERE session_id = $1 AND episode_index = $2 ORDER BY revision DESC LIMIT $3
"""


class Undo(Struct, forbid_unknown_fields=True):
    """Take back the newest change that is not taken back yet.

    revision  of the episode as it was read: refused (409 `episode_changed`) if somebody has changed it since
    """

    revision: int | UnsetType = UNSET


class EpisodeHistory(Struct, kw_only=True):
    """One change that somebody made.

    revision    that the episode had after it, from 1
    changed_at  when, by the server's clock
    changed_by  the name of who made it
    before      what was changed, with what it was
    after       the same, with what it became
    undoes      revision of the change that this one takes back; null: it takes none back
    """

    revision: int
    changed_at: datetime
    changed_by: str
    before: dict[str, Any]
    after: dict[str, Any]
    undoes: int | None


class EpisodeEdits:
    """Writes changes of episodes; each call is one transaction."""

    def __init__(self, pool: Pool, edited: Callable[[int], Awaitable[None]] | None = None) -> None:
        """`edited` is called after each change, with the number of the session. It never raises."""
        self._pool = pool
        self._edited = edited

    async def change(
        self, session_id: int, episode_index: int, change: EpisodeChange, by: str
    ) -> EpisodeView:
        """The changed episode; raises SessionNotFound, SessionErased, NotFound, EpisodeChanged, or BadInput
        for bounds or a reason that make no sense."""
        async with transaction(self._pool, timeout_s=TIMEOUT_S) as connection:
            locked = await _lock(connection, session_id, episode_index, change.revision)
            asks = change.outcome is not UNSET or change.reason is not UNSET
            reasons = await read_reasons(connection) if asks else {}
            judged = changed(locked.stored, change, frames=locked.frames, reasons=reasons)
            await _write(connection, locked, by, judged)
            episode = await find_episode(connection, session_id, episode_index)
        await self._tell(session_id)
        return episode

    async def undo(self, session_id: int, episode_index: int, undo: Undo, by: str) -> EpisodeView:
        """The episode as it was before its newest change that is not taken back yet.

        Raises SessionNotFound, SessionErased, NotFound, EpisodeChanged, NothingToUndo.
        """
        async with transaction(self._pool, timeout_s=TIMEOUT_S) as connection:
            locked = await _lock(connection, session_id, episode_index, undo.revision)
            row = await connection.fetchrow(TO_UNDO, session_id, episode_index)
            if row is None:
                raise NothingToUndo(
                    f"no change of episode {episode_index} of session {session_id} is left to take back"
                )
            before, after = (msgspec.json.decode(row[name]) for name in ("before", "after"))
            earlier = taken_back(locked.stored, before, after)
            if earlier.end_frame is None and not locked.goes_on:
                # Its end was not known yet when it was changed. Nobody will tell it any more.
                earlier = structs.replace(earlier, end_frame=locked.stored.end_frame)
            await _write(connection, locked, by, earlier, undoes=row["revision"])
            episode = await find_episode(connection, session_id, episode_index)
        await self._tell(session_id)
        return episode

    async def history(self, session_id: int, episode_index: int) -> list[EpisodeHistory]:
        """What was changed, newest first, at most MAX_KEPT; raises SessionNotFound, SessionErased,
        NotFound."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            await find_episode(connection, session_id, episode_index)
            rows = await connection.fetch(HISTORY, session_id, episode_index, MAX_KEPT)
        return [msgspec.json.decode(row[0], type=EpisodeHistory) for row in rows]

    async def episode(self, session_id: int, episode_index: int) -> EpisodeView:
        """Raises SessionNotFound, SessionErased, NotFound."""
        async with connected(self._pool, timeout_s=TIMEOUT_S) as connection:
            return await find_episode(connection, session_id, episode_index)

    async def _tell(self, session_id: int) -> None:
        if self._edited is not None:
            await self._edited(session_id)


async def find_episode(connection: Connection, session_id: int, episode_index: int) -> EpisodeView:
    """The episode; raises SessionNotFound, SessionErased, NotFound."""
    if not await connection.fetchval(IS_SESSION, session_id):
        raise await lacking_session(connection, session_id)
    found = await read_episode(connection, session_id, episode_index)
    if found is None:
        raise _unknown(session_id, episode_index)
    return found


class _Locked(Struct, frozen=True):
    """An episode whose row nobody else changes meanwhile.

    frames    that its session has
    goes_on   whether its robot may still tell its end
    revision  that it has
    """

    session_id: int
    episode_index: int
    stored: Judged
    frames: int
    goes_on: bool
    revision: int


async def _lock(
    connection: Connection, session_id: int, episode_index: int, read: int | UnsetType
) -> _Locked:
    """The episode, locked; raises EpisodeChanged if it is not the revision that was `read`."""
    row = await connection.fetchrow(LOCK, session_id, episode_index)
    if row is None:
        await connection.execute(HAVE_WHOLE, session_id, episode_index)
        row = await connection.fetchrow(LOCK, session_id, episode_index)
    if row is None and not await connection.fetchval(IS_SESSION, session_id):
        raise await lacking_session(connection, session_id)
    if row is None:
        raise _unknown(session_id, episode_index)
    newest = await connection.fetchrow(NEWEST, session_id, episode_index)
    stored = msgspec.json.decode(row["episode"], type=Judged)
    by_people, by_robot = 0 if newest is None else newest["revision"], row["told_revision"] or 0
    revision = max(by_people, by_robot)
    if read is not UNSET and read != revision:
        if newest is None or by_robot > by_people:
            told = f"its robot has told of it: outcome is {stored.outcome!r}"
        else:
            told = _told(newest)
        raise EpisodeChanged(
            f"episode {episode_index} of session {session_id} has revision {revision}, not {read}: "
            f"{told if revision else 'nobody has changed it'}",
            field="revision",
            hint="read it again, then decide",
        )
    return _Locked(session_id, episode_index, stored, row["frames"], row["goes_on"], revision)


def _told(newest: asyncpg.Record) -> str:
    """What the newest change was."""
    now = msgspec.json.decode(newest["after"])
    now.pop("later_tasks", None)
    what = ", ".join(f"{name} is {value!r}" for name, value in now.items())
    return f"{newest['changed_by']} changed it at {newest['changed_at']:%Y-%m-%d %H:%M:%S} UTC: {what}"


async def _write(
    connection: Connection, locked: _Locked, by: str, judged: Judged, *, undoes: int | None = None
) -> None:
    """Store the locked episode and the change, if it is one."""
    before, after = differences(locked.stored, judged)
    if not after and undoes is None:
        return
    where = locked.session_id, locked.episode_index
    await connection.execute(CHANGE, *where, _json({name: getattr(judged, name) for name in COLUMNS}))
    note = locked.revision + 1, by, _json(before), _json(after), undoes
    await connection.execute(NOTE, *where, *note)
    await connection.execute(FORGET, *where, locked.revision + 1 - MAX_KEPT)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _unknown(session_id: int, episode_index: int) -> NotFound:
    return NotFound(f"session {session_id} has no episode {episode_index}", field="episode_index")
