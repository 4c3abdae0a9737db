"""What the recorded sessions hold; the tables are telemetry-service's, here they are only read."""

import asyncio
from collections.abc import Collection, Sequence

import numpy as np
from msgspec import structs
from psycopg.rows import DictRow
from teleop_schema.errors import BadInput, SessionArchived, SessionNotFound

from export_service.align import Integers
from export_service.chunk_table import read_chunks, read_sample_times
from export_service.database import Connection, Pool, connect
from export_service.errors import NothingToExport
from export_service.recorded import EpisodeRow, Footage, Hole, Session, name_holes
from export_service.selection import SessionFilter
from export_service.video_chunks import Chunk, goes_by_time, look_at_footage, usable

SESSIONS = """
SELECT id, robot_type, fps, task, state_names, action_names, status, next_frame_index,
       ARRAY(SELECT jsonb_object_keys(cameras)) AS cameras,
       EXISTS (SELECT FROM session_archive a
                WHERE a.session_id = teleop_session.id AND a.dropped_at IS NOT NULL) AS archived
  FROM teleop_session WHERE id = ANY(%s) AND deleted_at IS NULL
"""

FIND = """
SELECT id FROM teleop_session s
 WHERE deleted_at IS NULL
   AND (%(unfinished)s OR status <> 'recording')
   AND (%(robot_id)s::text IS NULL OR robot_id = %(robot_id)s)
   AND (%(robot_type)s::text IS NULL OR robot_type = %(robot_type)s)
   AND (%(task)s::text IS NULL OR task = %(task)s
        OR EXISTS (SELECT FROM episode e WHERE e.session_id = s.id AND e.task = %(task)s))
   AND (%(outcome)s::text IS NULL
        OR EXISTS (SELECT FROM episode e WHERE e.session_id = s.id
                   AND coalesce(e.outcome, 'unlabelled') = %(outcome)s)
        OR %(outcome)s = 'unlabelled' AND NOT EXISTS (SELECT FROM episode e WHERE e.session_id = s.id))
   AND tags @> %(tags)s::text[]
   AND (%(since)s::timestamptz IS NULL OR start_time >= %(since)s)
   AND (%(until)s::timestamptz IS NULL OR start_time < %(until)s)
 ORDER BY id LIMIT %(limit)s
"""

EPISODES = """
SELECT session_id, episode_index, start_frame, end_frame, task, outcome
  FROM episode WHERE session_id = ANY(%s) ORDER BY session_id, episode_index
"""

GAPS = """
SELECT session_id, first_frame, end_frame, reason
  FROM frame_gap WHERE session_id = ANY(%s) ORDER BY session_id, first_frame
"""

COUNT_FRAMES = "SELECT count(*) AS frames FROM teleop_frame WHERE session_id = %s AND frame_index < %s"

FIND_HOLES = """
SELECT first_frame, end_frame
  FROM (SELECT frame_index + 1 AS first_frame,
               lead(frame_index, 1, %(watermark)s) OVER (ORDER BY frame_index) AS end_frame
          FROM (SELECT -1::bigint AS frame_index
                 UNION ALL
                SELECT frame_index FROM teleop_frame
                 WHERE session_id = %(session_id)s AND frame_index < %(watermark)s) AS stored) AS steps
 WHERE end_frame > first_frame ORDER BY first_frame
"""


