"""The share of telemetry-service: frames, archive, everything else that is known of a session, and its row.

It comes last, once no export and no video refers to the session any more.
"""

from uuid import NAMESPACE_URL, uuid5

from teleop_runtime.postgres.erasing import Share
from teleop_runtime.postgres.pool import Connection, Pool, transaction
from teleop_runtime.store import Store
from teleop_schema.errors import StorageUnavailable

from teleop_telemetry.archive import archive_table
from teleop_telemetry.archive.session_files import is_here, names_of
from teleop_telemetry.tables.session_notes import forget_note

# Frames of one transaction: half a second, in which nothing else waits.
FRAMES_TOGETHER = 50_000
# Time limit for one of them, on a busy disk, and for files of a slow bucket.
STEP_TIMEOUT_S = 120.0

DELETE_FRAMES = """
DELETE FROM teleop_frame
 WHERE session_id = $1
   AND frame_index < $2 + (SELECT min(frame_index) FROM teleop_frame WHERE session_id = $1)
"""

# Whoever takes the session up, or restores its frames, has locked it.
LOCK_SESSION = "SELECT FROM teleop_session WHERE id = $1 AND stream_id = $2 FOR UPDATE"
ANY_FRAME = "SELECT EXISTS (SELECT FROM teleop_frame WHERE session_id = $1)"

# Sessions with the same frames share their file.
ARCHIVED = """
SELECT frames_sha256, about_sha256,
       EXISTS (SELECT FROM session_archive other
                WHERE other.frames_sha256 = a.frames_sha256 AND other.session_id <> a.session_id) AS shared
  FROM session_archive a WHERE session_id = $1
"""

# What people know it by in the account of an erasure, and the statement that removes it. With an episode goes
# what the services have worked out about it: looks and flags.
BELONGINGS = {
    "changes": "DELETE FROM episode_change WHERE session_id = $1",
    "session_changes": "DELETE FROM session_change WHERE session_id = $1",
    "episodes": "DELETE FROM episode WHERE session_id = $1",
    "pauses": "DELETE FROM episode_pause WHERE session_id = $1",
    "marks": "DELETE FROM session_mark WHERE session_id = $1",
    "gaps": "DELETE FROM frame_gap WHERE session_id = $1",
    "refusals": "DELETE FROM refused_frames WHERE session_id = $1",
    "columns": "DELETE FROM session_column WHERE session_id = $1",
    "accounts": "DELETE FROM session_account WHERE session_id = $1",
}
DELETE_ARCHIVE = "DELETE FROM session_archive WHERE session_id = $1"
FORGET_CLASH = """
UPDATE robot SET clashing_sessions = NULL, clashed_at = NULL
 WHERE robot_id = $2 AND $1 = ANY(clashing_sessions)
"""
DROP_VIEW = "SELECT drop_session_view($1)"
DELETE_SESSION = "DELETE FROM teleop_session WHERE id = $1"


class SessionEraser:
    """Erases sessions."""

    def __init__(self, pool: Pool, store: Store | None) -> None:
        """`store`: the archive, and the notes on sessions; None: there is none here."""
        self._pool = pool
        self._store = store

    async def erase(self, share: Share) -> None:
        """Do the share; raises StorageUnavailable while it can't be done."""
        session_id = share.session_id
        assert session_id is not None  # noqa: S101
        await self._erase_archive(share, session_id)
        while await self._erase_frames(share, session_id):
            pass
        await self._erase_session(share, session_id)

    async def _erase_archive(self, share: Share, session_id: int) -> None:
        """Remove the archived copy; its row goes last, so that what is left is found again."""
        async with transaction(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
            if not await archive_table.hold_lock(connection):
                raise StorageUnavailable("sessions are being archived; it goes on after that")
            await archive_table.lock_edits(connection)
            await self._remove_copy(connection, share, session_id)

    async def _remove_copy(self, connection: Connection, share: Share, session_id: int) -> None:
        archived = await connection.fetchrow(ARCHIVED, session_id)
        if archived is None and self._store is None:
            return
        if self._store is None or (archived is not None and not await is_here(connection, self._store)):
            raise StorageUnavailable("the session is archived, and the file store is not there")
        for name in names_of(share.robot_id, session_id):
            # What a process that was killed has left of making it.
            await self._store.discard(uuid5(NAMESPACE_URL, name))
            await self._store.unname(name)
        if archived is not None:
            objects = {archived["about_sha256"]}
            if not archived["shared"]:
                objects.add(archived["frames_sha256"])
            for sha256 in objects:
                await self._store.remove(sha256)
            await share.count(connection, "archived_files", len(objects))
            await connection.execute(DELETE_ARCHIVE, session_id)

    async def _erase_frames(self, share: Share, session_id: int) -> int:
        """How many frames were removed in this step."""
        async with transaction(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
            frames = _number(await connection.execute(DELETE_FRAMES, session_id, FRAMES_TOGETHER))
            await share.count(connection, "frames", frames)
        return frames

    async def _erase_session(self, share: Share, session_id: int) -> None:
        async with transaction(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
            known = await connection.fetchrow(LOCK_SESSION, session_id, share.stream_id) is not None
            if known:
                if await connection.fetchval(ANY_FRAME, session_id):
                    raise StorageUnavailable("frames of it are being restored; it goes on after that")
                for what, statement in BELONGINGS.items():
                    removed = _number(await connection.execute(statement, session_id))
                    await share.count(connection, what, removed)
                await connection.execute(FORGET_CLASH, session_id, share.robot_id)
                await connection.execute(DROP_VIEW, session_id)
                await connection.execute(DELETE_SESSION, session_id)
                await share.count(connection, "sessions", 1)
            if self._store is not None:
                await forget_note(self._store, session_id)
            await share.finish(connection)


def _number(command: str) -> int:
    """Rows that a statement changed, of what the server says about it ("DELETE 3")."""
    return int(command.rpartition(" ")[2])
