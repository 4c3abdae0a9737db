"""The one place that writes `export_push`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from psycopg.types.json import Jsonb
from teleop_runtime.serving.problems import Problem

from teleop_export.planning.push import PushRequest
from teleop_export.tables.database import Connection, PsycopgPool, connect

# Likewise, and the Hub's refusals end a push at once.
MAX_ATTEMPTS = 10

# A push that failed starts again; a waiting push takes the newest request; any other stays as it is.
PUT = """
INSERT INTO export_push (export_id, private, overwrite, token_name, attempts_left) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (export_id) DO UPDATE
   SET private = excluded.private, overwrite = excluded.overwrite, token_name = excluded.token_name,
       attempts_left = excluded.attempts_left, status = 'waiting', done_bytes = 0, total_bytes = 0,
       problem = NULL, commit_url = NULL, asked_at = now(), started_at = NULL, finished_at = NULL
 WHERE export_push.status IN ('waiting', 'failed') OR (%s AND export_push.status = 'done')
"""

# Those whose export has been finished since they were asked for.
QUEUE_DUE = """
UPDATE export_push SET status = 'queued'
  FROM export WHERE export.id = export_id AND export.status = 'done' AND export_push.status = 'waiting'
RETURNING export_id
"""

CLAIM = """
UPDATE export_push
   SET status = 'running', attempt = export_push.attempt + 1, done_bytes = 0, total_bytes = 0,
       attempts_left = export_push.attempts_left - 1, started_at = now()
  FROM export
 WHERE export_id = %s AND export.id = export_id AND export.status = 'done'
   AND export_push.status IN ('queued', 'running') AND export_push.attempts_left > 0
RETURNING export_id, export_push.attempt, export_push.attempts_left, private, overwrite, token_name,
          fingerprint, request->>'repo_id' AS repo_id,
          ARRAY(SELECT stream_id::text FROM teleop_session
                 WHERE id IN (SELECT (part->>'session_id')::bigint
                                FROM jsonb_array_elements(report->'sessions') AS part)) AS streams
"""

GIVE_UP = """
UPDATE export_push SET status = 'failed', problem = coalesce(problem, %s), finished_at = now()
 WHERE export_id = %s AND status IN ('queued', 'running')
"""

NOTE_PROGRESS = """
UPDATE export_push SET done_bytes = %s, total_bytes = %s
 WHERE export_id = %s AND attempt = %s AND status = 'running'
"""

HAND_BACK = """
UPDATE export_push
   SET status = 'queued', problem = coalesce(%s, problem), attempts_left = attempts_left + %s
 WHERE export_id = %s AND attempt = %s AND status = 'running'
"""

FAIL = """
UPDATE export_push SET status = 'failed', problem = %s, finished_at = now()
 WHERE export_id = %s AND attempt = %s AND status = 'running'
"""

FINISH = """
UPDATE export_push SET status = 'done', commit_url = %s, problem = NULL, finished_at = now()
 WHERE export_id = %s AND attempt = %s AND status = 'running'
"""


@dataclass(frozen=True)
class PushClaim:
    """The right to push an export, until a later attempt takes it.

    attempts_left  after this one
    streams        uuids of the export's recordings
    """

    export_id: int
    attempt: int
    attempts_left: int
    fingerprint: str
    repo_id: str
    streams: tuple[str, ...]
    wanted: PushRequest


class PushTable:
    """Writes `export_push`. Every method raises StorageUnavailable when the database is away."""

    def __init__(self, pool: PsycopgPool) -> None:
        self._pool = pool

    async def put(self, export_id: int, wanted: PushRequest, *, again: bool) -> bool:
        """Have the export pushed once it is done; False if it is being pushed or has been.

        again  also if it has been pushed before
        """
        values = (export_id, wanted.private, wanted.overwrite, wanted.token_name, MAX_ATTEMPTS, again)
        return await self._change(PUT, *values)

    async def queue_due(self, enqueue: Callable[[Connection, int], Awaitable[None]]) -> int:
        """Queue the pushes whose exports are done; how many."""
        async with connect(self._pool) as connection, connection.transaction():
            rows = await (await connection.execute(QUEUE_DUE)).fetchall()
            for row in rows:
                await enqueue(connection, row["export_id"])
        return len(rows)

    async def claim(self, export_id: int, gave_up: Problem) -> PushClaim | None:
        """Start the next attempt; None if nothing is to be pushed. Fails the push if no attempt is left."""
        async with connect(self._pool) as connection, connection.transaction():
            row = await (await connection.execute(CLAIM, [export_id])).fetchone()
            if row is None:
                await connection.execute(GIVE_UP, [_json(gave_up), export_id])
                return None
        return PushClaim(
            export_id=row["export_id"],
            attempt=row["attempt"],
            attempts_left=row["attempts_left"],
            fingerprint=row["fingerprint"],
            repo_id=row["repo_id"],
            streams=tuple(row["streams"]),
            wanted=PushRequest(
                private=row["private"], overwrite=row["overwrite"], token_name=row["token_name"]
            ),
        )

    async def note_progress(self, claim: PushClaim, done_bytes: int, total_bytes: int) -> bool:
        """Tell how far it is; False if the claim is lost."""
        return await self._change(NOTE_PROGRESS, done_bytes, total_bytes, claim.export_id, claim.attempt)

    async def hand_back(self, claim: PushClaim, problem: Problem | None) -> None:
        """Leave the push to the next attempt: because of `problem`, or of nothing that was its fault."""
        told = None if problem is None else _json(problem)
        await self._change(HAND_BACK, told, int(problem is None), claim.export_id, claim.attempt)

    async def fail(self, claim: PushClaim, problem: Problem) -> bool:
        """End the push with `problem`; False if the claim is lost."""
        return await self._change(FAIL, _json(problem), claim.export_id, claim.attempt)

    async def finish(self, claim: PushClaim, commit_url: str) -> bool:
        """Mark as done; False if the claim is lost."""
        return await self._change(FINISH, commit_url, claim.export_id, claim.attempt)

    async def _change(self, query: str, *values: Any) -> bool:
        async with connect(self._pool) as connection:
            return (await connection.execute(query, values)).rowcount == 1


def _json(problem: Problem) -> Jsonb:
    return Jsonb(problem, dumps=msgspec.json.encode)
