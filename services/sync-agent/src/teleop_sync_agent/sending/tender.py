"""Takes care of datasets: judges what is ready, has it saved in its turn, and stores the result."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from teleop_client.uploading import Refused
from teleop_dataset.folder import INFO, DatasetSeen, look
from teleop_dataset.readiness import QUIET_NS, Readiness, Verdict, judge, unchanged_ns
from teleop_schema.files import DatasetVersion

from teleop_sync_agent.errors import AgentError, LeftChanged, explain
from teleop_sync_agent.keeping.receipts import Receipts
from teleop_sync_agent.keeping.state import AgentState, DatasetRow
from teleop_sync_agent.sending.dataset_sync import DatasetSync, FilesFailed, UploadProgress
from teleop_sync_agent.sending.datasets import GONE_THERE, NOT_HERE, Datasets, Tended
from teleop_sync_agent.sending.finder import LOOK_AGAIN_S, RESCAN_S, Finder
from teleop_sync_agent.status import describe_unsafe
from teleop_sync_agent.watching.folders import fingerprint

# A dataset that is being written is looked at more often.
LIVELY_S = 10.0
# The server will refuse the same again until a person changes something there, which gives no hint here.
RETRY_FAILED_S = 3600.0
# Parallel looks: each keeps in memory what it saw of up to 100,000 files.
LOOKS_AT_ONCE = 2
# Closed datasets that are saved in parallel; those that are being recorded do not wait for their turn.
SAVES_AT_ONCE = 3
# The last look is kept for up to this many files, about 20 kB; larger datasets are looked at from scratch.
MAX_REMEMBERED_FILES = 100
# One line each in `status`; nobody would read more of them.
MAX_SKIPPED_TOLD = 1000
# For `once`: a dataset that changes for longer than this is being recorded.
ONCE_PATIENCE_S = 20.0

log = logging.getLogger(__name__)


class Tender:
    """Takes care of each dataset that the finder finds, until its folder is gone."""

    def __init__(
        self,
        datasets: Datasets,
        finder: Finder,
        sync: DatasetSync,
        state: AgentState,
        receipts: dict[Path, Receipts],
        *,
        quiet_ns: int = QUIET_NS,
        saved: Callable[[Tended, DatasetVersion], None] = lambda _tended, _version: None,
    ) -> None:
        """`receipts`: the receipts of each watched root."""
        self._datasets = datasets
        self._finder = finder
        self._sync = sync
        self._state = state
        self._receipts = receipts
        self._quiet_ns = quiet_ns
        self._saved = saved
        self._looks = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._turns = asyncio.Semaphore(SAVES_AT_ONCE)

    async def run(self) -> None:
        """Take care of all datasets, forever."""
        async with asyncio.TaskGroup() as tasks:
            for root in self._receipts:
                tasks.create_task(self._finder.watch(root))
            while True:
                for tended in await self._finder.find():
                    tasks.create_task(self._tend(tended))
                await self._finder.wait()

    async def once(self) -> list[str]:
        """Save what is here; returns a line for everything that is not safe in its current state, and why."""
        await self._finder.find()
        async with asyncio.TaskGroup() as tasks:
            tending = [
                (each, tasks.create_task(self._tend_once(each))) for each in self._datasets.tended.values()
            ]
        rows = await asyncio.to_thread(self._state.datasets)
        unsafe = {row.folder: row for row in rows if row.error == GONE_THERE}
        unsafe |= {tended.row.folder: tended.row for tended, safe in tending if not safe.result()}
        return [line for row in unsafe.values() for line in describe_unsafe(row)]

    async def _tend(self, tended: Tended) -> None:
        """Take care of one dataset until its folder is gone."""
        while tended.row.state not in ("gone", "lost"):
            pause_s = await self._step(tended)
            try:
                await asyncio.wait_for(tended.hinted.wait(), pause_s)
            except TimeoutError:
                continue
            tended.hinted.clear()
            # A hint comes with the first of many changes; more follow within the second.
            await asyncio.sleep(min(LOOK_AGAIN_S, pause_s))
        del self._datasets.tended[tended.place.folder]

    async def _tend_once(self, tended: Tended) -> bool:
        """Save one dataset if it is ready, or becomes ready soon; returns whether its current state is
        safe."""
        if tended.problem is not None:
            return False
        deadline = time.monotonic() + ONCE_PATIENCE_S
        while True:
            pause_s = await self._step(tended)
            if _is_settled(tended.row) or tended.row.state == "reclaimed":
                # Files that were left out are only here, and so is all of an unsupported dataset.
                return tended.row.state != "unsupported" and not tended.row.skipped
            if tended.row.state in ("failed", "gone"):
                return tended.row.state == "gone"
            if time.monotonic() > deadline or pause_s > LIVELY_S:
                return False
            await asyncio.sleep(min(pause_s, LOOK_AGAIN_S))

    async def _step(self, tended: Tended) -> float:
        """Do what is due for the dataset; returns in how many seconds to look again.

        A dataset that causes an error becomes failed, with the reason; the others continue.
        """
        try:
            async with tended.turn:
                return await self._do_what_is_due(tended)
        # These are about the agent as a whole: it ends with them.
        except AgentError:
            raise
        except Exception as error:
            log.exception("failed", extra={"dataset": tended.place.name})
            await self._datasets.note(tended, state="failed", error=explain(error) or type(error).__name__)
            return RETRY_FAILED_S

    async def _do_what_is_due(self, tended: Tended) -> float:
        folder = tended.place.folder
        # Before the look: if the folder changes in between, the mark is old and the next step looks again.
        mark = await asyncio.to_thread(fingerprint, folder)
        if mark and mark == tended.row.fingerprint and _is_settled(tended.row):
            tended.seen = None
            return self._finder.settled_pause_s(tended.place.root)
        if tended.row.state == "reclaimed" and not await asyncio.to_thread((folder / INFO).exists):
            # What could not be deleted yet is no dataset: saved again, it would be one without its beginning.
            tended.seen = None
            return RESCAN_S
        seen, verdict = await self._look(tended)
        if verdict.kind is Readiness.COMMIT:
            return await self._save(tended, seen, verdict, mark)
        if verdict.kind in (Readiness.FINALISED, Readiness.DEAD):
            # The last look at a large dataset that waits for its turn would take too much memory.
            if len(seen.files) > MAX_REMEMBERED_FILES:
                tended.seen = None
            del seen, verdict
            return await self._save_in_turn(tended)
        if not seen.files:
            await self._datasets.note(
                tended, state=tended.row.state if tended.row.state in NOT_HERE else "gone"
            )
            return RESCAN_S
        if verdict.kind is Readiness.UNSUPPORTED:
            await self._datasets.note(tended, state="unsupported", fingerprint=mark)
            return self._finder.settled_pause_s(tended.place.root)
        still_ns = unchanged_ns(seen, list(seen.files.values()), time.time_ns())
        lively = still_ns < LIVELY_S * 1e9 or bool(seen.changing)
        return LOOK_AGAIN_S if lively else RESCAN_S

    async def _look(self, tended: Tended) -> tuple[DatasetSeen, Verdict]:
        """Look at the folder, judge it, and store the result."""
        async with self._looks:
            seen = await asyncio.to_thread(look, tended.place.folder, tended.seen)
        verdict = judge(
            seen,
            now_ns=time.time_ns(),
            saved_episodes=tended.row.saved_episodes,
            quiet_ns=self._quiet_ns,
        )
        tended.seen = seen
        # First what should have been part of it.
        left_out = sorted(seen.skipped, key=lambda skipped: not skipped.is_unreadable)
        skipped = tuple(f"{each.path}: {each.reason}" for each in left_out[:MAX_SKIPPED_TOLD])
        if (more := len(left_out) - MAX_SKIPPED_TOLD) > 0:
            skipped += (f"{more} more",)
        await self._datasets.note(
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
            # While it waited for its turn, it may have changed, or been closed.
            mark = await asyncio.to_thread(fingerprint, tended.place.folder)
            seen, verdict = await self._look(tended)
            if verdict.kind not in (Readiness.FINALISED, Readiness.DEAD):
                return LOOK_AGAIN_S
            return await self._save(tended, seen, verdict, mark)

    async def _save(self, tended: Tended, seen: DatasetSeen, verdict: Verdict, mark: str) -> float:
        tended.progress = UploadProgress()
        await self._datasets.note(tended, state="sending", error=None)
        try:
            version, manifest_sha256 = await self._sync.save(
                tended.place, seen, verdict, self._receipts[tended.place.root], tended.progress
            )
        except LeftChanged as error:
            log.info("changed", extra={"dataset": tended.place.name, "detail": str(error)})
            await self._datasets.note(tended, state="waiting", reason=str(error))
            return LOOK_AGAIN_S
        except (FilesFailed, Refused, OSError) as error:
            log.error("failed", extra={"dataset": tended.place.name, "error": explain(error)})
            await self._datasets.note(tended, state="failed", error=explain(error))
            # There is no hint when a person frees space here, or grants a permission.
            return RESCAN_S if isinstance(error, OSError) else RETRY_FAILED_S
        finally:
            # No progress means at rest, for the bars and for `status`.
            progress, tended.progress = tended.progress, None
        await self._datasets.note(
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
            overtaken_by=None,
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


def _totals(verdict: Verdict) -> dict[str, int]:
    """The dataset's size from the verdict; empty if there is nothing to save."""
    if not verdict.files:
        return {}
    return {"total_episodes": verdict.total_episodes, "total_frames": verdict.total_frames}


def _is_settled(row: DatasetRow) -> bool:
    """Whether there is nothing to do for the dataset as long as its folder does not change."""
    if row.state == "stored":
        return row.verdict in (Readiness.FINALISED, Readiness.DEAD) and row.manifest_sha256 != ""
    return row.state == "unsupported"
