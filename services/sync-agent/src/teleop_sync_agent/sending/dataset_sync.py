"""Sends one state of a dataset to the server: first the files that it lacks, then the manifest."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from teleop_client.persevering import persevere
from teleop_client.uploading import (
    HttpFailure,
    Interrupted,
    Refused,
    SourceChanged,
    Uploader,
)
from teleop_dataset.folder import DatasetSeen, FileSeen
from teleop_dataset.readiness import Verdict
from teleop_schema.files import (
    DatasetFile,
    DatasetVersion,
    FilePlan,
    Manifest,
    ManifestFile,
    Receipt,
    digest_of,
)

from teleop_sync_agent.errors import LeftChanged, first_of
from teleop_sync_agent.keeping.receipts import LocalReceipt, Receipts
from teleop_sync_agent.keeping.state import AgentState, BackedUpFile
from teleop_sync_agent.sending.chunking import Digest, ShortRead, anchor_of, digest, is_delta
from teleop_sync_agent.watching.snapshot import Snapshot

FILES_MISSING = "files_missing"


class FilesFailed(Exception):
    """Some files of the dataset are refused for good; the text names the first one."""


@dataclass
class UploadProgress:
    """Progress of the uploads of one state.

    bytes_total  size of the files that the server did not have, as far as known
    bytes_done   the part of it that the server has now, including bytes that it took from an earlier state
    sent_bytes   bytes sent
    trouble      why nothing is sent at present
    """

    bytes_total: int = 0
    bytes_done: int = 0
    sent_bytes: int = 0
    trouble: str | None = None
    under_way: dict[str, int] = field(default_factory=dict)

    @property
    def bytes_now(self) -> int:
        """`bytes_done`, plus the bytes of unfinished files that have arrived."""
        return min(self.bytes_total, self.bytes_done + sum(self.under_way.values()))

    def advance(self, path: str, size_bytes: int) -> None:
        """Count bytes of a file that were sent."""
        self.under_way[path] = self.under_way.get(path, 0) + size_bytes
        self.sent_bytes += size_bytes
        self.trouble = None

    def finish(self, path: str, size_bytes: int) -> None:
        """Count a file that is safe on the server."""
        self.under_way.pop(path, None)
        self.bytes_done += size_bytes
        self.trouble = None

    def stumble(self, error: Interrupted) -> None:
        """Record why something has to be tried again."""
        self.trouble = str(error)


@dataclass(frozen=True)
class DatasetPlace:
    """Identifies a dataset.

    name  below the root, as the server knows it
    """

    root: Path
    folder: Path
    name: str

    def relative(self, path: str) -> str:
        """The path of one of its files below the root."""
        return f"{self.folder.relative_to(self.root).as_posix()}/{path}"


class DatasetSync:
    """Uploads states of one robot's datasets."""

    def __init__(
        self, robot_id: str, uploader: Uploader, state: AgentState, *, parallel: int, server: str
    ) -> None:
        self._robot_id = robot_id
        self._uploader = uploader
        self._state = state
        self._slots = asyncio.Semaphore(parallel)
        self._parallel = parallel
        self._server = server

    async def save(
        self,
        place: DatasetPlace,
        seen: DatasetSeen,
        verdict: Verdict,
        receipts: Receipts,
        progress: UploadProgress,
    ) -> tuple[DatasetVersion, str]:
        """Save the given state; returns the version that the server made of it, and the hash of its manifest.

        Raises LeftChanged if the folder has changed, FilesFailed, Refused, and OSError if receipts
        can't be written; waits for the server for as long as it takes.
        """
        folder = str(place.folder)
        files = [seen.files[path] for path, _ in verdict.files]
        known = await asyncio.to_thread(self._state.files, folder)
        # Those of an earlier attempt: the server may take these files by now.
        await asyncio.to_thread(self._state.forget_failures, folder)
        fresh = [file for file in files if not _is_stored(file, known.get(file.path))]
        progress.bytes_total = sum(file.size_bytes for file in fresh)
        # Held open while they wait: a file that is replaced meanwhile is still the one that was seen.
        with Snapshot(place.folder) as snapshot:
            await asyncio.to_thread(snapshot.hold, fresh)
            await self._upload_all(_Job(place, snapshot, receipts, progress, known), fresh)
        if failures := self._state.failures(folder):
            path, error = next(iter(failures.items()))
            raise FilesFailed(f"{path}: {error}" + (f" (and {len(failures) - 1} more)" * (len(failures) > 1)))
        manifest = Manifest(
            files=tuple(ManifestFile(file.path, file.size_bytes, known[file.path].sha256) for file in files),
            total_episodes=verdict.total_episodes,
            total_frames=verdict.total_frames,
            finalised=verdict.finalised,
        )
        version = await self._commit(place, manifest, progress)
        return version, await asyncio.to_thread(digest_of, manifest)

    async def _commit(
        self, place: DatasetPlace, manifest: Manifest, progress: UploadProgress
    ) -> DatasetVersion:
        async def attempt() -> DatasetVersion:
            try:
                return await self._uploader.commit(self._robot_id, place.name, manifest)
            except HttpFailure as error:
                if error.code != FILES_MISSING:
                    raise
                # Its receipts are worth nothing any more: the next attempt sends what the server lacks.
                await asyncio.to_thread(self._state.doubt, str(place.folder))
                raise LeftChanged("the server lacks files that it once had: sending them again") from error

        return await persevere(attempt, report=progress.stumble)

    async def _upload_all(self, job: "_Job", files: Iterable[FileSeen]) -> None:
        """Upload the files, several at a time; a refused file does not hold up the others."""
        left = iter(files)

        async def work() -> None:
            for file in left:
                async with self._slots:
                    await self._upload(job, file)

        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(self._parallel):
                    workers.create_task(work())
        except* Exception as errors:
            raise first_of(errors) from None

    async def _upload(self, job: "_Job", file: FileSeen) -> None:
        folder = str(job.place.folder)
        earlier = job.known.get(file.path)
        # A receipt must never describe other bytes than the file's, not even while they are sent.
        if earlier is not None:
            await asyncio.to_thread(job.receipts.remove, job.place.relative(file.path))
        # Before the first byte is read: what changes after that must look newer than this.
        read_at_ns = time.time_ns()
        try:
            source = await asyncio.to_thread(job.snapshot.open, file)
            made = await asyncio.to_thread(
                digest,
                source,
                file.size_bytes,
                delta=is_delta(file.own_path, file.size_bytes),
                anchor=anchor_of(file),
                known=earlier.anchored if earlier else b"",
            )
            # It was hashed while the recorder may have written to it.
            job.snapshot.check(file)
            plan = FilePlan(self._describe(job.place, file, made), made.chunks)
            receipt = await persevere(
                lambda: self._uploader.upload(plan, source, advance=partial(job.progress.advance, file.path)),
                report=job.progress.stumble,
            )
        except ShortRead:
            raise LeftChanged(f"{file.path} became shorter while it was read") from None
        except SourceChanged as error:
            raise LeftChanged(f"{file.path}: {error}") from error
        except Refused as error:
            # Noted, not raised: the other files of the dataset are safe sooner.
            await asyncio.to_thread(self._state.note_failure, folder, file.path, str(error))
            return
        finally:
            job.snapshot.close(file.path)
        await asyncio.to_thread(self._keep, job, file, made, receipt, read_at_ns)

    def _describe(self, place: DatasetPlace, file: FileSeen, made: Digest) -> DatasetFile:
        return DatasetFile(
            robot_id=self._robot_id,
            dataset=place.name,
            path=file.path,
            size_bytes=made.size_bytes,
            sha256=made.sha256,
        )

    def _keep(self, job: "_Job", file: FileSeen, made: Digest, receipt: Receipt, read_at_ns: int) -> None:
        """Store that the server has the file now: first its receipt, then the state."""
        relative = job.place.relative(file.path)
        job.receipts.write(
            LocalReceipt(
                path=relative,
                size_bytes=made.size_bytes,
                sha256=made.sha256,
                mtime_ns=file.mtime_ns,
                uploaded_at=receipt.stored_at.isoformat(),
                server=self._server,
                receipt=receipt,
            )
        )
        row = BackedUpFile(
            path=file.path,
            size_bytes=file.size_bytes,
            mtime_ns=file.mtime_ns,
            changed_ns=file.changed_ns,
            inode=file.inode,
            read_at_ns=read_at_ns,
            sha256=made.sha256,
            anchored=made.anchored,
            stored_at=receipt.stored_at.isoformat(),
        )
        # After the receipt: an agent that is killed in between hashes the file again, and is told that it is
        # there.
        self._state.note_stored(str(job.place.folder), row)
        job.known[file.path] = row
        job.progress.finish(file.path, file.size_bytes)


@dataclass(frozen=True)
class _Job:
    """One state that is being sent."""

    place: DatasetPlace
    snapshot: Snapshot
    receipts: Receipts
    progress: UploadProgress
    known: dict[str, BackedUpFile]


def _is_stored(file: FileSeen, row: BackedUpFile | None) -> bool:
    return (
        row is not None
        and row.known_to_server
        and row.is_still(file.size_bytes, file.mtime_ns, file.changed_ns, file.inode)
    )
