"""Looks after the datasets below the watched roots: finds and judges them, has them saved when it is time."""

import asyncio
import logging
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from msgspec.structs import replace
from teleop_client.uploading import Refused
from teleop_dataset.folder import DatasetSeen, LinkedDataset, find_datasets, look
from teleop_dataset.readiness import QUIET_NS, Kind, Verdict, judge
from teleop_schema.errors import BadInput
from teleop_schema.files import DatasetVersion
from teleop_schema.identifiers import check_dataset_name

from teleop_sync_agent.errors import AgentError, LeftChanged, explain
from teleop_sync_agent.keeping.receipts import Receipts
from teleop_sync_agent.keeping.state import DatasetRow, State
from teleop_sync_agent.sending.dataset_sync import DatasetSync, FilesFailed, Place, Progress
from teleop_sync_agent.status import describe_unsafe
from teleop_sync_agent.watching.folders import fingerprint
from teleop_sync_agent.watching.watcher import dataset_of, may_be_new, watch

RESCAN_S = 60.0
# A dataset that is closed and stored is walked over less often: nobody is expected to change it, and if
# somebody does, there is a hint.
SETTLED_RESCAN_S = 600.0
# While a dataset is being written to, its files are looked at more often.
LIVELY_S = 10.0
LOOK_AGAIN_S = 1.0
RETRY_FAILED_S = 3600.0
# Looks at the same time: each holds what it saw of up to 100,000 files.
LOOKS_AT_ONCE = 2
# Closed datasets that are saved at the same time; those that are being recorded do not wait for their turn.
SAVES_AT_ONCE = 3
MAX_REMEMBERED_FILES = 100
MAX_SKIPPED_TOLD = 1000
# Of `once`: a dataset that changes for longer is being recorded.
ONCE_PATIENCE_S = 20.0
# States in which the server has said that it has what is told of a dataset, here or not.
NOT_HERE = ("reclaimed", "lost", "gone")
HELD_STATES = ("stored", *NOT_HERE)
FORGOTTEN = "the server no longer knows it"
GONE_THERE = (
    "the server no longer knows it, and it was deleted here after the server confirmed it: ask the "
    "server's operator to restore the database, or to run `lerobot-backend adopt`"
)
# How much of the last second's rate counts in the rate that is shown.
RATE_SHARE = 0.3

log = logging.getLogger(__name__)


@dataclass
class Tended:
    """A dataset that is looked after.

    problem  why a dataset of that name can't be saved
    hinted   set when something in its folder changed
    seen     the look before; None when it is no longer worth its memory
    """

    place: Place
    row: DatasetRow
    problem: str | None = None
    hinted: asyncio.Event = field(default_factory=asyncio.Event)
    seen: DatasetSeen | None = None
    progress: Progress | None = None
    noting: asyncio.Lock = field(default_factory=asyncio.Lock)


