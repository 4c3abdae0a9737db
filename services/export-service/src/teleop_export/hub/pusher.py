"""Pushes finished exports to the Hub, one after the other, beside the making of others."""

import asyncio

from teleop_runtime.background import Background
from teleop_runtime.logs import get_logger
from teleop_runtime.serving.problems import as_problem
from teleop_schema.errors import BackendError

from teleop_export.errors import Cancelled, ExportFilesGone, HubUnavailable
from teleop_export.hub.settings import HubSettings
from teleop_export.hub.upload import Access, Parcel, push
from teleop_export.metrics import PUSHES
from teleop_export.tables.push_table import MAX_ATTEMPTS, PushClaim, PushTable
from teleop_export.work.folders import Folders
from teleop_export.work.in_thread import Stop, work_in_thread
from teleop_export.work.jobs import AWAY, Jobs

log = get_logger(__name__)

# Whether the push was cancelled.
LOOK_EVERY_S = 1.0


class Pusher:
    """Pushes what is due. Any number of them may work on one database and root.

    A push that fails leaves the export as it is: published here, and to be pushed again on request.
    """

    def __init__(self, pushes: PushTable, jobs: Jobs, folders: Folders, hub: HubSettings) -> None:
        self._pushes = pushes
        self._jobs = jobs
        self._folders = folders
        self._hub = hub
        self._interrupted: dict[int, PushClaim] = {}
        jobs.register(self.push)

    def work_on(self, background: Background) -> None:
        """Push what is due, as long as `background` goes on."""
        background.every(LOOK_EVERY_S, "look for pushes", self._look)
        background.keep("pushing", self._jobs.work, vital=True)

    async def push(self, export_id: int) -> None:
        """Push one export if that is still wanted; its row tells how that ended."""
        if (interrupted := self._interrupted.get(export_id)) is not None:
            await self._pushes.hand_back(interrupted, None)
            del self._interrupted[export_id]
        gave_up = BackendError(f"gave up after {MAX_ATTEMPTS} unfinished attempts")
        claim = await self._pushes.claim(export_id, as_problem(gave_up))
        # It was cancelled, or another worker has it.
        if claim is None:
            return
        try:
            access = await self._hub.access(claim.wanted.token_name)
            commit_url = await self._push(claim, access)
            if await self._pushes.finish(claim, commit_url):
                log.info("export pushed", export_id=export_id, repo_id=claim.repo_id)
                PUSHES.labels("done").inc()
        except Cancelled:
            log.info("push stopped", export_id=export_id)
            PUSHES.labels("cancelled").inc()
        except asyncio.CancelledError:
            await self._pushes.hand_back(claim, None)
            raise
        except AWAY as error:
            log.warning("push interrupted, trying again later", export_id=export_id, error=str(error))
            # Nothing of the database is read meanwhile, so it was away by itself: that is no attempt.
            self._interrupted[export_id] = claim
            raise
        except HubUnavailable as error:
            await self._try_again(claim, error)
        except Exception as error:
            await self._fail(claim, error)

    async def _push(self, claim: PushClaim, access: Access) -> str:
        """Push in a thread, telling progress; the thread has ended when this returns or raises."""
        folder = self._folders.published(claim.export_id, claim.fingerprint)
        if await asyncio.to_thread(self._folders.has_lost, claim.export_id, claim.fingerprint):
            raise ExportFilesGone.of(claim.export_id)
        parcel = Parcel(folder, claim.repo_id, claim.fingerprint, claim.streams)
        progress = (0, 0)

        def push_watched(stop: Stop) -> str:
            def watch(done_bytes: int, total_bytes: int) -> None:
                nonlocal progress
                stop.check()
                progress = (done_bytes, total_bytes)

            return push(parcel, claim.wanted, access, watch)

        async def tell() -> bool:
            return await self._pushes.note_progress(claim, *progress)

        try:
            return await work_in_thread(push_watched, tell)
        except Exception:
            # Files that are suddenly missing belong to an export that was removed.
            if not await tell():
                raise Cancelled from None
            raise

    async def _try_again(self, claim: PushClaim, error: HubUnavailable) -> None:
        """Leave the push to the next attempt, which comes after a while; fail it after the last."""
        if claim.attempts_left == 0:
            await self._fail(claim, error)
            return
        log.warning(
            "the Hub is unavailable, trying again later", export_id=claim.export_id, error=error.detail
        )
        await self._pushes.hand_back(claim, as_problem(error))
        raise error

    async def _fail(self, claim: PushClaim, error: Exception) -> None:
        if isinstance(error, BackendError):
            log.warning("push failed", export_id=claim.export_id, code=error.code, error=error.detail)
        else:
            log.error("push failed", export_id=claim.export_id, exc_info=error)
            error = BackendError("something went wrong in the backend; its log has the details")
        if await self._pushes.fail(claim, as_problem(error)):
            PUSHES.labels("failed").inc()

    async def _look(self) -> None:
        """Take up what has become due, and the jobs that dead workers left."""
        await self._pushes.queue_due(self._jobs.enqueue)
        if found := await self._jobs.recover():
            log.warning("requeued the pushes of a dead worker", jobs=found)
