"""What is asked to be erased, and how far it is."""

from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from teleop_runtime.postgres.pool import Connection, Pool, connected, transaction
from teleop_schema.errors import NotFound, SessionNotFound

from teleop_telemetry.erasing.views import BACKUPS, ErasurePage, ErasureView, NewErasure, ShareView
from teleop_telemetry.tables.erasure_rows import add_erasure

# Waits for whoever adds something at this moment: a video chunk that is being stored.
ASK_TIMEOUT_S = 60.0
READ_TIMEOUT_S = 10.0

STREAM_OF = "SELECT stream_id, robot_id FROM teleop_session WHERE id = $1"
STREAM_ERASED = "SELECT stream_id, robot_id FROM erasure WHERE session_id = $1 ORDER BY id DESC LIMIT 1"
IS_DATASET = """
SELECT EXISTS (SELECT FROM dataset WHERE robot_id = $1 AND name = $2)
    OR EXISTS (SELECT FROM erasure WHERE robot_id = $1 AND dataset = $2)
    OR EXISTS (SELECT FROM upload WHERE file->>'robot_id' = $1 AND file->>'dataset' = $2)
"""

FIND = """
SELECT id FROM erasure WHERE stream_id = $1 OR (robot_id = $2 AND dataset = $3)
"""

ABOUT = """
SELECT e.id, e.session_id, e.robot_id, e.dataset, e.asked_by, e.asked_at,
       (SELECT jsonb_agg(jsonb_build_object('service', s.service, 'done_at', s.done_at, 'removed', s.removed,
                                            'problem', s.problem, 'not_reached', s.not_reached)
                         ORDER BY s.service)
          FROM erasure_share s WHERE s.erasure_id = e.id)::text AS shares
  FROM erasure e
"""
GET = f"{ABOUT} WHERE e.id = $1"
PAGE = f"{ABOUT} WHERE $1::bigint IS NULL OR e.id < $1 ORDER BY e.id DESC LIMIT $2"

SESSION_HOLDS = """
SELECT next_frame_index AS frames,
       (SELECT count(*) FROM episode e WHERE e.session_id = s.id) AS episodes,
       (SELECT count(*) FROM video_chunk c WHERE c.session_id = s.id) AS video_chunks,
       (SELECT count(*) FROM export x
         WHERE x.report->'sessions' @> jsonb_build_array(jsonb_build_object('session_id', s.id))) AS exports,
       robot_id, start_time
  FROM teleop_session s WHERE id = $1
"""
DATASET_HOLDS = """
SELECT (SELECT count(*) FROM dataset_version v WHERE v.dataset_id = d.id) AS versions,
       (SELECT count(DISTINCT path) FROM dataset_file f WHERE f.dataset_id = d.id) AS files
  FROM dataset d WHERE robot_id = $1 AND name = $2
"""


class Told(msgspec.Struct):
    """A row of `erasure_share`."""

    service: str
    removed: dict[str, int]
    not_reached: list[str]
    done_at: datetime | None = None
    problem: str | None = None


class ErasureTable:
    """Asks for erasures, and says how far they are."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def ask(self, wanted: NewErasure, asked_by: str) -> ErasureView:
        """The erasure, which begins now, or has begun before. Raises SessionNotFound, NotFound."""
        async with transaction(self._pool, timeout_s=ASK_TIMEOUT_S) as connection:
            stream_id, robot_id = None, wanted.robot_id or ""
            if wanted.session_id is not None:
                stream_id, robot_id = await _stream_of(connection, wanted.session_id)
            elif not await connection.fetchval(IS_DATASET, robot_id, wanted.dataset):
                raise NotFound(f"robot {robot_id!r} has no dataset {wanted.dataset!r}", field="dataset")
            what = wanted.session_id, stream_id, robot_id, wanted.dataset
            await add_erasure(connection, *what, asked_by, None)
            erasure_id = await connection.fetchval(FIND, stream_id, robot_id, wanted.dataset)
        return await self.get(erasure_id)

    async def get(self, erasure_id: int) -> ErasureView:
        """One erasure; raises NotFound."""
        async with connected(self._pool, timeout_s=READ_TIMEOUT_S) as connection:
            row = await connection.fetchrow(GET, erasure_id)
        if row is None:
            raise NotFound(f"there is no erasure {erasure_id}", field="erasure_id")
        return _view(row)

    async def page(self, cursor: int | None, limit: int) -> ErasurePage:
        """Up to `limit` erasures older than the one `cursor` names, newest first."""
        async with connected(self._pool, timeout_s=READ_TIMEOUT_S) as connection:
            rows = await connection.fetch(PAGE, cursor, limit + 1)
        erasures = [_view(row) for row in rows[:limit]]
        return ErasurePage(erasures, erasures[-1].id if len(rows) > limit else None)

    async def holds(self, wanted: NewErasure) -> dict[str, Any]:
        """What there is to erase, for a person to look at before; nothing if there is no such thing."""
        async with connected(self._pool, timeout_s=READ_TIMEOUT_S) as connection:
            if wanted.session_id is not None:
                row = await connection.fetchrow(SESSION_HOLDS, wanted.session_id)
            else:
                row = await connection.fetchrow(DATASET_HOLDS, wanted.robot_id, wanted.dataset)
        return {} if row is None else dict(row)


async def _stream_of(connection: Connection, session_id: int) -> tuple[UUID, str]:
    for find in (STREAM_OF, STREAM_ERASED):
        row = await connection.fetchrow(find, session_id)
        if row is not None:
            return row["stream_id"], row["robot_id"]
    raise SessionNotFound.of(session_id)


def _view(row: asyncpg.Record) -> ErasureView:
    told = msgspec.json.decode(row["shares"], type=list[Told])
    services = [
        ShareView(
            service=each.service,
            done_at=each.done_at,
            removed=each.removed,
            problem=each.problem,
        )
        for each in told
    ]
    done = [each.done_at for each in services if each.done_at is not None]
    erased = len(done) == len(services)
    return ErasureView(
        id=row["id"],
        session_id=row["session_id"],
        robot_id=row["robot_id"],
        dataset=row["dataset"],
        asked_by=row["asked_by"],
        asked_at=row["asked_at"],
        status="erased" if erased else "erasing",
        erased_at=max(done) if erased else None,
        services=services,
        not_reached=[BACKUPS, *(copy for each in told for copy in each.not_reached)],
    )
