"""The session that an import makes, or goes on with, as rows. Every function works on its caller's
connection."""

import secrets
from uuid import UUID, uuid4

import msgspec
from teleop_runtime.postgres.pool import Connection
from teleop_schema.columns import Column
from teleop_schema.instants import instant_of

from teleop_telemetry.importing.plan import Plan

SEE_ROBOT = "INSERT INTO robot (robot_id, robot_type) VALUES ($1, $2) ON CONFLICT DO NOTHING"
# A secret that nobody has: no robot goes on with it.
CREATE = """
INSERT INTO teleop_session (id, stream_id, robot_id, robot_type, start_time, fps, task, state_names,
                            action_names, cameras, host, delivery, secret_sha256, untold_times, imported_from)
OVERRIDING SYSTEM VALUE
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::jsonb, '{}', 'acknowledged', $11, 0, $12::jsonb)
"""
ADD_COLUMN = """
INSERT INTO session_column (session_id, position, name, dtype, shape, names)
VALUES ($1, $2, $3, $4, $5, $6::jsonb)
"""
ADVANCE = """
UPDATE teleop_session
   SET next_frame_index = $3, last_commit_at = now(), last_frame_time = $4, status = 'recording',
       end_time = NULL, logged_frames = NULL
 WHERE id = $1 AND next_frame_index = $2
RETURNING id
"""
# Those of an earlier version stay, as people have judged and trimmed them since.
ADD_EPISODES = """
INSERT INTO episode (session_id, episode_index, start_frame, end_frame, task, later_tasks)
SELECT $1, * FROM unnest($2::int[], $3::bigint[], $4::bigint[], $5::text[], $6::jsonb[])
ON CONFLICT (session_id, episode_index) DO NOTHING
"""
END = """
UPDATE teleop_session
   SET status = $2, logged_frames = CASE WHEN $2 = 'complete' THEN next_frame_index END,
       end_time = coalesce(last_frame_time, start_time), imported_from = coalesce($3::jsonb, imported_from)
 WHERE id = $1
"""


async def create_session(
    connection: Connection, session_id: int, robot_id: str, plan: Plan, imported_from: dict[str, object]
) -> UUID:
    """Create it, without frames; returns its stream."""
    stream = uuid4()
    first = plan.episodes[0].tasks[0][1]
    alone = all(each.tasks == [(each.first, first)] for each in plan.episodes)
    await connection.execute(SEE_ROBOT, robot_id, plan.robot_type)
    await connection.execute(
        CREATE,
        session_id,
        stream,
        robot_id,
        plan.robot_type,
        instant_of(plan.first_us),
        plan.fps,
        first if alone else None,
        plan.state_names,
        plan.action_names,
        msgspec.json.encode(plan.session_cameras).decode(),
        secrets.token_bytes(32),
        msgspec.json.encode(imported_from).decode(),
    )
    for column in plan.columns:
        await _add_column(connection, session_id, column)
    return stream


async def _add_column(connection: Connection, session_id: int, column: Column) -> None:
    names = None if column.names is None else msgspec.json.encode(column.names).decode()
    about = column.position, column.name, column.dtype, list(column.shape), names
    await connection.execute(ADD_COLUMN, session_id, *about)


async def advance(connection: Connection, session_id: int, first: int, end: int, last_us: int) -> bool:
    """Move its watermark from `first` to `end`; False if it is elsewhere, or the session is gone."""
    return await connection.fetchval(ADVANCE, session_id, first, end, instant_of(last_us)) is not None


async def add_episodes(connection: Connection, session_id: int, plan: Plan) -> None:
    """Store those that it does not have yet."""
    later = [
        None if len(each.tasks) == 1 else msgspec.json.encode({str(at): task for at, task in each.tasks[1:]})
        for each in plan.episodes
    ]
    await connection.execute(
        ADD_EPISODES,
        session_id,
        list(range(len(plan.episodes))),
        [each.first for each in plan.episodes],
        [each.end for each in plan.episodes],
        [each.tasks[0][1] for each in plan.episodes],
        [told and told.decode() for told in later],
    )


async def end_session(
    connection: Connection, session_id: int, status: str, imported_from: dict[str, object] | None
) -> None:
    """It is complete, or interrupted; `imported_from`: what it says from now on, None: as before."""
    told = None if imported_from is None else msgspec.json.encode(imported_from).decode()
    await connection.execute(END, session_id, status, told)
