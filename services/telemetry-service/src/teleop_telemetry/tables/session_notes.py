"""Notes in the store about all sessions, for a new database.

A note contains a session's name, how it was recorded, which cameras it had and, once it has ended, how many
frames its robot logged. It is written before anybody learns of the session, and again at its end.
"""

from teleop_runtime.postgres.noting import note_all
from teleop_runtime.postgres.pool import Connection, Pool, transaction
from teleop_runtime.store import Store, read_notes
from teleop_schema.errors import StorageUnavailable

FOLDER = "sessions/known"
# How far the notes may lag behind the database.
NOTE_EVERY_S = 60.0
# A note is written to the store meanwhile.
TIMEOUT_S = 60.0

TOLD = """
SELECT jsonb_build_object(
           'id', id, 'stream_id', stream_id, 'robot_id', robot_id, 'robot_type', robot_type,
           'start_time', start_time, 'fps', fps, 'task', task, 'state_names', state_names,
           'action_names', action_names, 'cameras', cameras, 'host', host, 'delivery', delivery,
           'operator', operator, 'secret_sha256', secret_sha256, 'end_time', end_time,
           'logged_frames', logged_frames, 'imported_from', imported_from)::text
  FROM teleop_session WHERE id = $1
"""
NOTED = "UPDATE teleop_session SET noted_at = now() WHERE id = $1 RETURNING id"
UNNOTED = "SELECT id FROM teleop_session WHERE noted_at IS NULL ORDER BY id LIMIT $1"

SEE_ROBOT = """
INSERT INTO robot (robot_id, robot_type)
SELECT robot_id, robot_type FROM jsonb_populate_record(NULL::teleop_session, $1::jsonb)
ON CONFLICT DO NOTHING
"""

FIND = """
INSERT INTO teleop_session (id, stream_id, robot_id, robot_type, start_time, fps, task, state_names,
                            action_names, cameras, host, operator, delivery, secret_sha256, end_time,
                            logged_frames, imported_from, status, noted_at, found_at)
OVERRIDING SYSTEM VALUE
SELECT id, stream_id, robot_id, robot_type, start_time, fps, task, state_names,
       action_names, cameras, host, operator, delivery, secret_sha256, end_time, logged_frames,
       imported_from, 'interrupted', now(), now()
  FROM jsonb_populate_record(NULL::teleop_session, $1::jsonb) AS told
 WHERE NOT EXISTS (SELECT FROM erasure e WHERE e.stream_id = told.stream_id)
ON CONFLICT DO NOTHING
RETURNING id
"""


async def note_session(connection: Connection, store: Store, session_id: int) -> None:
    """Write the note of a session, on a connection that sees it; raises StorageUnavailable."""
    told = await connection.fetchval(TOLD, session_id)
    if told is None:
        return  # the session was erased meanwhile
    try:
        await store.set_note(f"{FOLDER}/{session_id}", told.encode())
    except OSError as error:
        raise StorageUnavailable(f"the file store can't be written: {error}") from error
    if await connection.fetchval(NOTED, session_id) is None:
        await forget_note(store, session_id)  # the same, between the two


async def forget_note(store: Store, session_id: int) -> None:
    """Remove the note of a session; raises StorageUnavailable."""
    try:
        await store.remove_note(f"{FOLDER}/{session_id}")
    except OSError as error:
        raise StorageUnavailable(f"the file store can't be written: {error}") from error


async def note_all_sessions(pool: Pool, store: Store) -> None:
    """Write missing notes of sessions, from a release or a time without notes."""

    async def note(connection: Connection, session_id: int) -> None:
        await note_session(connection, store, session_id)

    await note_all(pool, _unnoted, note, timeout_s=TIMEOUT_S)


async def _unnoted(connection: Connection, limit: int) -> list[int]:
    return [row["id"] for row in await connection.fetch(UNNOTED, limit)]


async def find_sessions(pool: Pool, store: Store) -> int:
    """Take sessions over from the store; returns how many. The database has no frames of them yet.

    They keep their numbers. A robot that still has their frames continues them.
    """
    names = [name async for name in store.list_notes(FOLDER)]
    # The highest first: if a robot tried twice to open a session, only the last number counts.
    names.sort(key=lambda name: int(name.rpartition("/")[2]), reverse=True)
    found = 0
    async for _, told in read_notes(store, names):
        async with transaction(pool, timeout_s=TIMEOUT_S) as connection:
            await connection.execute(SEE_ROBOT, told.decode())
            found += await connection.fetchval(FIND, told.decode()) is not None
    return found
