"""What the recorded sessions hold; the tables are telemetry-service's, here they are only read."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace

from psycopg.rows import DictRow
from teleop_schema.columns import Column
from teleop_schema.errors import SessionArchived, SessionNotFound

from teleop_export.planning.selection import SessionFilter
from teleop_export.sessions.finite import not_finite
from teleop_export.sessions.recorded import (
    CameraVideo,
    EpisodeRow,
    Gap,
    Judgement,
    Session,
    gaps_of,
    implausible,
    paces,
)
from teleop_export.sessions.video_chunks import VideoChunk, look_at_footage, usable
from teleop_export.tables.chunk_table import read_chunks, read_not_finite, read_samples
from teleop_export.tables.column_table import read_columns, read_values
from teleop_export.tables.database import Connection, PsycopgPool, connect
from teleop_export.tables.erasure_table import check_erased
from teleop_export.tables.finding import find_sessions
from teleop_export.timing.loop_times import ALL, Flags, SampleTimes, Which, loop_times
from teleop_export.timing.pace import Pace, measure
from teleop_export.timing.pauses import Pauses, in_spans

SESSIONS = """
SELECT id, robot_id, robot_type, fps, task, operator, state_names, action_names, status,
       greatest(next_frame_index, CASE WHEN found_at IS NOT NULL THEN logged_frames END) AS frames,
       ARRAY(SELECT jsonb_object_keys(cameras)) AS cameras,
       (extract(epoch FROM coalesce(last_commit_at, now())) * 1000000)::bigint AS committed_us,
       CASE WHEN delivery = 'acknowledged' THEN 0 ELSE untold_times END AS times_not_told,
       host->'cameras_not_recorded' AS cameras_left_out, host->'features_not_recorded' AS features_left_out,
       (SELECT coalesce(sum(frames), 0)::bigint FROM refused_frames r
         WHERE r.session_id = teleop_session.id) AS refused,
       EXISTS (SELECT FROM session_archive a
                WHERE a.session_id = teleop_session.id AND a.dropped_at IS NOT NULL) AS archived,
       (SELECT a.damage FROM session_archive a
         WHERE a.session_id = teleop_session.id AND a.dropped_at IS NOT NULL) AS archive_damage
  FROM teleop_session WHERE id = ANY(%s) AND deleted_at IS NULL
"""

EPISODES = """
SELECT session_id, episode_index, start_frame, coalesce(end_frame, paused_from) AS end_frame, task, outcome,
       tasks, cut_off, reason, quality, tags, operator
  FROM episode_overview WHERE session_id = ANY(%s) ORDER BY session_id, episode_index
"""

GAPS = """
SELECT session_id, first_frame, end_frame, reason
  FROM frame_gap WHERE session_id = ANY(%s) ORDER BY session_id, first_frame
