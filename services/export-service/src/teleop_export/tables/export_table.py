"""The one place that writes `export`."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import structs
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from teleop_runtime.serving.problems import Problem
from teleop_schema.identifiers import MAX_ID

from teleop_export.errors import Cancelled, NotComparable
from teleop_export.planning.order import ComparedExport, Order
from teleop_export.planning.raw_order import RawOrder
from teleop_export.planning.report import Report
from teleop_export.planning.request import ExportRequest
from teleop_export.planning.stages import SHORT_DIGITS, Stage
from teleop_export.planning.views import (
    CorrectedVideo,
    ExportDetail,
    ExportFilter,
    ExportPage,
    ExportView,
    Numbers,
    view,
)
from teleop_export.tables.database import Connection, PsycopgPool, connect
from teleop_export.tables.erasure_table import hold_off_erasures, lacking_export

# Each was begun by a worker that died; after this many, the export itself is the likely reason.
MAX_ATTEMPTS = 10
NS_PER_US = 1_000

STATE = """
SELECT id, status, fingerprint, request, progress, numbers, problem, waits_for, created_at, started_at,
       finished_at, (SELECT to_jsonb(p) FROM export_push p WHERE p.export_id = export.id) AS push
  FROM export WHERE id = %s
"""

GET = """
SELECT id, status, fingerprint, request, progress, numbers, problem, waits_for, created_at, started_at,
       finished_at, report,
       (SELECT to_jsonb(p) FROM export_push p WHERE p.export_id = export.id) AS push
  FROM export WHERE id = %s
"""

# Whose files are gone has failed, for who lists only some, too.
PAGE = """
SELECT id, status, fingerprint, request, progress, numbers, problem, waits_for, created_at, started_at,
       finished_at, (SELECT to_jsonb(p) FROM export_push p WHERE p.export_id = told.id) AS push
  FROM (SELECT id, fingerprint, request, progress, numbers, problem, waits_for, created_at, started_at,
               finished_at, report,
               CASE WHEN status = 'done'
                     AND id || '-' || left(fingerprint, %(digits)s) <> ALL(%(kept)s::text[])
                    THEN 'failed' ELSE status END AS status
          FROM export) AS told
 WHERE (%(cursor)s::bigint IS NULL OR id < %(cursor)s)
   AND (%(status)s::text IS NULL OR status = %(status)s)
   AND (%(repo_id)s::text IS NULL OR request->>'repo_id' = %(repo_id)s)
   AND (%(fingerprint)s::text IS NULL OR fingerprint = %(fingerprint)s)
   AND (%(session_id)s::bigint IS NULL
        OR report->'sessions' @> jsonb_build_array(jsonb_build_object('session_id', %(session_id)s::bigint)))
 ORDER BY id DESC LIMIT %(limit)s
"""

# Usually nothing was corrected since: then the order, which may be large, is not read.
CORRECTED = """
SELECT e.id, c.session_id, c.camera_key AS camera, count(*) AS chunks
  FROM (SELECT id, created_at,
               ARRAY(SELECT number::bigint
                       FROM jsonb_path_query(work_order, '$.sources[*].chunks[*][*]') AS number
                      UNION ALL
                     SELECT number::bigint
                       FROM jsonb_path_query(work_order, '$.sessions[*].footage.*.chunks[*]') AS number)
               AS chunks
          FROM export
         WHERE id = ANY(%s) AND created_at < (SELECT max(corrected_at) FROM video_chunk)) AS e
  JOIN video_chunk c ON c.id = ANY(e.chunks) AND c.corrected_at > e.created_at
 GROUP BY e.id, c.session_id, c.camera_key ORDER BY e.id, c.session_id, c.camera_key
"""

PUBLISHED = "SELECT status, fingerprint, request->>'repo_id' AS repo_id FROM export WHERE id = %s"

ROBOTS_OF = """
SELECT robot_id FROM teleop_session
 WHERE id IN (SELECT jsonb_array_elements_text(request->'session_ids')::bigint FROM export WHERE id = %(id)s)
 UNION
