"""Makes sessions of the datasets that somebody has asked to import, one after the other.

1. A confined process reads the whole dataset, checks it, and writes its frames to a file (`conversion`).
   What can't be imported is refused here, before there is a session.
2. The session is created, or the one that an earlier version has become goes on; its frames are copied to
   the table, a block in each transaction, which moves the watermark. After a kill, the next attempt goes on
   from there.
3. Its episodes, and which file has which pictures; video-ingest-service makes chunks of the files.
4. The session is complete.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
from starlette.concurrency import iterate_in_threadpool
from teleop_dataset.errors import NotImportable
from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.erasing import check_dataset, check_session
from teleop_runtime.postgres.pool import Connection, Pool, connected, transaction
from teleop_runtime.store import ObjectMissing, Store
from teleop_runtime.trouble import trouble_of
from teleop_schema.errors import BackendError, Conflict, NoSpace, StorageUnavailable
from teleop_schema.words import counted

from teleop_telemetry.frames.columns import COLUMNS, encode_tables
from teleop_telemetry.importing import import_table, session_rows
from teleop_telemetry.importing.conversion import Converted, converted
from teleop_telemetry.importing.import_table import EarlierImport, Import, StoredFile, VideoStored
from teleop_telemetry.importing.plan import Plan
from teleop_telemetry.tables.frame_partition import ensure_partition
from teleop_telemetry.tables.numbers import SessionNumbers
from teleop_telemetry.tables.session_notes import note_session

log = get_logger(__name__)

# For a person who waits; it takes two queries of a few rows.
LOOK_EVERY_S = 1.0
# Of an import: one connection holds the lock, one works.
IMPORT_CONNECTIONS = 2
# Time limit for one block of frames, or for the pictures of one session, on a busy disk.
STEP_TIMEOUT_S = 120.0
# How long an import may hold the lock: a dataset of days.
IMPORT_TIMEOUT_S = 6 * 3600.0
# Frames of one transaction: half a second, and what is repeated after a kill.
BLOCK_FRAMES = 100_000


class AlreadyImported(Conflict):
    """The same dataset has been imported before, and this version does not go on from there."""

    code, retryable = "already_imported", False


class AlreadyRecorded(Conflict):
    """The robot's live sessions have the frames of the dataset."""

    code, retryable = "already_recorded", False


