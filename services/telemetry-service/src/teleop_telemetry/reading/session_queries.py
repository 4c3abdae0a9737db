"""Reads sessions, robots and ledgers."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg
import msgspec
from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.erasing import lacking_session
from teleop_runtime.postgres.pool import Connection, Pool, connected, transaction

from teleop_telemetry.reading.camera_accounts import camera_accounts, have_arrived
from teleop_telemetry.tables.event_rows import read_columns, read_episodes
from teleop_telemetry.tables.frame_accounts import FrameAccount, account_frames, keep, measure_frames
from teleop_telemetry.tables.views import (
    GapView,
    ImportedFrom,
    Ledger,
    MarkView,
    RefusalView,
    RobotView,
    SessionDetail,
    SessionPage,
    SessionView,
)

log = get_logger(__name__)

# A request for millions of frames may take long, but not forever.
READ_TIMEOUT_S = 60.0
# Measurements stored for the next reader; nobody waits for this.
KEEP_TIMEOUT_S = 5.0
# No loop is more exact than a thousandth of a hertz.
MEASURED_DIGITS = 3

type Row = Mapping[str, Any] | asyncpg.Record

LIST_SESSIONS = """
SELECT s.*, (SELECT t.imported_from FROM teleop_session t WHERE t.id = s.id) AS imported_from
  FROM session_overview s
 WHERE deleted_at IS NULL
   AND ($1::text IS NULL OR robot_id = $1)
   AND ($2::text IS NULL OR status = $2)
   AND ($3::text IS NULL OR task = $3
        OR EXISTS (SELECT FROM episode_overview e
                    WHERE e.session_id = s.id
                      AND e.tasks @> jsonb_build_array(jsonb_build_object('task', $3))))
   AND ($4::text IS NULL OR $4 = ANY(tags))
   AND ($5::text IS NULL
        OR EXISTS (SELECT FROM episode e WHERE e.session_id = s.id AND e.outcome = $5))
   AND ($6::timestamptz IS NULL OR start_time >= $6)
   AND ($7::timestamptz IS NULL OR start_time < $7)
   AND ($8::bigint IS NULL OR id < $8)
 ORDER BY id DESC LIMIT $9
"""

GET_SESSION = """
SELECT s.*, (SELECT t.imported_from FROM teleop_session t WHERE t.id = s.id) AS imported_from
  FROM session_overview s WHERE id = $1 AND deleted_at IS NULL
"""

LIST_ROBOTS = """
SELECT r.robot_id, r.robot_type, r.first_seen_at, r.last_seen_at, s.id AS session_id,
       coalesce(c.clashing_sessions, '{}') AS clashing_sessions, c.clashed_at,
       coalesce(s.status = 'recording' AND s.last_commit_at > now() - interval '15 s', false) AS online,
       extract(epoch FROM now() - s.last_frame_time)::float8 AS lag_s,
       greatest(r.last_seen_at, s.last_commit_at) AS seen_at,
       newest.rate_hz
  FROM robot r
  LEFT JOIN robot c ON c.robot_id = r.robot_id AND c.clashed_at > now() - interval '7 days'
  LEFT JOIN LATERAL (
       SELECT * FROM teleop_session WHERE robot_id = r.robot_id ORDER BY id DESC LIMIT 1) s ON true
  LEFT JOIN LATERAL (
       SELECT (count(*) - 1)
              / nullif(extract(epoch FROM max("timestamp") - min("timestamp")), 0)::float8 AS rate_hz
         FROM teleop_frame f
        WHERE f.session_id = s.id AND f.frame_index >= s.next_frame_index - 120) newest ON true
 ORDER BY r.robot_id
