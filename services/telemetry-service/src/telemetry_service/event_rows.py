"""Events as rows of `episode`, `session_mark` and `session_column`; storing one twice changes nothing."""

from collections.abc import Sequence

import msgspec
from teleop_runtime.database import Connection
from teleop_schema.columns import Column
from teleop_schema.messages import Event

START_EPISODES = """
INSERT INTO episode (session_id, episode_index, start_frame, task)
SELECT * FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::text[])
ON CONFLICT (session_id, episode_index) DO NOTHING
"""

# An episode that has an end keeps it: what a person has trimmed since is not undone by a robot's resend.
END_EPISODES = """
UPDATE episode e
   SET end_frame = greatest(told.frame_index, e.start_frame), outcome = told.outcome,
       task = coalesce(told.task, e.task), note = coalesce(told.note, e.note)
  FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::text[], $5::text[], $6::text[])
       AS told(session_id, episode_index, frame_index, task, outcome, note)
 WHERE e.session_id = told.session_id AND e.episode_index = told.episode_index AND e.end_frame IS NULL
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

READ_COLUMNS = """
SELECT to_jsonb(c) - 'session_id' FROM session_column c WHERE session_id = $1 ORDER BY position
"""

CLOSE_EPISODES = """
UPDATE episode SET end_frame = greatest(start_frame, $2) WHERE session_id = $1 AND end_frame IS NULL
"""


async def close_episodes(connection: Connection, session_id: int, frames: int) -> None:
    """End an episode that a session left open where the session ends, in the transaction of `connection`."""
    await connection.execute(CLOSE_EPISODES, session_id, frames)


async def read_columns(connection: Connection, session_id: int) -> list[Column]:
    """Columns of a session beyond state and action, by position."""
    rows = await connection.fetch(READ_COLUMNS, session_id)
    return [msgspec.json.decode(row[0], type=Column) for row in rows]


async def store_events(connection: Connection, events: Sequence[tuple[int, Event]]) -> None:
    """Apply events, each with its session's id, in the transaction that `connection` is in."""
    starts = [(session, event) for session, event in events if event.kind == "episode_start"]
    # The first end that was told is the one that counts, of an episode as of all its tellings.
    ends = list(
        {
            (session, event.episode_index): (session, event)
            for session, event in reversed(events)
            if event.kind == "episode_end"
        }.values()
    )
    marks = [(session, event) for session, event in events if event.kind == "mark"]
    columns = [(session, event.column) for session, event in events if event.column]
    if columns:
        await connection.execute(
            STORE_COLUMNS,
            [session for session, _ in columns],
            [msgspec.json.encode(column).decode() for _, column in columns],
        )
    if starts:
        await connection.execute(
            START_EPISODES,
            [session for session, _ in starts],
            [event.episode_index for _, event in starts],
            [event.frame_index for _, event in starts],
            [event.task for _, event in starts],
        )
    if ends:
        await connection.execute(
            END_EPISODES,
            [session for session, _ in ends],
            [event.episode_index for _, event in ends],
            [event.frame_index for _, event in ends],
            [event.task for _, event in ends],
            [event.outcome for _, event in ends],
            [event.note for _, event in ends],
        )
    if marks:
        await connection.execute(
            STORE_MARKS,
            [session for session, _ in marks],
            [event.frame_index for _, event in marks],
            [event.note or "" for _, event in marks],
        )
