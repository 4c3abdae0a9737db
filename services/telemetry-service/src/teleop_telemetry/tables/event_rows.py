"""Events as rows of `episode`, `episode_pause`, `session_mark`, `session_column`, and what sessions tell of
cameras and features that they lack; storing one twice changes nothing."""

from collections.abc import Iterable, Sequence

import msgspec
from teleop_runtime.postgres.pool import Connection
from teleop_schema.columns import Column
from teleop_schema.messages import Event

from teleop_telemetry.tables.views import MAX_PAUSES, EpisodeView

# A start that is told again, after a reconnect, must not undo what a person has changed since. But if
# somebody has judged the whole of a session whose robot comes back, these are its episodes.
START_EPISODES = """
INSERT INTO episode AS e (session_id, episode_index, start_frame, task, end_told)
SELECT DISTINCT ON (session_id, episode_index) session_id, episode_index, first_frame, nullif(task, ''), false
  FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::text[]) WITH ORDINALITY
       AS told(session_id, episode_index, first_frame, task, number)
 ORDER BY session_id, episode_index, number
ON CONFLICT (session_id, episode_index) DO UPDATE
   SET start_frame = EXCLUDED.start_frame, end_frame = NULL, whole = NULL
 WHERE e.whole
"""

# Counted, so that whoever judges by what was told before learns of it.
NEXT_REVISION = """
greatest(e.told_revision, (SELECT max(c.revision) FROM episode_change c
                            WHERE c.session_id = e.session_id AND c.episode_index = e.episode_index), 0) + 1
"""

# The first value stays, so that a robot's resend does not undo a task that a person has set since.
CHANGE_TASKS = f"""
UPDATE episode e
   SET later_tasks = told.tasks || coalesce(e.later_tasks, '{{}}'), told_revision = {NEXT_REVISION}
  FROM (SELECT session_id, episode_index, jsonb_object_agg(frame_index, nullif(task, '')) AS tasks
          FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::text[])
               AS each(session_id, episode_index, frame_index, task)
         GROUP BY session_id, episode_index) AS told
 WHERE e.session_id = told.session_id AND e.episode_index = told.episode_index
   AND e.later_tasks IS DISTINCT FROM told.tasks || coalesce(e.later_tasks, '{{}}')
"""  # noqa: S608

# A person's word about where it ends, as long as nobody has taken it back.
TRIMMED = """
EXISTS (SELECT FROM episode_change c
         WHERE c.session_id = e.session_id AND c.episode_index = e.episode_index AND c.undoes IS NULL
           AND c.after->'end_frame' = to_jsonb(e.end_frame))
"""

# Told once: a robot's resend does not undo what a person has said since. Before that, it may have ended where
# its session was interrupted, or a person may have trimmed it, which stays. What a person judged while it was
# recorded stays, unless the robot tells otherwise at its end. The end that was told is what people go back to
# when they take their trimming back.
END_EPISODES = f"""
WITH told AS (
    SELECT * FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::text[], $5::text[], $6::text[])
                  AS told(session_id, episode_index, frame_index, task, outcome, note)
), taken_back AS (
    UPDATE episode_change c
       SET before = c.before || jsonb_build_object('end_frame', greatest(told.frame_index, e.start_frame))
      FROM told JOIN episode e USING (session_id, episode_index)
     WHERE c.session_id = e.session_id AND c.episode_index = e.episode_index AND e.end_told IS FALSE
       AND c.before->'end_frame' = (SELECT first.before->'end_frame' FROM episode_change first
                                     WHERE first.session_id = c.session_id
                                       AND first.episode_index = c.episode_index
                                       AND first.before ? 'end_frame'
                                     ORDER BY first.revision LIMIT 1)
)
UPDATE episode e
   SET end_frame = CASE WHEN {TRIMMED} THEN e.end_frame ELSE greatest(told.frame_index, e.start_frame) END,
       end_told = true, cut_off = NULL,
       outcome = coalesce(told.outcome, e.outcome),
       reason = CASE WHEN coalesce(told.outcome, e.outcome) = e.outcome THEN e.reason END,
       task = coalesce(nullif(told.task, ''), e.task), note = coalesce(nullif(told.note, ''), e.note),
       told_revision = CASE WHEN told.outcome <> coalesce(e.outcome, '')
                              OR nullif(told.task, '') <> coalesce(e.task, '')
                              OR nullif(told.note, '') <> coalesce(e.note, '')
                            THEN {NEXT_REVISION} ELSE e.told_revision END
  FROM told
 WHERE e.session_id = told.session_id AND e.episode_index = told.episode_index
   AND (e.end_told IS FALSE OR e.end_told IS NULL AND e.end_frame IS NULL)
"""  # noqa: S608

