"""Frees disk space by deleting datasets that the server has for good; off by default.

It deletes only whole datasets that their recorder has closed and that are committed. Right before, it hashes
each file again, which must equal its receipt; the folder must contain nothing else; the server must have
read every byte of that version again and found it right; and nothing may have changed in the folder
meanwhile. A note in `.uploaded` and the receipts remain.
"""

import asyncio
import logging
import os
import shlex
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from msgspec import Struct
from teleop_client.uploading import FileBytes, HttpFailure, Interrupted, Uploader
from teleop_dataset.folder import INFO
from teleop_dataset.readiness import Readiness
from teleop_schema.disk.opening import open_regular
from teleop_schema.errors import BadInput
from teleop_schema.files import DatasetVersion, Manifest, ManifestFile
from teleop_schema.identifiers import local_path, stored_path
from teleop_schema.words import counted

from teleop_sync_agent.errors import explain
from teleop_sync_agent.keeping.receipts import Receipts
from teleop_sync_agent.keeping.state import AgentState, BackedUpFile, DatasetRow
from teleop_sync_agent.restoring.backups import ServerCheck, verify_stored
from teleop_sync_agent.sending.chunking import digest
from teleop_sync_agent.sending.dataset_sync import DatasetPlace
from teleop_sync_agent.sending.datasets import Datasets, Tended

# Within this time, a camera writes only some MB.
CHECK_S = 10.0
# A dataset that is not proven safe is hashed again only after this time.
RETRY_S = 3600.0
# … and after this time if only the server could not answer: its restart must not keep the disk full.
RETRY_INTERRUPTED_S = 300.0
# How long to wait for the tender to finish its look; a dataset that it is sending is not deleted.
TURN_S = 10.0

log = logging.getLogger(__name__)


class NotProven(Exception):
    """It is not certain that everything in the folder is on the server."""


class NotStored(NotProven):
    """The server has lost or damaged bytes of it."""


class ReclaimNote(Struct, kw_only=True):
    """The note in `.uploaded` on a dataset that was deleted to free space.

    restore  the command that restores it, ready to paste; into another folder, where it is not deleted again
    """

    dataset: str
    robot_id: str
    server: str
    version: int
    files: int
    size_bytes: int
    total_episodes: int
    reclaimed_at: float
    restore: str