class Importer:
    """Does what there is to import each time it is called."""

    def __init__(self, pool: Pool, files: Store, scratch: Path, notes: Store | None) -> None:
        """
        files    where datasets are
        scratch  a folder for what is read of them, with the files of a local store
        notes    of sessions, for a new database
        """
        self._pool = pool
        self._files = files
        self._scratch = scratch
        self._notes = notes
        self._numbers = SessionNumbers(pool, notes)

    async def once(self) -> None:
        """End what has its video, and import what waits; nothing if another replica does."""
        async with connected(self._pool, timeout_s=IMPORT_TIMEOUT_S) as holder:
            if not await import_table.try_lock(holder):
                return
            try:
                for ended in await import_table.with_video(holder):
                    await self._end(ended)
                while (wanted := await import_table.next_import(holder)) is not None:
                    await self._try(wanted)
            finally:
                await import_table.unlock(holder)

    async def _try(self, wanted: Import) -> None:
        """Import it; what it fails for is noted, unless that will pass."""
        try:
            await self._import(wanted)
        except Exception as error:
            if isinstance(error, StorageUnavailable | NoSpace) or trouble_of(error) is not None:
                raise
            if isinstance(error, BackendError):
                known = error
            elif isinstance(error, ObjectMissing):
                known = NotImportable(f"a file of it is missing in the store: {error}")
            else:
                log.error("an import has failed by a mistake of its own", exc_info=error)
                known = BackendError("it failed by a mistake of its own; the log of the backend tells more")
            log.warning("an import has failed", dataset=wanted.dataset, problem=known.detail)
            await self._fail(wanted, known)

    async def _fail(self, wanted: Import, error: BackendError) -> None:
        async with transaction(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
            await import_table.fail(connection, wanted.id, error)
            for session in await import_table.earlier_imports(connection, wanted):
                if session.session_id == wanted.session_id:
                    await session_rows.end_session(connection, session.session_id, "interrupted", None)

    async def _import(self, wanted: Import) -> None:
        async with transaction(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
            if not await import_table.set_status(connection, wanted.id, "reading"):
                return
            await check_dataset(connection, wanted.robot_id, wanted.dataset, hold=False)
            files = {file.path: file for file in await import_table.files_of(connection, wanted)}
            earlier = await import_table.earlier_imports(connection, wanted)
            found = await import_table.found_sessions(connection, wanted)
        _check_files(wanted, files)
        started_us = earlier[0].start_us if earlier else wanted.asked_us
        async with converted(self._files, self._scratch, list(files.values()), started_us) as made:
            plan = made.plan
            for video in plan.videos:
                if video.path not in files:
                    raise NotImportable(f"the video {video.path} is missing", field=video.path)
            session = _choose(wanted, plan, earlier, found)
            if session is None and not wanted.again:
                await self._check_not_recorded(wanted, made)
            session_id, stored = await self._begin(wanted, plan, session)
            await self._store(wanted, made, session_id, stored)
        await self._finish_frames(wanted, plan, session_id, files)
        log.info("frames imported", dataset=wanted.dataset, session=session_id, frames=plan.frames)

    async def _check_not_recorded(self, wanted: Import, made: Converted) -> None:
        """Raise AlreadyRecorded if the robot has sent the same frames while they were recorded."""
        frames = await asyncio.to_thread(made.samples)
        if not frames:
            return
        async with connected(self._pool, timeout_s=IMPORT_TIMEOUT_S) as connection:
            known = await import_table.recorded_live(connection, wanted, made.plan, frames)
        if known:
            raise AlreadyRecorded(
                f"robot {wanted.robot_id} has sent frames of it while it recorded them: they are in "
                f"{counted(len(known), 'session')} ({', '.join(map(str, known))})",
                field="again",
                hint="export these sessions; import with ?again=true to have the dataset beside them",
            )

    async def _begin(self, wanted: Import, plan: Plan, session: EarlierImport | None) -> tuple[int, int]:
        """(number of the session, frames that it has)."""
        number = session.session_id if session else await self._numbers.take()
        stored = session.next_frame_index if session else 0
        async with transaction(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
            if session is not None:
                await check_session(connection, number, robot_id=wanted.robot_id, hold=session.stream_id)
            else:
                told = _told(wanted.dataset, wanted.version, "recorded" if plan.knows_times else "unknown")
                await session_rows.create_session(connection, number, wanted.robot_id, plan, told)
            await ensure_partition(connection, number)
            if not await import_table.begin(connection, wanted.id, number, plan, stored):
                raise _gone()
            if session is None and self._notes is not None:
                await note_session(connection, self._notes, number)
        return number, stored

    async def _store(self, wanted: Import, made: Converted, session_id: int, stored: int) -> None:
        """Copy the frames from number `stored` on to the table."""
        block: list[pa.Table] = []
        async for table in iterate_in_threadpool(made.tables(stored)):
            block.append(table)
            if sum(map(len, block)) >= BLOCK_FRAMES:
                stored = await self._store_block(wanted, session_id, stored, block)
                block = []
        if block:
            await self._store_block(wanted, session_id, stored, block)

    async def _store_block(
        self, wanted: Import, session_id: int, first: int, block: Sequence[pa.Table]
    ) -> int:
        """One past the last frame."""
        end = first + sum(map(len, block))
        last_us = block[-1]["timestamp"][-1].cast(pa.int64()).as_py()
        async with transaction(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
            await self._hold(connection, wanted, session_id)
            if not await session_rows.advance(connection, session_id, first, end, last_us):
                raise _gone()
            source: AsyncIterator[bytes] = iterate_in_threadpool(encode_tables(session_id, block))
            await connection.copy_to_table(
                "teleop_frame", source=source, format="binary", columns=COLUMNS.names
            )
            if not await import_table.note_stored(connection, wanted.id, session_id, end):
                raise _gone()
        return end

    async def _finish_frames(
        self, wanted: Import, plan: Plan, session_id: int, files: dict[str, StoredFile]
    ) -> None:
        async with transaction(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
            await self._hold(connection, wanted, session_id)
            await session_rows.add_episodes(connection, session_id, plan)
            await import_table.set_videos(connection, wanted.id, session_id, plan, files)
            if not await import_table.set_status(connection, wanted.id, "video"):
                raise _gone()
        # Most have no video: they are complete at once.
        async with connected(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
            ended = [each for each in await import_table.with_video(connection) if each.id == wanted.id]
        for each in ended:
            await self._end(each)

    async def _hold(self, connection: Connection, wanted: Import, session_id: int) -> None:
        """Hold off an erasure of the session; raises SessionErased."""
        stream = await connection.fetchval("SELECT stream_id FROM teleop_session WHERE id = $1", session_id)
        if stream is None:
            raise _gone()
        await check_session(connection, session_id, robot_id=wanted.robot_id, hold=stream)

    async def _end(self, ended: VideoStored) -> None:
        """The session is complete, or has failed because of a video."""
        async with transaction(self._pool, timeout_s=STEP_TIMEOUT_S) as connection:
            await check_session(connection, ended.session_id, robot_id=ended.robot_id, hold=ended.stream_id)
            if ended.problem is not None:
                await import_table.fail(connection, ended.id, NotImportable(ended.problem))
                await session_rows.end_session(connection, ended.session_id, "interrupted", None)
                return
            told = _told(ended.dataset, ended.version, ended.clock)
            await session_rows.end_session(connection, ended.session_id, "complete", told)
            await import_table.set_done(connection, ended.id)
            if self._notes is not None:
                await note_session(connection, self._notes, ended.session_id)
        log.info("dataset imported", dataset=ended.dataset, version=ended.version, session=ended.session_id)


def _told(dataset: str, version: int, clock: str) -> dict[str, object]:
    """What a session says of its origin."""
    return {"dataset": dataset, "version": version, "clock": clock}


def _gone() -> Conflict:
    return Conflict("the session was erased, or written by somebody else, while it was imported")


def _check_files(wanted: Import, files: dict[str, StoredFile]) -> None:
    if not files:
        raise NotImportable(f"version {wanted.version} is not there any more", field="version")
    for file in files.values():
        if file.damage is not None:
            raise NotImportable(
                f"{file.path}: {file.damage}", field=file.path, hint="the robot's sync-agent sends it again"
            )


def _choose(
    wanted: Import, plan: Plan, earlier: Sequence[EarlierImport], found: Sequence[int]
) -> EarlierImport | None:
    """The session that the dataset goes on in; None: a new one.

    Raises AlreadyImported if there are some, it does not go on from any of them, and nobody wants it again.
    """
    for session in earlier:
        if session.session_id == wanted.session_id or _goes_on(plan, session):
            if session.archived or session.hidden:
                raise AlreadyImported(
                    f"it is session {session.session_id}, which is "
                    + ("archived" if session.archived else "hidden"),
                    hint="restore it, then import again",
                )
            return session
    known = [*dict.fromkeys([*(each.session_id for each in earlier), *found])]
    if known and not wanted.again:
        raise AlreadyImported(
            f"{counted(len(known), 'session')} of this dataset "
            f"({', '.join(map(str, known))}) would have some of its episodes twice",
            field="again",
            hint="import with ?again=true to have it beside them, or erase them first",
        )
    return None


def _goes_on(plan: Plan, session: EarlierImport) -> bool:
    """Whether the dataset begins with what the session has, and describes its frames in the same way."""
    return (
        plan.digests[: len(session.digests)] == session.digests
        and plan.fps == session.fps
        and plan.state_names == session.state_names
        and plan.action_names == session.action_names
        and set(plan.session_cameras) == set(msgspec.json.decode(session.cameras))
    )
