"""Repairs a version of a dataset whose recorder was killed; the result is an additional version."""

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import aiofiles
import msgspec
from teleop_runtime.confined.ends import OF_THE_DECODER, cause_of
from teleop_runtime.confined.once import Died, run_once
from teleop_runtime.confined.scratch import clear, lay
from teleop_runtime.logs import get_logger
from teleop_runtime.postgres.pool import Pool, connected, transaction
from teleop_runtime.store import Store
from teleop_runtime.turns import Turns
from teleop_schema.errors import BackendError, DatasetErased, Overloaded
from teleop_schema.files import MAX_DATASET_FILES, DatasetVersion, Manifest, ManifestFile
from teleop_schema.identifiers import local_path, stored_path

from teleop_video_ingest.datasets.versions import commit_repair
from teleop_video_ingest.errors import AlreadySound, NothingRecovered, VersionNotFound
from teleop_video_ingest.files.erased import drop_refused
from teleop_video_ingest.model.worker_messages import Outcome
from teleop_video_ingest.tables.object_table import keep_object
from teleop_video_ingest.tables.state_table import FileRow, earlier_file, find_state, list_files
from teleop_video_ingest.tables.version_table import find_dataset, newest_of_robot

log = get_logger(__name__)

READ_TIMEOUT_S = 60.0
# Equal to its processor time, because a repair that waits this long for the disk is stuck.
REPAIR_TIMEOUT_S = 4 * 3600.0
# So long ago that nobody works on it any more, whatever the clocks show.
LEFTOVER_S = 2 * REPAIR_TIMEOUT_S
# At a time.
READ_BYTES = 1024 * 1024
INFO = "meta/info.json"


