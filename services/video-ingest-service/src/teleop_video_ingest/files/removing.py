"""Removing a video chunk that somebody sent with wrong times, or for the wrong session."""

from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.pool import Pool, transaction
from teleop_runtime.store import Store

from teleop_video_ingest.errors import FramesTold
from teleop_video_ingest.files.chunk_notes import forget_note
from teleop_video_ingest.tables.object_table import lock_path
from teleop_video_ingest.tables.video_table import get_chunk, remove_chunk

log = get_logger(__name__)

# Waiting for another replica that stores a file at that path.
WRITE_TIMEOUT_S = 60.0


async def remove_video(pool: Pool, store: Store, video_id: int) -> None:
    """Remove a chunk, its note and its name, so that it can be sent again.

    Its bytes go later, unless something else refers to them.

    A chunk whose sender named the frame of each picture was not placed by its times, and stays.

    Raises VideoNotFound, FramesTold.
    """
    async with transaction(pool, timeout_s=WRITE_TIMEOUT_S) as connection:
        path = (await get_chunk(connection, video_id))["file_path"]
        # The chunk may be being sent again at this moment, to the same path.
        await lock_path(connection, path)
        if not await remove_chunk(connection, video_id):
            raise FramesTold(field="video_id")
        await forget_note(store, path)
        await store.unname(path)
    log.warning("video removed", path=path, id=video_id)