class Reaper:
    """Keeps this many bytes free on the disks of the watched roots."""

    def __init__(
        self,
        robot_id: str,
        datasets: Datasets,
        state: AgentState,
        receipts: dict[Path, Receipts],
        uploader: Uploader,
        *,
        below: int | None,
        server: str,
        doubt: Callable[[], None],
    ) -> None:
        """Nothing happens before `run`.

        below  delete while less than that is free; None: never delete anything
        doubt  called when the server has found that it lost bytes; it then also says so when it is asked
        """
        self._robot_id = robot_id
        self._datasets = datasets
        self._state = state
        self._receipts = receipts
        self._uploader = uploader
        self._below = below
        self._server = server
        self._doubt = doubt
        self._kept_until_s: dict[Path, float] = {}

    async def run(self) -> None:
        """Check every few seconds; returns at once if nothing may ever be deleted."""
        while self._below is not None:
            for root in self._receipts:
                await self.make_room(root)
            await asyncio.to_thread(self._state.set_room_aside)
            await asyncio.sleep(CHECK_S)

    async def make_room(self, root: Path) -> int:
        """Delete the oldest datasets of `root` that are proven safe, until there is space;
        returns how many."""
        await self._finish_deleting(root)
        deleted = 0
        for tended in oldest_first(self._datasets.tended.values(), root):
            folder = tended.place.folder
            if self._is_kept(folder):
                continue
            try:
                # Of its own disk: what is mounted below the root from another one takes no space here.
                if self._below is None or shutil.disk_usage(folder).free >= self._below:
                    continue
                await self._reclaim(tended)
                deleted += 1
            except (NotProven, HttpFailure, OSError) as error:
                self._keep(tended.row, error)
                await self._datasets.note(tended, kept=explain(error))
                if isinstance(error, NotStored):
                    self._doubt()
        return deleted

    def _is_kept(self, folder: Path) -> bool:
        return self._kept_until_s.get(folder, 0.0) > time.monotonic()

    def _keep(self, row: DatasetRow, error: Exception) -> None:
        """Leave the dataset alone for a while."""
        retry_s = RETRY_INTERRUPTED_S if isinstance(error, Interrupted) else RETRY_S
        self._kept_until_s[Path(row.folder)] = time.monotonic() + retry_s
        log.warning("kept", extra={"dataset": row.name, "reason": explain(error)})

    async def _reclaim(self, tended: Tended) -> None:
        row, place = tended.row, tended.place
        files = await asyncio.to_thread(self._state.files, row.folder)
        receipts = self._receipts[place.root]
        proven = await asyncio.to_thread(prove, place, files, receipts)
        manifest = Manifest(
            files=tuple(ManifestFile(file.path, file.size_bytes, file.sha256) for file in proven),
            total_episodes=row.total_episodes,
            total_frames=row.total_frames,
            finalised=True,
        )
        # The server answers the same manifest with the version that it has, so this asks whether it has all
        # of it.
        version = await self._uploader.commit(self._robot_id, place.name, manifest)
        # The server's database is no proof, because its disk may have lost the bytes.
        verified = await verify_stored(
            self._uploader.backend, self._robot_id, place.name, version.version, size_bytes=version.size_bytes
        )
        check_verified(verified, proven)
        # Only now: hashing and the server's check may take hours, and the tender must go on meanwhile.
        async with _turn(tended):
            await self._delete(tended, proven, version)
        log.info("reclaimed", extra={"dataset": place.name, "freed_bytes": version.size_bytes})

    async def _delete(self, tended: Tended, proven: Sequence[BackedUpFile], version: DatasetVersion) -> None:
        place, fingerprint = tended.place, tended.row.fingerprint
        # The look that counts: from here on the tender does not touch the folder.
        await asyncio.to_thread(check_unchanged, place.folder, proven)
        if not is_deletable(tended.row):
            raise NotProven("the agent has just looked at it, and would not delete it any more")
        # Of an earlier deletion, after which it was restored: with it `_finish` would do nothing.
        self._receipts[place.root].forget_reclaimed(place.folder.relative_to(place.root).as_posix())
        # Only this is written while the disk is full; for everything else there is space after the deletion.
        await self._datasets.note(
            tended,
            state="reclaimed",
            fingerprint="",
            kept="",
            version=version.version,
            files=version.files,
            size_bytes=version.size_bytes,
        )
        try:
            await asyncio.to_thread(self._finish, tended.row)
        except OSError:
            # Nothing has gone yet, so it is a dataset like any other again.
            if is_whole(tended.row):
                await self._datasets.note(tended, state="stored", fingerprint=fingerprint)
            raise

    async def _finish_deleting(self, root: Path) -> None:
        """Finish what a process left that was killed while deleting, and write notes for
        which there was no space."""
        for row in await asyncio.to_thread(self._state.datasets):
            folder = Path(row.folder)
            if row.state != "reclaimed" or row.root != str(root) or is_whole(row) or self._is_kept(folder):
                continue
            try:
                await asyncio.to_thread(self._finish, row)
            except OSError as error:
                self._keep(row, error)
                if (tended := self._datasets.tended.get(folder)) is not None:
                    await self._datasets.note(tended, kept=explain(error))

    def _finish(self, row: DatasetRow) -> None:
        """Delete what is left of a reclaimed dataset, and write its note. Raises OSError."""
        folder, root = Path(row.folder), Path(row.root)
        receipts, relative = self._receipts[root], folder.relative_to(root).as_posix()
        # With the note it has come to its end: what is there now, somebody is bringing back.
        if receipts.is_reclaimed(relative):
            return
        # Only the files that the agent knows: what somebody has put there since then stays.
        if folder.exists():
            delete(folder, list(self._state.files(row.folder).values()))
        version = row.version or 0
        note = ReclaimNote(
            dataset=row.name,
            robot_id=self._robot_id,
            server=self._server,
            version=version,
            files=row.files,
            size_bytes=row.size_bytes,
            total_episodes=row.total_episodes,
            reclaimed_at=time.time(),
            restore=restore_command(
                DatasetPlace(root, folder, row.name), version, self._robot_id, self._server
            ),
        )
        try:
            receipts.note_reclaimed(relative, note)
        except OSError as error:
            log.warning(
                "no space to note its deletion yet", extra={"dataset": row.name, "error": explain(error)}
            )


def restore_command(place: DatasetPlace, version: int, robot_id: str, server: str) -> str:
    """The command that restores that version into a folder next to the watched one."""
    into = f"{place.root}-restored"
    words = ["sync-agent", "restore", place.name, "--version", str(version), "--into", into]
    return shlex.join([*words, "--backend_url", server, "--robot_id", robot_id])


def oldest_first(datasets: Iterable[Tended], root: Path) -> list[Tended]:
    """The datasets of `root` that may be deleted if they are proven safe; the oldest commit comes first."""
    found = [tended for tended in datasets if tended.place.root == root and is_deletable(tended.row)]
    return sorted(found, key=lambda tended: tended.row.committed_at or 0.0)