class Repairs:
    """Repairs datasets one at a time, each in a separate process, in folders below `scratch`; robots take
    turns.

    scratch  on the file system of a local store, so that its objects need not be copied
    """

    def __init__(self, pool: Pool, store: Store, scratch: Path) -> None:
        self._pool = pool
        self._store = store
        self._scratch = scratch
        self._turns = Turns(1)

    async def repair(self, robot_id: str, dataset: str, version: int | None) -> tuple[DatasetVersion, str]:
        """Repair `version`; returns the version with everything that could be recovered,
        and the report in words.

        Without a number: the newest one that came from the robot. The same repair again gives the same
        version.
        Raises DatasetNotFound, VersionNotFound, AlreadySound, NothingRecovered, NoSpace.
        """
        async with self._turns.place(robot_id), self._folder() as folder:
            torn, files, earlier = await self._find(robot_id, dataset, version)
            await self._store.check_room(2 * torn.size_bytes)
            # Apart, because the process may write in the one folder, and must not in the other.
            source, target = folder / "source", folder / "made" / "target"
            await asyncio.to_thread(target.parent.mkdir)
            await self._lay_out(files, source)
            earlier_info = None
            if earlier is not None:
                earlier_info = folder / "earlier-info.json"
                await self._lay(earlier, earlier_info)
            outcome = await _run(source, target, earlier_info, closed=torn.finalised)
            if outcome.sound:
                raise AlreadySound(f"version {torn.version}: {outcome.report}", field="version")
            if outcome.episodes == 0:
                raise NothingRecovered(outcome.report)
            listed = [await self._take_in(target, path) for path in await asyncio.to_thread(_files, target)]
            manifest = Manifest(
                files=tuple(listed),
                total_episodes=outcome.episodes,
                total_frames=outcome.frames,
                finalised=True,
            )
            try:
                repaired = await commit_repair(
                    self._pool, self._store, robot_id, dataset, manifest, repaired_from=torn.version
                )
            except DatasetErased:
                for each in listed:
                    await drop_refused(self._pool, self._store, each.sha256)
                raise
        return repaired, outcome.report

    @asynccontextmanager
    async def _folder(self) -> AsyncIterator[Path]:
        await asyncio.to_thread(clear, self._scratch, LEFTOVER_S)
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._scratch, prefix="repair-"))
        try:
            yield folder
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _find(
        self, robot_id: str, dataset: str, number: int | None
    ) -> tuple[DatasetVersion, list[FileRow], FileRow | None]:
        """The version to repair, its files, and what its info.json was before."""
        async with connected(self._pool, timeout_s=READ_TIMEOUT_S) as connection:
            dataset_id = await find_dataset(connection, robot_id, dataset)
            if number is None:
                row = await newest_of_robot(connection, dataset_id)
                number = None if row is None else row["version"]
            if number is None:
                raise VersionNotFound(f"dataset {dataset!r} has no version yet", field="version")
            state = await find_state(connection, robot_id, dataset, number)
            files = await list_files(connection, state, "", MAX_DATASET_FILES)
            info = next((file for file in files if file.path == INFO), None)
            earlier = await earlier_file(connection, dataset_id, INFO, info.sha256) if info else None
        assert state.version is not None  # noqa: S101
        if state.version.source == "repair":
            raise AlreadySound(f"version {number} is a repaired one", field="version")
        return state.version, files, earlier

    async def _lay_out(self, files: Sequence[FileRow], folder: Path) -> None:
        """The version's files as a folder; damaged files are left out, and the repair does without them."""
        for file in files:
            if file.damage is None:
                await self._lay(file, folder / local_path(file.path))

    async def _lay(self, file: FileRow, path: Path) -> None:
        async with self._store.as_file(file.sha256) as stored:
            await asyncio.to_thread(lay, stored, path)

    async def _take_in(self, root: Path, path: Path) -> ManifestFile:
        """Turn a file of the repaired dataset into an object; its row is too young for a sweep to remove
        it."""
        size_bytes, sha256 = await asyncio.to_thread(_measure, path)
        # Before the transaction: hours of video may take minutes to a bucket, which no transaction may last.
        if await self._store.size(sha256) != size_bytes:
            await self._upload(path, sha256, size_bytes)
        async with transaction(self._pool, timeout_s=READ_TIMEOUT_S) as connection:
            await keep_object(connection, sha256, size_bytes, b"")
            # A sweep may have removed an old one until now.
            if await self._store.size(sha256) != size_bytes:
                await self._upload(path, sha256, size_bytes)
        name = stored_path(path.relative_to(root).as_posix())
        return ManifestFile(path=name, size_bytes=size_bytes, sha256=sha256)

    async def _upload(self, path: Path, sha256: str, size_bytes: int) -> None:
        upload = uuid4()
        await self._store.begin(upload)
        try:
            await self._store.append(upload, 0, _parts(path), limit=size_bytes)
            await self._store.finish(upload, sha256=sha256, size_bytes=size_bytes)
        finally:
            await self._store.discard(upload)


async def _run(source: Path, target: Path, earlier_info: Path | None, *, closed: bool) -> Outcome:
    """The outcome of the repair; raises NothingRecovered if the files crash its process,
    Overloaded if something else ended it."""
    arguments = ["closed" if closed else "torn"]
    arguments += [str(path) for path in (source, target, earlier_info) if path is not None]
    try:
        answer = await run_once(
            "teleop_video_ingest.datasets.repair_worker", *arguments, timeout_s=REPAIR_TIMEOUT_S, told=True
        )
    except TimeoutError:
        raise NothingRecovered(f"the repair took more than {REPAIR_TIMEOUT_S:.0f} seconds") from None
    except Died as end:
        log.error("a repair process died", returncode=end.returncode, stderr=end.complaint)
        raise _why(end.returncode) from None
    return msgspec.json.decode(answer, type=Outcome)


def _why(returncode: int) -> BackendError:
    """What a repair that gave no answer says about the dataset: nothing, unless its decoder crashed on it."""
    if -returncode in OF_THE_DECODER:
        return NothingRecovered(f"the decoder crashed on it ({cause_of(returncode)})")
    if returncode < 0:
        return Overloaded(
            f"the repair was killed ({cause_of(returncode)})",
            hint="ask for it again; if that happens each time, the machine has too little memory",
        )
    return BackendError("the repair failed by a mistake of its own; the log of the backend has the details")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _measure(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


async def _parts(path: Path) -> AsyncIterator[bytes]:
    async with aiofiles.open(path, "rb") as file:
        while part := await file.read(READ_BYTES):
            yield part