class SessionTable:
    """Reads `teleop_session` and what belongs to it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, wanted: SessionFilter, *, unfinished: bool, limit: int) -> tuple[int, ...]:
        """The sessions that pass the filter, oldest first.

        unfinished  also those that are still being recorded
        raises      NothingToExport, BadInput if they are more than `limit`
        """
        values = {**structs.asdict(wanted), "tags": list(wanted.tags)}
        async with connect(self._pool) as connection:
            cursor = await connection.execute(FIND, {**values, "unfinished": unfinished, "limit": limit + 1})
            rows = await cursor.fetchall()
        if not rows:
            raise NothingToExport("no session passes the filter", field="filter")
        if len(rows) > limit:
            raise BadInput(
                f"more than {limit} sessions pass the filter",
                field="filter",
                limit=limit,
                hint="export them in parts, by from and to for example",
            )
        return tuple(row["id"] for row in rows)

    async def read(self, session_ids: Sequence[int], cameras: Collection[str] | None = None) -> list[Session]:
        """The sessions in the order asked for, all as of one moment.

        cameras  whose footage to look at; None: all
        raises   SessionNotFound, SessionArchived, VideoDiffers
        """
        async with connect(self._pool) as connection, connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            return await _read(connection, session_ids, cameras)


async def _read(
    connection: Connection, session_ids: Sequence[int], cameras: Collection[str] | None
) -> list[Session]:
    wanted = list(session_ids)
    rows = await _fetch(connection, SESSIONS, wanted)
    missing = [each for each in wanted if each not in {row["id"] for row in rows}]
    if missing:
        raise SessionNotFound.of(*missing, field="session_ids")
    archived = [row["id"] for row in rows if row["archived"]]
    if archived:
        raise SessionArchived(
            f"frames of session {', '.join(str(each) for each in archived)} have left the database",
            field="session_ids",
            hint="python -m telemetry_service.archive restore --session N, then ask for the export again",
        )
    episodes = await _fetch(connection, EPISODES, wanted)
    gaps = await _fetch(connection, GAPS, wanted)
    found = {row["id"]: await _session(connection, row, episodes, gaps, cameras) for row in rows}
    return [found[each] for each in wanted]


async def _session(
    connection: Connection,
    row: DictRow,
    episodes: list[DictRow],
    gaps: list[DictRow],
    cameras: Collection[str] | None,
) -> Session:
    watermark = row["next_frame_index"]
    named = [
        Hole(gap["first_frame"], gap["end_frame"], gap["reason"])
        for gap in gaps
        if gap["session_id"] == row["id"]
    ]
    counted = await (await connection.execute(COUNT_FRAMES, [row["id"], watermark])).fetchone()
    assert counted is not None  # noqa: S101
    holes = await _holes(connection, row["id"], watermark, counted["frames"], named)
    return Session(
        id=row["id"],
        robot_type=row["robot_type"],
        fps=row["fps"],
        task=row["task"],
        state_names=tuple(row["state_names"]),
        action_names=tuple(row["action_names"]),
        status=row["status"],
        watermark=watermark,
        committed=counted["frames"],
        episodes=tuple(
            EpisodeRow(
                each["episode_index"], each["start_frame"], each["end_frame"], each["task"], each["outcome"]
            )
            for each in episodes
            if each["session_id"] == row["id"]
        ),
        holes=holes,
        footage=await _footage(connection, row, holes, cameras),
        cameras=tuple(sorted(row["cameras"])),
    )


async def _footage(
    connection: Connection, row: DictRow, holes: Sequence[Hole], cameras: Collection[str] | None
) -> dict[str, Footage]:
    """What each camera of the session has recorded, if any of it can be used."""
    if cameras is not None and not cameras:
        return {}
    chunks = {
        camera: rows
        for camera, rows in (await read_chunks(connection, row["id"])).items()
        if (cameras is None or camera in cameras) and usable(rows)
    }
    if not chunks:
        return {}
    sample_us = None
    if any(goes_by_time(usable(rows)) for rows in chunks.values()):
        index, sample_us = await read_sample_times(connection, row["id"], row["next_frame_index"])
    else:
        index = _stored_index(row["next_frame_index"], holes)

    def look(camera: str, rows: Sequence[Chunk]) -> Footage:
        return look_at_footage(camera, row["id"], rows, index=index, sample_us=sample_us, loop_fps=row["fps"])

    return {camera: await asyncio.to_thread(look, camera, rows) for camera, rows in chunks.items()}


def _stored_index(watermark: int, holes: Sequence[Hole]) -> Integers:
    """Index of every sample below the watermark that is not in a hole."""
    stored = np.ones(watermark, np.bool_)
    for hole in holes:
        stored[hole.first : hole.end] = False
    return np.flatnonzero(stored)


async def _holes(
    connection: Connection, session_id: int, watermark: int, committed: int, named: list[Hole]
) -> tuple[Hole, ...]:
    """The session's holes; the frames themselves are looked through only if the named gaps do not explain how
    many there are."""
    if committed == watermark - sum(hole.end - hole.first for hole in named):
        return tuple(named)
    cursor = await connection.execute(FIND_HOLES, {"session_id": session_id, "watermark": watermark})
    holes = [(row["first_frame"], row["end_frame"]) for row in await cursor.fetchall()]
    return tuple(name_holes(holes, named))


async def _fetch(connection: Connection, query: str, session_ids: list[int]) -> list[DictRow]:
    return await (await connection.execute(query, [session_ids])).fetchall()