STORE_PAUSES = """
INSERT INTO episode_pause (session_id, first_frame, end_frame, episode_index)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::int[]) ON CONFLICT DO NOTHING
"""

# The latest, in whatever order they are told; `episode_overview` knows whether it has ended since.
BEGIN_PAUSES = """
UPDATE episode e
   SET paused_from = greatest(e.paused_from, told.first_frame)
  FROM (SELECT session_id, episode_index, max(first_frame) AS first_frame
          FROM unnest($1::bigint[], $2::bigint[], $3::int[]) AS each(session_id, first_frame, episode_index)
         GROUP BY session_id, episode_index) AS told
 WHERE e.session_id = told.session_id AND e.episode_index = told.episode_index
"""

STORE_MARKS = """
INSERT INTO session_mark (session_id, frame_index, note)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[]) ON CONFLICT DO NOTHING
"""

STORE_COLUMNS = """
INSERT INTO session_column (session_id, position, name, dtype, shape, names)
SELECT session_id, c.position, c.name, c.dtype, c.shape, c.names
  FROM unnest($1::bigint[], $2::jsonb[]) AS told(session_id, content),
       jsonb_to_record(told.content) AS c(position int, name text, dtype text, shape int[], names jsonb)
    ON CONFLICT DO NOTHING
"""

# As if the robot had known it when the session began; from now on nobody waits for that camera's video. The
# first reason stays, because if the recorder is killed later, its shipper knows less.
LEAVE_OUT_CAMERAS = """
UPDATE teleop_session s
   SET cameras = s.cameras - told.cameras,
       host = s.host || jsonb_build_object(
           'cameras_not_recorded', told.why || coalesce(s.host->'cameras_not_recorded', '{}'))
  FROM (SELECT session_id, array_agg(camera) AS cameras, jsonb_object_agg(camera, why) AS why
          FROM unnest($1::bigint[], $2::text[], $3::text[]) AS each(session_id, camera, why)
         GROUP BY session_id) AS told
 WHERE s.id = told.session_id
"""

# The description of a session contains its host; this part is known only with the first frame
# that the command's dataset takes.
LEAVE_OUT_FEATURES = """
UPDATE teleop_session s
   SET host = s.host || jsonb_build_object(
           'features_not_recorded', told.why || coalesce(s.host->'features_not_recorded', '{}'))
  FROM (SELECT session_id, jsonb_object_agg(feature, why) AS why
          FROM unnest($1::bigint[], $2::text[], $3::text[]) AS each(session_id, feature, why)
         GROUP BY session_id) AS told
 WHERE s.id = told.session_id
"""

READ_COLUMNS = """
SELECT to_jsonb(c) - 'session_id' FROM session_column c WHERE session_id = $1 ORDER BY position
"""

READ_EPISODES = """
SELECT to_jsonb(e) - 'session_id' || to_jsonb(paused)
  FROM episode_overview e,
       episode_pauses(e.session_id, e.episode_index, e.start_frame, e.end_frame, $2) AS paused
 WHERE session_id = $1 ORDER BY episode_index
"""

READ_EPISODE = """
SELECT to_jsonb(e) - 'session_id' || to_jsonb(paused)
  FROM every_episode e,
       episode_pauses(e.session_id, e.episode_index, e.start_frame, e.end_frame, $3) AS paused
 WHERE session_id = $1 AND episode_index = $2
"""

# Never before its start, and where a pause lasts, before the pause: nobody saved what followed. A session
# that was interrupted and then went on has closed its last episode before.
CLOSE_EPISODES = f"""
UPDATE episode e
   SET end_frame = greatest(e.start_frame, least($2, told.paused_from)), cut_off = $3 AND e.whole IS NOT TRUE
  FROM episode_overview told
 WHERE e.session_id = $1
   AND (e.end_frame IS NULL
        OR (e.whole OR e.cut_off AND e.end_told IS FALSE)
           AND NOT {TRIMMED}
           AND NOT EXISTS (SELECT FROM episode n WHERE n.session_id = $1 AND n.start_frame > e.start_frame))
   AND told.session_id = e.session_id AND told.episode_index = e.episode_index
"""  # noqa: S608