"""


PAUSES = """
SELECT session_id, first_frame, end_frame FROM episode_pause WHERE session_id = ANY(%s)
"""


DEFAULT = Which()


class SessionReader:
    """Reads `teleop_session` and what belongs to it."""

    def __init__(self, pool: PsycopgPool) -> None:
        self._pool = pool

    async def find(
        self,
        wanted: SessionFilter,
        *,
        named: Sequence[int] | None,
        robot_ids: Collection[str] | None,
        unfinished: bool,
        limit: int,
    ) -> tuple[int, ...]:
        """The sessions that have episodes which pass the filter, as `named`, or else oldest first.

        named       the only sessions to look at; None: all
        robot_ids   the only robots whose sessions there are, for whoever asks; None: all
        unfinished  also those that are still being recorded
        raises      as `find_sessions`
        """
        async with connect(self._pool) as connection:
            return await find_sessions(
                connection,
                wanted,
                named=named,
                robot_ids=robot_ids,
                unfinished=unfinished,
                limit=limit,
            )

    async def read(
        self,
        session_ids: Sequence[int],
        cameras: Collection[str] | None = None,
        which: Which = DEFAULT,
    ) -> list[Session]:
        """The sessions in the order asked for, all as of one moment.

        cameras  whose footage to look at; None: all
        which    samples become rows
        raises   SessionNotFound, SessionErased, SessionArchived, VideoDiffers
        """
        async with connect(self._pool) as connection, connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            return await _read(connection, session_ids, cameras, which)


async def _read(
    connection: Connection,
    session_ids: Sequence[int],
    cameras: Collection[str] | None,
    which: Which,
) -> list[Session]:
    wanted = list(session_ids)
    rows = await _fetch(connection, SESSIONS, wanted)
    missing = [each for each in wanted if each not in {row["id"] for row in rows}]
    if missing:
        await check_erased(connection, missing)
        raise SessionNotFound.of(*missing, field="session_ids")
    _check_in_database(rows)
    episodes = await _fetch(connection, EPISODES, wanted)
    gaps = await _fetch(connection, GAPS, wanted)
    pauses = await _pauses(connection, wanted)
    columns = await read_columns(connection, wanted)
    found = {
        row["id"]: await _session(
            connection,
            row,
            episodes,
            gaps,
            pauses[row["id"]],
            columns.get(row["id"], ()),
            cameras,
            which,
        )
        for row in rows
    }
    return [found[each] for each in wanted]


def _check_in_database(rows: Sequence[DictRow]) -> None:
    """Raise SessionArchived if frames of a session are in the archive, or lost with it."""
    lost = [f"{row['id']} ({row['archive_damage']})" for row in rows if row["archive_damage"]]
    if lost:
        raise SessionArchived(
            f"the archive has lost the frames of session {', '.join(lost)}",
            field="session_ids",
            hint="leave it out, or put the archive's files back; its robot sends them again if it still has "
            "them; if nobody has them: POST /sessions/N/give-up-missing",
        )
    archived = [str(row["id"]) for row in rows if row["archived"]]
    if archived:
        raise SessionArchived(
            f"frames of session {', '.join(archived)} have left the database",
            field="session_ids",
            hint="python -m teleop_telemetry.archive restore --session N, then request the export again",
        )


async def _session(
    connection: Connection,
    row: DictRow,
    episodes: list[DictRow],
    gaps: list[DictRow],
    pauses: Pauses,
    columns: tuple[Column, ...],
    cameras: Collection[str] | None,
    which: Which,
) -> Session:
    watermark = row["frames"]
    samples = await read_samples(connection, row["id"], watermark)
    named = [
        Gap(gap["first_frame"], gap["end_frame"], gap["reason"])
        for gap in gaps
        if gap["session_id"] == row["id"]
    ]
    recorded = tuple(_episode(each) for each in episodes if each["session_id"] == row["id"])
    session = Session(
        id=row["id"],
        robot_id=row["robot_id"],
        robot_type=row["robot_type"],
        fps=row["fps"],
        task=row["task"],
        state_names=tuple(row["state_names"]),
        action_names=tuple(row["action_names"]),
        status=row["status"],
        watermark=watermark,
        committed=len(samples),
        episodes=recorded,
        gaps=gaps_of(samples.index, watermark, named),
        cameras=tuple(sorted(row["cameras"])),
        repeating=_left_out(samples, pauses, ~(samples.own | which.repeated)),
        unacted=_left_out(samples, pauses, (samples.own | which.repeated) & ~(samples.acted | which.unacted)),
        pauses=pauses,
        columns=columns,
        values=await read_values(connection, row["id"], watermark, columns, samples, which),
        not_recorded=_not_recorded(row),
        times_not_told=row["times_not_told"],
        implausible=implausible(samples.taken_us, row["committed_us"]),
        refused=row["refused"],
        judged=Judgement(operator=row["operator"]),
    )
    # The database looks for such values while this looks at the times.
    unfit, (pace, episodes_paces) = await asyncio.gather(
        read_not_finite(connection, session.id, watermark),
        asyncio.to_thread(_paces, session, samples, which),
    )
    session = replace(
        session,
        pace=pace,
        paces=episodes_paces,
        not_finite=not_finite(samples, unfit, _value_names(row), which),
    )
    return replace(session, footage=await _footage(connection, session, cameras, samples))


def _paces(session: Session, samples: SampleTimes, which: Which) -> tuple[Pace, dict[int | None, Pace]]:
    """Of the session, and of its episodes."""
    times = loop_times(samples.index, samples.taken_us)
    return measure(samples, times, ALL), paces(session, samples, times, which)


def _episode(row: DictRow) -> EpisodeRow:
    return EpisodeRow(
        row["episode_index"],
        row["start_frame"],
        row["end_frame"],
        row["task"],
        row["outcome"],
        tuple((each["first_frame"], each["task"]) for each in row["tasks"][1:]),
        row["cut_off"],
        Judgement(row["reason"], row["quality"], tuple(row["tags"]), row["operator"]),
    )


def _left_out(samples: SampleTimes, pauses: Pauses, left_out: Flags) -> list[int]:
    """Index of the samples that are left out, of those that belong to episodes at all."""
    found: list[int] = samples.index[left_out & ~in_spans(pauses.spans, samples.index)].tolist()
    return found


async def _pauses(connection: Connection, session_ids: list[int]) -> dict[int, Pauses]:
    rows = await _fetch(connection, PAUSES, session_ids)
    return {
        each: Pauses.of((row["first_frame"], row["end_frame"]) for row in rows if row["session_id"] == each)
        for each in session_ids
    }


def _not_recorded(row: DictRow) -> dict[str, str]:
    """By name of a dataset's feature; a host's description is free, and may hold anything by these names."""
    told: dict[str, str] = {}
    for prefix, left_out in (
        ("observation.images.", row["cameras_left_out"]),
        ("", row["features_left_out"]),
    ):
        if isinstance(left_out, dict):
            told |= {f"{prefix}{name}": str(why) for name, why in left_out.items()}
    return told


def _value_names(row: DictRow) -> list[str]:
    """Of state and action, in this order."""
    states = [f"observation {name}" for name in row["state_names"]]
    return states + [f"action {name}" for name in row["action_names"]]


async def _footage(
    connection: Connection,
    session: Session,
    cameras: Collection[str] | None,
    samples: SampleTimes,
) -> dict[str, CameraVideo]:
    """What each camera of the session has recorded, if any of it can be used."""
    if cameras is not None and not cameras:
        return {}
    chunks = {
        camera: rows
        for camera, rows in (await read_chunks(connection, session.id)).items()
        if (cameras is None or camera in cameras) and usable(rows)
    }

    def look(camera: str, rows: Sequence[VideoChunk]) -> CameraVideo:
        return look_at_footage(
            camera,
            session.id,
            rows,
            index=samples.index,
            sample_us=samples.taken_us,
            loop_fps=session.loop_hz,
        )

    return {camera: await asyncio.to_thread(look, camera, rows) for camera, rows in chunks.items()}


async def _fetch(connection: Connection, query: str, session_ids: list[int]) -> list[DictRow]:
    return await (await connection.execute(query, [session_ids])).fetchall()