"""

# Fields that accounts of older archives lack, because their frames could not have them.
NOT_TOLD_ONCE: Mapping[str, Any] = {"repeated_observations": 0, "not_finite": {}}
ARCHIVED_ACCOUNT = "SELECT account FROM session_archive WHERE session_id = $1"
NEWEST_EXPORT = "SELECT frames FROM session_export WHERE session_id = $1 ORDER BY export_id DESC LIMIT 1"


class SessionQueries:
    """Reads the tables that telemetry-service writes."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def robots(self) -> list[RobotView]:
        """Every robot ever seen, with its newest session."""
        async with connected(self._pool, timeout_s=READ_TIMEOUT_S) as connection:
            rows = await connection.fetch(LIST_ROBOTS)
        return [
            RobotView(
                robot_id=row["robot_id"],
                robot_type=row["robot_type"],
                first_seen_at=row["first_seen_at"],
                last_seen_at=row["seen_at"],
                online=row["online"],
                session_id=row["session_id"],
                rate_hz=_rounded(row["rate_hz"]),
                lag_s=_rounded(row["lag_s"]) if row["online"] else None,
                clashing_sessions=row["clashing_sessions"],
                clashed_at=row["clashed_at"],
            )
            for row in rows
        ]

    async def sessions(
        self,
        *,
        robot_id: str | None,
        status: str | None,
        task: str | None,
        tag: str | None,
        outcome: str | None,
        since: datetime | None,
        until: datetime | None,
        cursor: int | None,
        limit: int,
    ) -> SessionPage:
        """Up to `limit` sessions older than the one `cursor` names, newest first."""
        async with connected(self._pool, timeout_s=READ_TIMEOUT_S) as connection:
            rows = await connection.fetch(
                LIST_SESSIONS, robot_id, status, task, tag, outcome, since, until, cursor, limit + 1
            )
        sessions = [_view(row, SessionView, imported_from=_imported_from(row)) for row in rows[:limit]]
        return SessionPage(sessions=sessions, next_cursor=sessions[-1].id if len(rows) > limit else None)

    async def session(self, session_id: int) -> SessionDetail:
        """One session with its episodes and marks; raises SessionNotFound, SessionErased."""
        async with connected(self._pool, timeout_s=READ_TIMEOUT_S) as connection:
            row = await connection.fetchrow(GET_SESSION, session_id)
            if row is None:
                raise await lacking_session(connection, session_id)
            episodes = await read_episodes(connection, session_id)
            columns = await read_columns(connection, session_id)
            marks = await connection.fetch(
                "SELECT * FROM session_mark WHERE session_id = $1 ORDER BY frame_index, note", session_id
            )
        return _view(
            row,
            SessionDetail,
            imported_from=_imported_from(row),
            stream_id=str(row["stream_id"]),
            cameras=msgspec.json.decode(row["cameras"]),
            host=msgspec.json.decode(row["host"]),
            columns=columns,
            episode_list=episodes,
            marks=[_view(mark, MarkView) for mark in marks],
        )

    async def ledger(self, session_id: int) -> Ledger:
        """The session's account, as of one moment; raises SessionNotFound, SessionErased."""
        async with transaction(self._pool, timeout_s=READ_TIMEOUT_S, snapshot=True) as connection:
            session = await connection.fetchrow(GET_SESSION, session_id)
            if session is None:
                raise await lacking_session(connection, session_id)
            account, measured = await _measured(connection, session)
            gaps = await connection.fetch(
                "SELECT * FROM frame_gap WHERE session_id = $1 ORDER BY first_frame", session_id
            )
            refusals = await connection.fetch(
                "SELECT * FROM refused_frames WHERE session_id = $1 ORDER BY number", session_id
            )
            exported = await connection.fetchval(NEWEST_EXPORT, session_id)
            cameras = await camera_accounts(connection, session)
        if account is not None:
            await self._keep(account)
        missing = session["missing"]
        committed = measured["committed"]
        return _view(
            {name: _rounded(value) for name, value in measured.items()},
            Ledger,
            session_id=session_id,
            status=session["status"],
            delivery=session["delivery"],
            logged=session["logged"],
            archived_at=session["archived_at"],
            archive_damage=session["archive_damage"],
            found_at=session["found_at"],
            exported=exported,
            missing=missing,
            unaccounted=session["frames"] - committed - missing,
            refused=sum(row["frames"] for row in refusals),
            refusals=[_view(row, RefusalView) for row in refusals],
            cameras=cameras,
            complete=session["logged"] == committed == session["frames"]
            and not (missing or refusals)
            and have_arrived(cameras),
            gaps=[_view(gap, GapView) for gap in gaps],
            declared_hz=session["fps"],
            times_not_told=session["untold_times"],
        )

    async def _keep(self, account: FrameAccount) -> None:
        """Keep the account, so that nobody waits for it again; the answer is sent even if this fails."""
        try:
            async with connected(self._pool, timeout_s=KEEP_TIMEOUT_S) as connection:
                await keep(connection, account)
        except (OSError, asyncpg.PostgresError) as error:
            log.warning(
                "a session's account could not be stored", session=account.session_id, error=repr(error)
            )


def _rounded(value: Any) -> Any:
    """A rate or a time, rounded to the precision of its samples' times, which are whole microseconds."""
    return round(value, MEASURED_DIGITS) if isinstance(value, float) else value


async def _measured(connection: Connection, session: asyncpg.Record) -> tuple[FrameAccount | None, Row]:
    """The account of the session's frames, and what can be kept of it for the next reader."""
    if session["archived_at"] is None:
        account = await account_frames(connection, session["id"])
        return account, account.told
    if session["archive_damage"] is None:
        return None, await _archived_account(connection, session["id"])
    # Of no frame: they are neither here nor in the archive.
    return None, (await measure_frames(connection, session["id"])).told


async def _archived_account(connection: Connection, session_id: int) -> Row:
    """The account as measured before the frames left the database."""
    account: dict[str, Any] = msgspec.json.decode(await connection.fetchval(ARCHIVED_ACCOUNT, session_id))
    return {**NOT_TOLD_ONCE, **account}


def _imported_from(row: Row) -> ImportedFrom | None:
    told = row["imported_from"]
    return None if told is None else msgspec.json.decode(told, type=ImportedFrom)


def _view[View: msgspec.Struct](row: Row, kind: type[View], **more: Any) -> View:
    """A `kind` from the row's columns of the same names, and `more`."""
    names: Sequence[str] = kind.__struct_fields__
    return kind(**{name: row[name] for name in names if name not in more}, **more)