async def close_episodes(connection: Connection, session_id: int, frames: int, *, interrupted: bool) -> None:
    """End an episode that a session left open where the session ends, or where the pause began in which it
    ends, in the transaction of `connection`."""
    await connection.execute(CLOSE_EPISODES, session_id, frames, interrupted)


async def read_columns(connection: Connection, session_id: int) -> list[Column]:
    """Columns of a session beyond state and action, by position."""
    rows = await connection.fetch(READ_COLUMNS, session_id)
    return [msgspec.json.decode(row[0], type=Column) for row in rows]


async def read_episodes(connection: Connection, session_id: int) -> list[EpisodeView]:
    """The episodes that the session's robot has told, in order."""
    rows = await connection.fetch(READ_EPISODES, session_id, MAX_PAUSES)
    return [msgspec.json.decode(row[0], type=EpisodeView) for row in rows]


async def read_episode(connection: Connection, session_id: int, episode_index: int) -> EpisodeView | None:
    """The session's episode of that number; 0 is all of an ended session whose robot told none."""
    told = await connection.fetchval(READ_EPISODE, session_id, episode_index, MAX_PAUSES)
    return None if told is None else msgspec.json.decode(told, type=EpisodeView)


async def store_events(connection: Connection, events: Sequence[tuple[int, Event]]) -> None:
    """Apply events, each with its session's id, in the transaction that `connection` is in."""
    columns = [(session, event.column) for session, event in events if event.column]
    marks = [(session, event) for session, event in events if event.kind == "mark"]
    await _apply(
        connection,
        STORE_COLUMNS,
        [(session, msgspec.json.encode(column).decode()) for session, column in columns],
    )
    await _apply(
        connection,
        LEAVE_OUT_CAMERAS,
        _reasons((session, event.camera, event.note) for session, event in events if event.camera),
    )
    await _apply(
        connection,
        LEAVE_OUT_FEATURES,
        _reasons((session, event.feature, event.note) for session, event in events if event.feature),
    )
    await _store_episodes(connection, events)
    await _store_pauses(connection, events)
    await _apply(
        connection,
        STORE_MARKS,
        [(session, event.frame_index, event.note or "") for session, event in marks],
    )


def _reasons(told: Iterable[tuple[int, str, str | None]]) -> list[tuple[int, str, str]]:
    """The first reason for each session and name."""
    first: dict[tuple[int, str], str] = {}
    for session, name, why in told:
        first.setdefault((session, name), why or "")
    return [(*whose, why) for whose, why in first.items()]


async def _store_episodes(connection: Connection, events: Sequence[tuple[int, Event]]) -> None:
    starts = [(session, event) for session, event in events if event.kind == "episode_start"]
    tasks = [(session, event) for session, event in events if event.kind == "episode_task"]
    # The first end that was told is the one that counts, of an episode as of all its tellings.
    ends = list(
        {
            (session, event.episode_index): (session, event)
            for session, event in reversed(events)
            if event.kind == "episode_end"
        }.values()
    )
    await _apply(
        connection,
        START_EPISODES,
        [(session, event.episode_index, event.frame_index, event.task) for session, event in starts],
    )
    await _apply(
        connection,
        CHANGE_TASKS,
        [(session, event.episode_index, event.frame_index, event.task) for session, event in tasks],
    )
    await _apply(
        connection,
        END_EPISODES,
        [
            (session, event.episode_index, event.frame_index, event.task, event.outcome, event.note)
            for session, event in ends
        ],
    )


async def _store_pauses(connection: Connection, events: Sequence[tuple[int, Event]]) -> None:
    pauses = [(session, event) for session, event in events if event.kind == "episode_pause"]
    await _apply(
        connection,
        STORE_PAUSES,
        [
            (session, event.frame_index, event.end_frame, event.episode_index)
            for session, event in pauses
            if not event.is_lasting_pause
        ],
    )
    await _apply(
        connection,
        BEGIN_PAUSES,
        [
            (session, event.frame_index, event.episode_index)
            for session, event in pauses
            if event.is_lasting_pause
        ],
    )


async def _apply(connection: Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Execute a statement, if there are rows, with an array of each of their columns."""
    if rows:
        await connection.execute(statement, *map(list, zip(*rows, strict=True)))
