"""Chunks of a session that point to the mp4 files of the dataset that it was made of; nothing is copied."""

from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.erasing import check_session
from teleop_runtime.postgres.pool import Pool, connected, transaction
from teleop_runtime.store import ObjectMissing, Store
from teleop_schema.errors import SessionErased

from teleop_video_ingest.files.chunk_notes import forget_note, note_chunk
from teleop_video_ingest.files.probe import Prober
from teleop_video_ingest.model.tree import video_path
from teleop_video_ingest.model.worker_messages import Probed
from teleop_video_ingest.tables import import_table
from teleop_video_ingest.tables.import_table import ImportedVideo
from teleop_video_ingest.tables.object_table import lock_path

log = get_logger(__name__)

# For a person who waits; it takes one query.
LOOK_EVERY_S = 1.0
# How long one replica may be at it: files of many hours, each looked into.
ROUND_TIMEOUT_S = 6 * 3600.0
# Time limit for one row with a million pictures.
STEP_TIMEOUT_S = 120.0


class ImportedVideos:
    """Makes the chunks that imports need each time it is called."""

    def __init__(self, pool: Pool, store: Store, prober: Prober) -> None:
        self._pool = pool
        self._store = store
        self._prober = prober

    async def once(self) -> None:
        """Make all that are due; nothing if another replica does."""
        async with connected(self._pool, timeout_s=ROUND_TIMEOUT_S) as connection:
            if not await import_table.try_lock(connection):
                return
            try:
                while (video := await import_table.due_video(connection)) is not None:
                    await self._store_video(video)
            finally:
                await import_table.unlock(connection)

    async def _store_video(self, video: ImportedVideo) -> None:
        probed = None
        if video.sha256 is not None:
            try:
                probed = await self._look(video, video.sha256)
            except ObjectMissing:
                await self._store.check_owner()
                await self._note_problem(video, "its file is missing in the store")
                return
        path = video_path(video.robot_id, video.session_id, video.camera_key, video.chunk_index)
        async with transaction(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
            try:
                await check_session(
                    connection, video.session_id, robot_id=video.robot_id, hold=video.stream_id
                )
            except SessionErased as error:
                await import_table.set_problem(connection, video, error.detail)
                return
            await lock_path(connection, path)
            if video.sha256 is not None and (
                damage := await import_table.hold_object(connection, video.sha256)
            ):
                await import_table.set_problem(connection, video, f"its file is damaged: {damage}")
                return
            chunk_id = await import_table.replace_chunk(connection, video, path, probed)
            if video.sha256 is None:
                await forget_note(self._store, path)
                await self._store.unname(path)
            elif chunk_id is not None:
                await self._store.name(path, video.sha256)
                await note_chunk(connection, self._store, chunk_id)
            await import_table.set_done(connection, video)
        if probed is not None and probed.problem is not None:
            log.warning("imported video can't be used", path=path, problem=probed.problem)

    async def _look(self, video: ImportedVideo, sha256: str) -> Probed:
        return await self._prober.look_at(
            self._store,
            sha256,
            robot_id=video.robot_id,
            told_frames=video.frames,
            depth=video.depth_unit is not None,
            span_us=video.span_us or 0,
            slow=True,
        )

    async def _note_problem(self, video: ImportedVideo, problem: str) -> None:
        async with transaction(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
            await import_table.set_problem(connection, video, problem)