SELECT jsonb_array_elements_text(exports->%(id)s::text) FROM erasure_share WHERE exports ? %(id)s::text
"""

FIND = "SELECT id FROM export WHERE fingerprint = %s"

# One of that fingerprint stays as it is, and no row is returned.
PUT = """
INSERT INTO export (fingerprint, asked, request, work_order, report, attempts_left)
VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (fingerprint) DO NOTHING
RETURNING id
"""

# There is no dataset of it: it failed, was cancelled, or its files are gone.
RENEW = """
UPDATE export
   SET status = 'queued', progress = '{}', attempts_left = %(attempts)s, numbers = NULL, problem = NULL,
       created_at = now(), started_at = NULL, finished_at = NULL
 WHERE id = %(id)s AND (status IN ('failed', 'cancelled') OR status = 'done' AND %(lost)s)
"""

# Those of before did not keep it; sessions were chosen by number or by a filter then.
ASKED = """
SELECT coalesce(asked, CASE WHEN jsonb_typeof(request->'filter') = 'object'
                            THEN request || '{"session_ids": null}' ELSE request END) AS asked
  FROM export WHERE id = %s
"""

# Also what is 'running': its job comes again only if its worker died. If that lives after all, the number of
# the attempt shuts it out.
CLAIM = """
UPDATE export
   SET status = 'running', attempt = attempt + 1, attempts_left = attempts_left - 1, progress = '{}',
       waits_for = NULL, started_at = now()
 WHERE id = %s AND status IN ('queued', 'running') AND attempts_left > 0
RETURNING id, attempt, attempts_left, fingerprint, work_order
"""

GIVE_UP = """
UPDATE export SET status = 'failed', problem = %s, finished_at = now()
 WHERE id = %s AND status IN ('queued', 'running')
"""

NOTE_PROGRESS = "UPDATE export SET progress = %s WHERE id = %s AND attempt = %s AND status = 'running'"

HAND_BACK = """
UPDATE export
   SET status = 'queued', progress = '{}', started_at = NULL, waits_for = %s,
       attempts_left = attempts_left + %s
 WHERE id = %s AND attempt = %s AND status = 'running'
"""

FAIL = """
UPDATE export SET status = 'failed', problem = %s, finished_at = now()
 WHERE id = %s AND attempt = %s AND status = 'running'
"""

LOCK_RUNNING = """
SELECT extract(epoch FROM clock_timestamp() - started_at)::float8 AS duration_s
  FROM export WHERE id = %s AND attempt = %s AND status = 'running' FOR UPDATE
"""

PUBLISH = """
UPDATE export SET status = 'done', numbers = %s, report = %s,
       finished_at = 'epoch'::timestamptz + %s * interval '1 microsecond'
 WHERE id = %s
"""

# Whatever was published under the name of this export before.
LAST_PUBLISHED = """
SELECT coalesce(max((extract(epoch FROM other.finished_at) * 1000000)::bigint), 0) AS us
  FROM export JOIN export AS other ON other.request->>'repo_id' = export.request->>'repo_id'
 WHERE export.id = %s AND other.status = 'done'