@asynccontextmanager
async def _turn(tended: Tended) -> AsyncIterator[None]:
    """While open, the tender does not look at the dataset. Raises NotProven if it is at work for long."""
    try:
        async with asyncio.timeout(TURN_S):
            await tended.turn.acquire()
    except TimeoutError:
        raise NotProven("the agent is sending it") from None
    try:
        yield
    finally:
        tended.turn.release()


def is_whole(row: DatasetRow) -> bool:
    """Whether the dataset is in its folder; what is left of one that is being deleted is none."""
    return (Path(row.folder) / INFO).exists()


def is_deletable(row: DatasetRow) -> bool:
    """Whether the dataset was closed and committed in the state of the last look."""
    return row.state == "stored" and row.finalised and row.verdict == Readiness.FINALISED


def prove(place: DatasetPlace, files: dict[str, BackedUpFile], receipts: Receipts) -> list[BackedUpFile]:
    """All files of the folder, each hashed now and equal to its receipt.

    Raises NotProven, naming the first that is not, or OSError.
    """
    proven = []
    for path in _everything(place.folder):
        name = _stored_as(path.relative_to(place.folder).as_posix())
        row = files.get(name)
        receipt = receipts.read(place.relative(name))
        # Neither is enough by itself: the state may be of another server, the receipts copied with the
        # folder.
        if row is None or receipt is None:
            raise NotProven(f"{name} has no receipt")
        with open_regular(path) as file:
            # Around the hashing, so that a file that is written to meanwhile is not taken for proven.
            before = os.fstat(file.fileno())
            found = digest(FileBytes(file.fileno()), before.st_size)
            after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise NotProven(f"{name} is being changed")
        told = {(row.size_bytes, row.sha256), (receipt.size_bytes, receipt.sha256),
                (receipt.receipt.size_bytes, receipt.receipt.sha256)}  # fmt: skip
        if told != {(before.st_size, found.sha256)}:
            raise NotProven(f"{name} does not match its receipt")
        if not row.has_stat(before.st_size, before.st_mtime_ns, before.st_ino):
            raise NotProven(f"{name} was modified after it was stored")
        proven.append(row)
    if not any(row.path == INFO for row in proven):
        raise NotProven(f"there is no {INFO}")
    return proven


def check_unchanged(folder: Path, proven: Sequence[BackedUpFile]) -> None:
    """Raise NotProven unless the folder still has these files and no others, hours later maybe."""
    known = {folder / local_path(row.path): row for row in proven}
    for path in _everything(folder):
        now, row = os.lstat(path), known.pop(path, None)
        if row is None or not row.has_stat(now.st_size, now.st_mtime_ns, now.st_ino):
            raise NotProven(f"{path.relative_to(folder)} was modified while it was being proven")
    # Whatever was not met above is no longer there; one is enough to say so.
    for path in known:
        raise NotProven(f"{path.relative_to(folder)} was removed while it was being proven")


def check_verified(verified: ServerCheck, files: list[BackedUpFile]) -> None:
    """Raise NotStored unless the server has read all bytes of these files and found them right."""
    if verified.damaged:
        first, more = verified.damaged[0], len(verified.damaged) - 1
        others = f" (and {more} more)" if more else ""
        raise NotStored(f"{first.path} is damaged on the server: {first.damage}{others}")
    # Files with the same content are one object, which the server reads once.
    objects = len({file.sha256 for file in files})
    if verified.checked != objects:
        raise NotStored(f"the server has read {counted(verified.checked, 'object')} instead of {objects}")


def _stored_as(path: str) -> str:
    """The path as the server has it; if it does not accept the path, one for which nothing is known."""
    try:
        return stored_path(path)
    except BadInput:
        return path


def delete(folder: Path, files: list[BackedUpFile]) -> None:
    """Remove those of these files that have not changed, and the folders that become empty.

    meta/info.json goes first: from then on nobody takes the rest for a dataset.
    """
    for row in sorted(files, key=lambda row: row.path != INFO):
        path = folder / local_path(row.path)
        with suppress(FileNotFoundError):
            now = os.lstat(path)
            if row.has_stat(now.st_size, now.st_mtime_ns, now.st_ino):
                path.unlink()
    for below, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):  # something else is in it
            os.rmdir(below)


def _everything(folder: Path) -> Iterator[Path]:
    """Every file in the folder, including hidden ones; raises NotProven for anything but files and folders,
    and for a folder in which nothing can be deleted."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise NotProven(f"{folder} can't be written to by this user")
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                yield from _everything(path)
            elif entry.is_file(follow_symlinks=False):
                yield path
            else:
                raise NotProven(f"{path.relative_to(folder)} is not a regular file")
