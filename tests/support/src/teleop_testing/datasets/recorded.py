"""Sessions in the database as telemetry-service leaves them, without a robot that has to record them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from teleop_schema.columns import pack_values

NAMES = ("shoulder_pan.pos", "elbow_flex.pos", "gripper.pos")
STARTED = "2026-01-05T10:00:00Z"
ROBOT_TYPE = "so101_follower"
# All sessions are so old that they may leave the database; the next one opens another partition.
OLD = (
    "UPDATE teleop_session SET last_commit_at = now() - interval '31 days', logged_frames = next_frame_index"
)
NEXT_PARTITION = "ALTER TABLE teleop_session ALTER COLUMN id RESTART WITH 1000"

SESSION = """
INSERT INTO teleop_session (stream_id, robot_id, robot_type, start_time, fps, task, state_names, action_names,
                            delivery, status, next_frame_index, cameras)
VALUES (gen_random_uuid(), %s, %s, %s, %s, %s, %s, %s, 'acknowledged', %s, %s, %s)
RETURNING id
"""
STORE_EPISODE = """
INSERT INTO episode (session_id, episode_index, start_frame, end_frame, task, outcome)
VALUES (%s, %s, %s, %s, %s, %s)
"""
# Every value differs from those of the frames around it and from its neighbours in the frame.
JUDGE = """
UPDATE episode SET operator = %s, reason = %s, quality = %s, tags = %s
 WHERE session_id = %s AND episode_index = %s
"""
FRAMES = """
INSERT INTO teleop_frame (session_id, frame_index, "timestamp", state, action, extra, observation_age_us)
SELECT %(session)s, g, %(started)s::timestamptz + g * interval '1 second' / %(hz)s
                        + (SELECT coalesce(sum(seconds), 0) FROM unnest(%(at)s::bigint[], %(still)s::float8[])
                                                              AS stall (frame, seconds)
                            WHERE g >= frame) * interval '1 second', {state}, {action}, NULL,
       CASE WHEN g %% %(observed)s > 0 THEN (g %% %(observed)s * 1000000 / %(hz)s)::bigint END
  FROM generate_series(0, %(frames)s - 1) AS g WHERE g <> ALL(%(absent)s::bigint[])
"""
VALUE = "(sin(g * {} + {}) * 90)::real"
STEP, WIDTH = 0.011, 0.37


def record_session(
    database_url: str,
    frames: int,
    *,
    episodes: Sequence[tuple[Any, ...]] = (),
    pauses: Sequence[tuple[int, int]] = (),
    gaps: Sequence[tuple[int, int, str]] = (),
    lost: Sequence[int] = (),
    fps: float = 60.0,
    hz: float | None = None,
    stalls: Sequence[tuple[int, float]] = (),
    observed: int = 1,
    names: Sequence[str] = NAMES,
    actions: Sequence[str] | None = None,
    task: str | None = None,
    status: str = "complete",
    robot_id: str = "robot_A",
    robot_type: str = ROBOT_TYPE,
    cameras: Sequence[str] = (),
) -> int:
    """Store a session and return its number.

    episodes  (first, end, task, outcome), the last two as far as they are given
    pauses    (first, end) of episode 0: frames that LeRobot's dataset did not take
    gaps      (first, end, reason): frames that are missing, and named
    lost      frames that nobody knows of
    fps, hz   the declared loop rate, and that at which it really ran, if it is another
    observed  every so many frames have an observation of their own
    stalls    (frame, seconds): for so long the loop stood still before that frame
    cameras   that the robot had; `record_video` brings their video
    """
    actions = names if actions is None else actions
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("INSERT INTO robot VALUES (%s, %s) ON CONFLICT DO NOTHING", [robot_id, robot_type])
        vectors = list(names), list(actions)
        declared = Jsonb({camera: {"height": 48, "width": 64, "fps": 30.0} for camera in cameras})
        about = (robot_id, robot_type, STARTED, fps, task, *vectors, status, frames, declared)
        row = connection.execute(SESSION, about).fetchone()
        assert row is not None
        session: int = row[0]
        connection.execute("SELECT ensure_frame_partition(%s)", [session])
        absent = [index for first, end, _ in gaps for index in range(first, end)] + list(lost)
        connection.execute(
            sql.SQL(FRAMES).format(state=_vector(len(names), 0.0), action=_vector(len(actions), 0.19)),
            {
                "session": session,
                "started": STARTED,
                "hz": hz or fps,
                "at": [frame for frame, _ in stalls],
                "still": [seconds for _, seconds in stalls],
                "frames": frames,
                "observed": observed,
                "absent": absent,
            },
        )
        _record_events(connection, session, episodes, pauses, gaps)
    return session


def judge_episode(
    database_url: str,
    session: int,
    episode_index: int,
    *,
    operator: str | None = None,
    reason: str | None = None,
    quality: int | None = None,
    tags: Sequence[str] | None = None,
) -> None:
    """What people say of an episode beside its outcome."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        told = (operator, reason, quality, None if tags is None else list(tags))
        connection.execute(JUDGE, (*told, session, episode_index))


def _record_events(
    connection: psycopg.Connection[Any],
    session: int,
    episodes: Sequence[tuple[Any, ...]],
    pauses: Sequence[tuple[int, int]],
    gaps: Sequence[tuple[int, int, str]],
) -> None:
    told = [(session, index, *(*each, None, None)[:4]) for index, each in enumerate(episodes)]
    with connection.cursor() as cursor:
        cursor.executemany(STORE_EPISODE, told)
        cursor.executemany(
            "INSERT INTO episode_pause VALUES (%s, %s, %s, 0)", [(session, *each) for each in pauses]
        )
        cursor.executemany("INSERT INTO frame_gap VALUES (%s, %s, %s, %s)", [(session, *gap) for gap in gaps])


def record_columns(
    database_url: str,
    session: int,
    columns: Mapping[str, tuple[Sequence[int], npt.NDArray[Any]]],
    names: Mapping[str, Any] | None = None,
) -> None:
    """Give frames of a session values beyond state and action.

    columns  name -> frames that have a value of it, and these values, (frames, *shape), or texts, (frames, 1)
    names    of a column's values, where it has any
    """
    packed: dict[int, tuple[dict[int, bytes], dict[int, bytes]]] = {}
    with psycopg.connect(database_url, autocommit=True) as connection, connection.cursor() as cursor:
        for position, (name, (frames, values)) in enumerate(columns.items()):
            told = Jsonb(names[name]) if names and name in names else None
            text = values.dtype.kind == "U"
            dtype = "string" if text else values.dtype.name
            about = [session, position, name, dtype, list(values.shape[1:]), told]
            cursor.execute("INSERT INTO session_column VALUES (%s, %s, %s, %s, %s, %s)", about)
            for frame, value in zip(frames, values, strict=True):
                content = value.item().encode() if text else np.ascontiguousarray(value).tobytes()
                packed.setdefault(frame, ({}, {}))[text][position] = content
        cursor.executemany(
            "UPDATE teleop_frame SET columns = %s WHERE session_id = %s AND frame_index = %s",
            [(pack_values(*values), session, frame) for frame, values in packed.items()],
        )


def _vector(width: int, phase: float) -> sql.Composed:
    """A vector of float32, as SQL of the frame `g`."""
    values = [sql.SQL(VALUE).format(STEP, phase + joint * WIDTH) for joint in range(width)]
    return sql.SQL("ARRAY[{}]::real[]").format(sql.SQL(", ").join(values))