class Datasets:
    """All datasets of one agent.

    tended    by folder
    problems  folders that can't be looked into, and why: there may be datasets in them
    """

    def __init__(
        self,
        sync: DatasetSync,
        state: State,
        receipts: dict[Path, Receipts],
        *,
        quiet_ns: int = QUIET_NS,
        saved: Callable[[Tended, DatasetVersion], None] = lambda _tended, _version: None,
    ) -> None:
        """`receipts`: of each watched root."""
        self.tended: dict[Path, Tended] = {}
        self.problems: tuple[str, ...] = ()
        self._sync = sync
        self._state = state
        self._receipts = receipts
        self._quiet_ns = quiet_ns
        self._saved = saved
        self._looks = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._turns = asyncio.Semaphore(SAVES_AT_ONCE)
        self._rescan = asyncio.Event()
        self._heard = dict.fromkeys(receipts, True)

    async def run(self) -> None:
        """Look after them for ever."""
        async with asyncio.TaskGroup() as tasks:
            for root in self._receipts:
                tasks.create_task(
                    watch(root, partial(self._hint, root), partial(self._heard.__setitem__, root))
                )
            while True:
                for tended in await self.find():
                    tasks.create_task(self._tend(tended))
                self._rescan.clear()
                try:
                    await asyncio.wait_for(self._rescan.wait(), RESCAN_S)
                except TimeoutError:
                    continue
                await asyncio.sleep(LOOK_AGAIN_S)

    async def once(self) -> list[str]:
        """Save what is there; beside `problems` a line for whatever is not safe as it lies here, and why."""
        await self.find()
        async with asyncio.TaskGroup() as tasks:
            tending = [(each, tasks.create_task(self._tend_once(each))) for each in self.tended.values()]
        rows = await asyncio.to_thread(self._state.datasets)
        unsafe = {row.folder: row for row in rows if row.error == GONE_THERE}
        unsafe |= {tended.row.folder: tended.row for tended, safe in tending if not safe.result()}
        return [line for row in unsafe.values() for line in describe_unsafe(row)]

    async def find(self) -> list[Tended]:
        """Look for datasets; gives the new ones. Those whose names collide are noted as failed."""
        found = []
        refused: list[OSError] = []
        names = {tended.place.name: folder for folder, tended in self.tended.items()}
        for root in self._receipts:
            for folder in await asyncio.to_thread(_list_datasets, root, refused):
                if folder in self.tended:
                    continue
                name = unicodedata.normalize("NFC", folder.relative_to(root).as_posix())
                tended = Tended(Place(root, folder, name), self._known(root, folder, name))
                self.tended[folder] = tended
                tended.problem = _name_problem(name, names.get(name))
                if tended.problem is not None:
                    await self.note(tended, state="failed", error=tended.problem)
                    continue
                names[name] = folder
                found.append(tended)
        self.problems = tuple(explain(error) for error in refused if not self._is_tended_elsewhere(error))
        return found

    def _is_tended_elsewhere(self, error: OSError) -> bool:
        """Whether it is a link to a dataset that is looked after where it is."""
        return isinstance(error, LinkedDataset) and any(
            error.target == folder.resolve() for folder in self.tended
        )

    def _known(self, root: Path, folder: Path, name: str) -> DatasetRow:
        row = self._state.dataset(str(folder))
        if row is None or row.name != name or row.root != str(root):
            return DatasetRow(folder=str(folder), root=str(root), name=name)
        # It is there again, or an earlier process was killed while sending.
        return replace(row, state="waiting") if row.state in ("gone", "lost", "sending") else row

    def _hint(self, root: Path, path: Path) -> None:
        folders = self.tended.keys()
        if folder := dataset_of(path, root, set(folders)):
            self.tended[folder].hinted.set()
        elif may_be_new(path, root, set(folders)):
            self._rescan.set()

    async def _tend(self, tended: Tended) -> None:
        """Look after one dataset until its folder is gone."""
        while tended.row.state not in ("gone", "lost"):
            pause_s = await self._step(tended)
            try:
                await asyncio.wait_for(tended.hinted.wait(), pause_s)
            except TimeoutError:
                continue
            tended.hinted.clear()
            await asyncio.sleep(min(LOOK_AGAIN_S, pause_s))
        del self.tended[tended.place.folder]

    async def _tend_once(self, tended: Tended) -> bool:
        """Save one dataset if it is ready, or becomes so soon; whether it is safe as it is."""
        if tended.problem is not None:
            return False
        deadline = time.monotonic() + ONCE_PATIENCE_S
        while True:
            pause_s = await self._step(tended)
            if _is_settled(tended.row) or tended.row.state == "reclaimed":
                # What was left out is nowhere but here.
                return not tended.row.skipped
            if tended.row.state in ("failed", "gone"):
                return tended.row.state == "gone"
            if time.monotonic() > deadline or pause_s > LIVELY_S:
                return False
            await asyncio.sleep(min(pause_s, LOOK_AGAIN_S))

    async def _step(self, tended: Tended) -> float:
        """Do what is due for the dataset, and tell in how many seconds to look again.

        One that makes something fail is failed, with the reason: the others go on.
        """
        try:
            return await self._do_what_is_due(tended)
        except AgentError:
            raise
        except Exception as error:
            log.exception("failed", extra={"dataset": tended.place.name})
            await self.note(tended, state="failed", error=explain(error) or type(error).__name__)
            return RETRY_FAILED_S

    async def _do_what_is_due(self, tended: Tended) -> float:
        folder = tended.place.folder
        mark = await asyncio.to_thread(fingerprint, folder)
        if mark and mark == tended.row.fingerprint and _is_settled(tended.row):
            tended.seen = None
            return SETTLED_RESCAN_S if self._heard[tended.place.root] else RESCAN_S
        seen, verdict = await self._look(tended)
        if verdict.kind is Kind.COMMIT:
            return await self._save(tended, seen, verdict, mark)
        if verdict.kind in (Kind.FINALISED, Kind.DEAD):
            # What is remembered of a large dataset that waits for its turn is not worth its memory.
            if len(seen.files) > MAX_REMEMBERED_FILES:
                tended.seen = None
            del seen, verdict
            return await self._save_in_turn(tended)
        if not seen.files:
            await self.note(tended, state=tended.row.state if tended.row.state in NOT_HERE else "gone")
            return RESCAN_S
        if verdict.kind is Kind.UNSUPPORTED:
            await self.note(tended, state="unsupported", fingerprint=mark)
            return SETTLED_RESCAN_S if self._heard[tended.place.root] else RESCAN_S
        changed_ns = max(file.changed_ns for file in seen.files.values())
        lively = time.time_ns() - changed_ns < LIVELY_S * 1e9 or bool(seen.changing)
        return LOOK_AGAIN_S if lively else RESCAN_S

    async def _look(self, tended: Tended) -> tuple[DatasetSeen, Verdict]:
        """What lies in the folder now, and what it is ready for; noted."""
        async with self._looks:
            seen = await asyncio.to_thread(look, tended.place.folder, tended.seen)
        verdict = judge(
            seen,
            now_ns=time.time_ns(),
            saved_episodes=tended.row.saved_episodes,
            quiet_ns=self._quiet_ns,
        )
        tended.seen = seen
        # First what should have been a part of it.
        left_out = sorted(seen.skipped, key=lambda skipped: not skipped.is_unreadable)
        skipped = tuple(f"{each.path}: {each.reason}" for each in left_out[:MAX_SKIPPED_TOLD])
        if (more := len(left_out) - MAX_SKIPPED_TOLD) > 0:
            skipped += (f"{more} more",)
        await self.note(
            tended,
            verdict=verdict.kind.value,
            reason=verdict.reason,
            flags=verdict.flags,
            skipped=skipped,
            **_totals(verdict),
        )
        return seen, verdict

    async def _save_in_turn(self, tended: Tended) -> float:
        """Save a dataset that nobody records any more, a few of them at a time."""
        async with self._turns:
            mark = await asyncio.to_thread(fingerprint, tended.place.folder)
            seen, verdict = await self._look(tended)
            if verdict.kind not in (Kind.FINALISED, Kind.DEAD):
                return LOOK_AGAIN_S
            return await self._save(tended, seen, verdict, mark)

    async def _save(self, tended: Tended, seen: DatasetSeen, verdict: Verdict, mark: str) -> float:
        tended.progress = Progress()
        await self.note(tended, state="sending", error=None)
        try:
            version, manifest_sha256 = await self._sync.save(
                tended.place, seen, verdict, self._receipts[tended.place.root], tended.progress
            )
        except LeftChanged as error:
            log.info("changed", extra={"dataset": tended.place.name, "detail": str(error)})
            await self.note(tended, state="waiting", reason=str(error))
            return LOOK_AGAIN_S
        except (FilesFailed, Refused, OSError) as error:
            log.error("failed", extra={"dataset": tended.place.name, "error": explain(error)})
            await self.note(tended, state="failed", error=explain(error))
            # A person who makes room here, or gives a right, gives no hint.
            return RESCAN_S if isinstance(error, OSError) else RETRY_FAILED_S
        finally:
            progress, tended.progress = tended.progress, None
        await self.note(
            tended,
            state="stored",
            error=None,
            version=version.version,
            saved_episodes=verdict.total_episodes,
            finalised=verdict.finalised,
            fingerprint=mark,
            files=version.files,
            size_bytes=version.size_bytes,
            bytes_total=progress.bytes_total,
            bytes_done=progress.bytes_total,
            bytes_per_s=0.0,
            committed_at=time.time(),
            manifest_sha256=manifest_sha256,
            again="",
            kept="",
        )
        log.info(
            "stored",
            extra={
                "dataset": tended.place.name,
                "version": version.version,
                "episodes": verdict.total_episodes,
                "finalised": verdict.finalised,
                "sent_bytes": progress.sent_bytes,
            },
        )
        self._saved(tended, version)
        return LOOK_AGAIN_S

    def held(self) -> list[DatasetRow]:
        """Those of which the server has confirmed a version, whether or not they are still here."""
        return [row for row in self._state.datasets() if row.manifest_sha256 and row.state in HELD_STATES]

    async def bring_again(self, row: DatasetRow) -> bool:
        """The server does not know that version any more: whether it is sent again, or else noted as lost."""
        if row.state == "stored" and await asyncio.to_thread(Path(row.folder).exists):
            await asyncio.to_thread(self._state.doubt, row.folder)
            again = {"reason": FORGOTTEN, "again": FORGOTTEN, "manifest_sha256": ""}
            await self._change(row, state="waiting", fingerprint="", saved_episodes=0, **again)
            return True
        state = row.state if row.state == "reclaimed" else "lost"
        await self._change(row, state=state, error=GONE_THERE)
        return False

    async def found_again(self, row: DatasetRow) -> None:
        """The server knows that version, of which it did not know for a while."""
        if row.error == GONE_THERE:
            await self._change(row, state="stored" if row.state == "lost" else row.state, error=None)

    async def _change(self, row: DatasetRow, **changes: object) -> None:
        """Note that of the dataset if the server's last word on it is still that of `row`."""
        tended = self.tended.get(Path(row.folder))
        if tended is None:
            await asyncio.to_thread(self._state.note_dataset, replace(row, **changes))
        elif tended.row.manifest_sha256 == row.manifest_sha256:
            await self.note(tended, **changes)
            tended.hinted.set()

    async def note(self, tended: Tended, **changes: object) -> None:
        """Remember what changed, if anything did."""
        async with tended.noting:
            row = replace(tended.row, **changes)
            if row != tended.row:
                tended.row = row
                await asyncio.to_thread(self._state.note_dataset, row)

    async def note_progress(self, tended: Tended, sent_before: int, elapsed_s: float) -> int:
        """Remember how far an upload is; returns the bytes sent so far, 0 if there is none under way.

        sent_before  what this returned `elapsed_s` ago
        """
        progress = tended.progress
        if progress is None:
            return 0
        rate = max(0, progress.sent_bytes - sent_before) / elapsed_s
        await self.note(
            tended,
            bytes_total=progress.bytes_total,
            bytes_done=progress.bytes_now,
            bytes_per_s=round(tended.row.bytes_per_s * (1 - RATE_SHARE) + rate * RATE_SHARE),
            error=progress.trouble,
        )
        return progress.sent_bytes


def _list_datasets(root: Path, refused: list[OSError]) -> list[Path]:
    return list(find_datasets(root, refused.append))


def _totals(verdict: Verdict) -> dict[str, int]:
    """What the verdict tells of the dataset's size; nothing if there is nothing to save."""
    if not verdict.files:
        return {}
    return {"total_episodes": verdict.total_episodes, "total_frames": verdict.total_frames}


def _is_settled(row: DatasetRow) -> bool:
    """Whether there is nothing to do for the dataset as long as its folder does not change."""
    if row.state == "stored":
        return row.verdict in (Kind.FINALISED, Kind.DEAD) and row.manifest_sha256 != ""
    return row.state == "unsupported"


def _name_problem(name: str, other: Path | None) -> str | None:
    """Why a dataset can't be saved under that name."""
    if other is not None:
        return f"{other} has the same name {name!r}: rename one of them"
    try:
        check_dataset_name(name)
    except BadInput as error:
        return error.detail
    return None