"""

LOCK = "SELECT status, fingerprint FROM export WHERE id = %s FOR UPDATE"

CANCEL = "UPDATE export SET status = 'cancelled', waits_for = NULL, finished_at = now() WHERE id = %s"

FORGET = "DELETE FROM export WHERE id = %s"

FORGET_PUSH = "DELETE FROM export_push WHERE export_id = %s"

COMPARED = """
SELECT id, request->>'repo_id' AS repo_id, status, report, work_order FROM export WHERE id = %s
"""

RUNNING = "SELECT id, attempt FROM export WHERE status = 'running'"

Progress = dict[Stage, tuple[int, int]]


@dataclass(frozen=True)
class Claim:
    """The right to make an export, until a later attempt takes it.

    attempts_left  after this one
    """

    id: int
    attempt: int
    attempts_left: int
    fingerprint: str
    order: Order | RawOrder


class ExportTable:
    """Reads and writes `export`. Every method raises StorageUnavailable when the database is away."""

    def __init__(self, pool: PsycopgPool) -> None:
        self._pool = pool

    async def put(
        self,
        asked: ExportRequest,
        request: ExportRequest,
        order: Order | RawOrder,
        fingerprint: str,
        enqueue: Callable[[Connection, int], Awaitable[None]],
    ) -> int:
        """The id of the export that `fingerprint` names; `enqueue` is called in the same transaction if it is
        to be made. Raises SessionErased for sessions that were erased meanwhile.

        asked    what to ask again when the export is repeated
        request  the same with the sessions that it means now
        """
        content = (fingerprint, _json(asked), _json(request), _json(order), _json(order.report), MAX_ATTEMPTS)
        async with connect(self._pool) as connection, connection.transaction():
            await hold_off_erasures(connection, request.session_ids or ())
            row = await (await connection.execute(PUT, content)).fetchone()
            if row is not None:
                await enqueue(connection, row["id"])
                return int(row["id"])
            row = await (await connection.execute(FIND, [fingerprint])).fetchone()
            assert row is not None  # noqa: S101
            return int(row["id"])

    async def renew(
        self, export_id: int, enqueue: Callable[[Connection, int], Awaitable[None]], *, lost: bool
    ) -> None:
        """Have an export made again that failed or was cancelled, or whose files are `lost`; `enqueue` as for
        `put`."""
        about = {"id": export_id, "attempts": MAX_ATTEMPTS, "lost": lost}
        async with connect(self._pool) as connection, connection.transaction():
            if (await connection.execute(RENEW, about)).rowcount:
                await enqueue(connection, export_id)

    async def asked(self, export_id: int) -> ExportRequest:
        """What was asked for, `session_ids` as they were named; raises ExportNotFound, ExportErased."""
        async with connect(self._pool) as connection:
            row = await _row(connection, ASKED, export_id)
        return msgspec.convert(row["asked"], ExportRequest)

    async def get(self, export_id: int) -> ExportDetail:
        """One export; raises ExportNotFound, ExportErased."""
        return await self._view(GET, export_id, ExportDetail)

    async def state(self, export_id: int) -> ExportView:
        """One export without its account; raises ExportNotFound, ExportErased."""
        return await self._view(STATE, export_id, ExportView)

    async def page(self, wanted: ExportFilter, kept: Collection[str] | None) -> ExportPage:
        """Up to `limit` exports older than the one `cursor` names, newest first.

        kept  what Folders.kept() finds: a finished export that is not among them has `failed`, without an
              error; None: nobody knows, so it is `done`
        """
        limit = wanted.limit
        about = {**structs.asdict(wanted), "limit": limit + 1, "digits": SHORT_DIGITS}
        about["kept"] = None if kept is None else list(kept)
        async with connect(self._pool) as connection:
            found = await connection.execute(PAGE, about)
            rows = await found.fetchall()
            corrected = await _corrected(connection, [row["id"] for row in rows[:limit]])
        exports = [view(row, ExportView, corrected[row["id"]]) for row in rows[:limit]]
        return ExportPage(exports=exports, next_cursor=exports[-1].id if len(rows) > limit else None)

    async def robots_of(self, export_id: int) -> list[str]:
        """Robots whose sessions an export has, or had before it was erased; none if there never was one."""
        async with connect(self._pool) as connection:
            rows = await (await connection.execute(ROBOTS_OF, {"id": min(export_id, MAX_ID)})).fetchall()
        return [row["robot_id"] for row in rows]

    async def published(self, export_id: int) -> tuple[str, str, str]:
        """Status, fingerprint and repo_id; raises ExportNotFound, ExportErased."""
        async with connect(self._pool) as connection:
            row = await _row(connection, PUBLISHED, export_id)
        return row["status"], row["fingerprint"], row["repo_id"]

    async def claim(self, export_id: int, gave_up: Problem) -> Claim | None:
        """Start the next attempt; None if nothing is to be made. Fails the export if no attempt is left."""
        async with connect(self._pool) as connection, connection.transaction():
            row = await (await connection.execute(CLAIM, [export_id])).fetchone()
            if row is None:
                await connection.execute(GIVE_UP, [_json(gave_up), export_id])
                return None
        order = msgspec.convert(row["work_order"], Order | RawOrder)
        return Claim(row["id"], row["attempt"], row["attempts_left"], row["fingerprint"], order)

    async def note_progress(self, claim: Claim, progress: Progress) -> bool:
        """Tell how far it is; False if the claim is lost."""
        stages = {stage: {"done": done, "total": total} for stage, (done, total) in progress.items()}
        return await self._change(NOTE_PROGRESS, _json(stages), claim.id, claim.attempt)

    async def hand_back(self, claim: Claim, problem: Problem | None = None, *, counts: bool) -> None:
        """Leave the export to the next attempt.

        problem  what it waits for
        counts   whether this attempt was one of the MAX_ATTEMPTS
        """
        told = None if problem is None else _json(problem)
        await self._change(HAND_BACK, told, int(not counts), claim.id, claim.attempt)

    async def fail(self, claim: Claim, problem: Problem) -> bool:
        """End the export with `problem`; False if the claim is lost."""
        return await self._change(FAIL, _json(problem), claim.id, claim.attempt)

    async def publish(
        self,
        claim: Claim,
        numbers: Callable[[float], Numbers],
        report: Report,
        move: Callable[[int], Awaitable[None]],
    ) -> Numbers:
        """Mark as done what `move` puts in place; nobody can cancel or take over in between.

        move     told when it is published, ns since the Unix epoch: later than all of that name before
        numbers  made of the attempt's duration in seconds
        report   the account as it became
        Raises Cancelled if the claim is lost.
        """
        async with connect(self._pool) as connection, connection.transaction():
            found = await connection.execute(LOCK_RUNNING, [claim.id, claim.attempt])
            row = await found.fetchone()
            if row is None:
                raise Cancelled
            last = await (await connection.execute(LAST_PUBLISHED, [claim.id])).fetchone()
            assert last is not None  # noqa: S101
            published_ns = max(time.time_ns(), (last["us"] + 1) * NS_PER_US)
            await move(published_ns)
            made = numbers(row["duration_s"])
            # Rounded up: a clock that is set back can't make the next one earlier than this.
            us = -(-published_ns // NS_PER_US)
            await connection.execute(PUBLISH, [_json(made), _json(report), us, claim.id])
        return made

    async def remove(self, export_id: int, discard: Callable[[str], Awaitable[None]]) -> None:
        """Cancel what is queued or running, forget what has ended; `discard(fingerprint)` takes its published
        files away first. Raises ExportNotFound, ExportErased."""
        async with connect(self._pool) as connection, connection.transaction():
            row = await (await connection.execute(LOCK, [export_id])).fetchone()
            if row is None:
                raise await lacking_export(connection, export_id)
            await discard(row["fingerprint"])
            ended = row["status"] not in ("queued", "running")
            await connection.execute(FORGET if ended else CANCEL, [export_id])
            await connection.execute(FORGET_PUSH, [export_id])

    async def compared(self, export_id: int) -> ComparedExport:
        """An export as it is compared with others; raises ExportNotFound, ExportErased, NotComparable."""
        async with connect(self._pool) as connection:
            row = await _row(connection, COMPARED, export_id)
        return await asyncio.to_thread(_compared, row)

    async def running(self) -> set[tuple[int, int]]:
        """Id and attempt of all that is being made now."""
        async with connect(self._pool) as connection:
            rows = await (await connection.execute(RUNNING)).fetchall()
        return {(row["id"], row["attempt"]) for row in rows}

    async def _view[View: ExportView](self, query: str, export_id: int, kind: type[View]) -> View:
        async with connect(self._pool) as connection:
            row = await _row(connection, query, export_id)
            corrected = await _corrected(connection, [export_id])
        return view(row, kind, corrected[export_id])

    async def _change(self, query: str, *values: Any) -> bool:
        async with connect(self._pool) as connection:
            return (await connection.execute(query, values)).rowcount == 1


def _compared(row: DictRow) -> ComparedExport:
    order = msgspec.convert(row["work_order"], Order | RawOrder)
    if isinstance(order, RawOrder):
        raise NotComparable(
            f"export {row['id']} is not a dataset but {order.format}, which has all episodes of its sessions"
        )
    report = msgspec.convert(row["report"], Report)
    return ComparedExport(row["id"], row["repo_id"], row["status"], order, report)


async def _row(connection: Connection, query: str, export_id: int) -> DictRow:
    row = await (await connection.execute(query, [export_id])).fetchone()
    if row is None:
        raise await lacking_export(connection, export_id)
    return row


async def _corrected(connection: Connection, ids: Sequence[int]) -> dict[int, list[CorrectedVideo]]:
    """Of each of these exports, the video that turned out otherwise since it was asked for."""
    found: dict[int, list[CorrectedVideo]] = {export_id: [] for export_id in ids}
    for row in await (await connection.execute(CORRECTED, [list(ids)])).fetchall():
        found[row.pop("id")].append(CorrectedVideo(**row))
    return found


def _json(content: Any) -> Jsonb:
    return Jsonb(content, dumps=lambda each: msgspec.json.encode(each, order="deterministic"))
