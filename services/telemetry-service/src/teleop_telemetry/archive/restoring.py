"""Restores archived frames into the database, exactly as they were."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.concurrency import iterate_in_threadpool
from teleop_runtime.postgres.pool import Pool, connected, transaction
from teleop_schema.errors import NotFound

from teleop_telemetry.archive import archive_table
from teleop_telemetry.archive.frame_file import read_in_blocks
from teleop_telemetry.archive.lost import frames_of
from teleop_telemetry.archive.session_files import SessionFiles
from teleop_telemetry.frames.columns import COLUMNS, encode_tables
from teleop_telemetry.tables.lost_copies import archived_copy

# Time limit for one session: a day at 60 Hz has five million rows.
RESTORE_TIMEOUT_S = 3600.0


async def restore_session(pool: Pool, files: SessionFiles, session_id: int) -> int:
    """Restore a session; returns its number of frames, which stay in the database as long as new ones.

    The copy stays in the store. Raises NotFound if the session was not archived, ArchiveLost if the copy is
    damaged, NotAccounted if a frame would be missing.
    """
    async with connected(pool, timeout_s=RESTORE_TIMEOUT_S) as connection:
        found = await archived_copy(connection, session_id)
    if found is None:
        raise NotFound(f"no frames of session {session_id} have left the database", field="session_id")
    async with (
        frames_of(pool, files, found) as path,
        transaction(pool, timeout_s=RESTORE_TIMEOUT_S) as connection,
    ):
        copied = await archive_table.claim_for_restore(connection, session_id)
        await connection.copy_to_table(
            "teleop_frame", source=_rows(session_id, path), format="binary", columns=COLUMNS.names
        )
        await archive_table.note_restored(connection, copied)
    return copied.frames


async def restore_partition(pool: Pool, files: SessionFiles, part: int) -> int:
    """Restore all archived sessions of a partition; returns their number of frames."""
    async with connected(pool, timeout_s=RESTORE_TIMEOUT_S) as connection:
        sessions = await archive_table.archived_of(connection, part)
    if not sessions:
        raise NotFound(f"no sessions of partition {part} have left the database", field="partition")
    frames = 0
    for session_id in sessions:
        frames += await restore_session(pool, files, session_id)
        await asyncio.sleep(0)
    return frames


def _rows(session_id: int, path: Path) -> AsyncIterator[bytes]:
    return iterate_in_threadpool(encode_tables(session_id, read_in_blocks(path)))
