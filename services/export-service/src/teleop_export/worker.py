"""`python -m teleop_export.worker`: makes queued exports, as the service itself does by default."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path

import psycopg
from adbc_driver_manager import Error as AdbcError
from msgspec import structs
from teleop_runtime.background import Background
from teleop_runtime.logs import configure_logs, get_logger
from teleop_runtime.serving.app import CannotStart
from teleop_runtime.serving.graceful import until_asked_to_end
from teleop_runtime.serving.problems import as_problem
from teleop_runtime.settings import load_settings, read_command_line
from teleop_runtime.store import ObjectMissing, Store, StoreUnusable, open_store
from teleop_runtime.trouble import trouble_of
from teleop_schema.decoding import prepare_types
from teleop_schema.errors import BackendError, NoSpace, StorageUnavailable

from teleop_export.arrow import do_without_pandas, give_memory_back
from teleop_export.errors import Cancelled, MediaEnded, NoRoom, NotConnected, NotMade, RanFull, StoreAway
from teleop_export.hub.pusher import Pusher
from teleop_export.hub.settings import HubSettings
from teleop_export.making.build import build
from teleop_export.making.kept_reader import KeptReader
from teleop_export.making.media_process import MediaPool
from teleop_export.making.stored_files import StoredFiles
from teleop_export.metrics import EXPORT_SECONDS, EXPORTED_FRAMES, EXPORTS
from teleop_export.planning.raw_order import RawOrder
from teleop_export.planning.report import Built
from teleop_export.planning.stages import Stage, Watch
from teleop_export.planning.views import Numbers
from teleop_export.raw.build import build_raw
from teleop_export.settings import ExportSettings
from teleop_export.tables.chunk_table import ChunkReader
from teleop_export.tables.database import name_of, open_pool
from teleop_export.tables.export_table import MAX_ATTEMPTS, Claim, ExportTable, Progress
from teleop_export.tables.push_table import PushTable
from teleop_export.webhooks.sender import Sender
from teleop_export.webhooks.settings import WebhookSettings
from teleop_export.webhooks.table import WebhookTable
from teleop_export.work.folders import FULL, Folders, make_durable
from teleop_export.work.in_thread import Stop, work_in_thread
from teleop_export.work.jobs import AWAY, MAKING, NOT_NOW, PUSHING, Jobs

log = get_logger(__name__)

# One query; with STALLED_AFTER_S a dead worker's export goes on within eight seconds.
RECOVER_EVERY_S = 2.0
ROOM_COMES = "free some space on that disk, or delete exports that are no longer needed; it is made then"


class Worker:
    """Makes exports one after the other. Any number of them may work on one database and root."""

    def __init__(
        self, database_url: str, exports: ExportTable, jobs: Jobs, folders: Folders, store: Store
    ) -> None:
        self._database_url = database_url
        self._reader = KeptReader(database_url)
        self._media = MediaPool()
        self._store = store
        self._exports = exports
        self._jobs = jobs
        self._folders = folders
        self._interrupted: dict[int, Claim] = {}
        jobs.register(self.make)

    def work_on(self, background: Background) -> None:
        """Make what is wanted, as long as `background` goes on."""
        background.every(RECOVER_EVERY_S, "look for dead workers", self._recover)
        background.keep("making of exports", self._work, vital=True)

    async def _work(self) -> None:
        try:
            await self._jobs.work()
        finally:
            self._reader.close()
            self._media.close()

    async def make(self, export_id: int) -> None:
        """Make one export if it is still wanted; its row tells how that ended."""
        await self._forgive(export_id)
        gave_up = BackendError(f"gave up after {MAX_ATTEMPTS} unfinished attempts")
        # None: it was cancelled, is done, or another worker has it.
        claim = await self._exports.claim(export_id, as_problem(gave_up))
        if claim is None:
            return
        try:
            await self._make(claim)
        except Cancelled:
            log.info("export stopped", export_id=claim.id)
            EXPORTS.labels("cancelled").inc()
        except asyncio.CancelledError:
            await self._exports.hand_back(claim, counts=True)
            raise
        except NotMade as error:
            await self._wait(claim, error)
        except AWAY as error:
            log.warning("export interrupted, trying again later", export_id=claim.id, error=str(error))
            # What fails in the middle of reading counts: the export may be what the database does not bear.
            if isinstance(error, NOT_NOW):
                self._interrupted[export_id] = claim
            raise
        except Exception as error:
            await self._fail(claim, error)

    async def _forgive(self, export_id: int) -> None:
        """Not count an attempt that ended because the database was away, which could not be told then."""
        if (claim := self._interrupted.get(export_id)) is not None:
            await self._exports.hand_back(claim, counts=False)
            del self._interrupted[export_id]

    async def _wait(self, claim: Claim, error: NotMade) -> None:
        """Leave the export to a later attempt, raising `error`; fail it if too many have filled the disk."""
        counts = isinstance(error, RanFull | MediaEnded)
        if counts and claim.attempts_left == 0:
            hint = "free some space on that disk, then request it again"
            gave_up = NoSpace(error.detail, hint=hint) if isinstance(error, RanFull) else error
            await self._fail(claim, gave_up)
            return
        log.warning("export waiting", export_id=claim.id, error=error.detail, hint=error.hint)
        await self._exports.hand_back(claim, as_problem(error), counts=counts)
        raise error

    async def _make(self, claim: Claim) -> None:
        """Build and publish; raises NotMade if that is not the export's fault, and whatever is."""
        try:
            await asyncio.to_thread(self._folders.check_space, claim.order.size_bytes)
        except NoSpace as error:
            raise NoRoom(error.detail, limit=error.limit, hint=ROOM_COMES) from error
        folder = await asyncio.to_thread(self._folders.begin, claim.id, claim.attempt)
        try:
            built = await self._build(claim, folder)
            await self._publish(claim, built, folder)
        except OSError as error:
            if error.errno in FULL:
                raise RanFull(f"the disk of {self._folders.root} became full", hint=ROOM_COMES) from error
            # If the whole folder can't be written, it is not this export's fault.
            await asyncio.to_thread(self._folders.check_writable)
            raise
        except StoreUnusable as error:
            raise StoreAway(error.detail, hint="is the file store running, and can it be reached?") from error
        except ObjectMissing:
            await self._check_store()
            raise
        finally:
            # What can't be removed now is swept once it can.
            with suppress(OSError):
                await asyncio.to_thread(self._folders.discard, folder)

    async def _check_store(self) -> None:
        """Raise StoreAway if not only an object is missing, but all that a store has."""
        if await self._store.owner() is None:
            raise StoreAway(
                "the stored files are not where they were: nothing there says whose they are",
                hint="is the disk of the file store mounted, and has nobody moved or removed the folder?",
            )

    async def _build(self, claim: Claim, folder: Path) -> Built:
        """Build in a thread, telling progress; the thread has ended when this returns or raises."""
        files = StoredFiles(self._store, asyncio.get_running_loop())
        progress: Progress = {}

        def build_watched(stop: Stop) -> Built:
            def watch(stage: Stage, done: int, total: int) -> None:
                stop.check()
                progress[stage] = (done, total)

            return self._build_in_thread(claim, folder, files, watch)

        return await work_in_thread(build_watched, partial(self._exports.note_progress, claim, progress))

    def _build_in_thread(self, claim: Claim, folder: Path, files: StoredFiles, watch: Watch) -> Built:
        with ExitStack() as connections:
            try:
                reader = connections.enter_context(self._reader.lend())
                chunks = connections.enter_context(closing(ChunkReader(self._database_url)))
            except (AdbcError, psycopg.OperationalError) as error:
                known = trouble_of(error) or StorageUnavailable()
                raise NotConnected(known.detail, hint=known.hint) from error
            if isinstance(claim.order, RawOrder):
                built = build_raw(folder, claim.order, reader, chunks, files, self._media, watch=watch)
            else:
                built = build(
                    folder, claim.order, claim.fingerprint, reader, chunks, files, self._media, watch=watch
                )
        # Before anybody can see it: a published dataset survives a power cut.
        make_durable(folder)
        return built

    async def _publish(self, claim: Claim, built: Built, folder: Path) -> None:
        published = self._folders.published(claim.id, claim.fingerprint)

        def numbers(duration_s: float) -> Numbers:
            return Numbers(**structs.asdict(built.content), duration_s=round(duration_s, 3))

        async def move(published_ns: int) -> None:
            await asyncio.to_thread(self._folders.publish, folder, published, published_ns)

        made = await self._exports.publish(claim, numbers, built.report, move)
        log.info("export published", export_id=claim.id, **structs.asdict(made))
        EXPORTS.labels("done").inc()
        EXPORTED_FRAMES.inc(made.frames)
        EXPORT_SECONDS.observe(made.duration_s)

    async def _fail(self, claim: Claim, error: Exception) -> None:
        if isinstance(error, BackendError):
            log.warning("export failed", export_id=claim.id, code=error.code, error=error.detail)
        else:
            log.error("export failed", export_id=claim.id, exc_info=error)
            what = error.strerror if isinstance(error, OSError) else None
            error = BackendError(f"{what or 'something went wrong'} in the backend; its log has the details")
        if await self._exports.fail(claim, as_problem(error)):
            EXPORTS.labels("failed").inc()

    async def _recover(self) -> None:
        """Take up what dead workers left: their jobs and their folders."""
        if found := await self._jobs.recover():
            log.warning("requeued the jobs of a dead worker", jobs=found)
        # Before it asks what is running: what begins in between is not among the leftovers.
        leftovers = await asyncio.to_thread(self._folders.leftovers)
        running = await self._exports.running()
        await asyncio.to_thread(self._folders.sweep, leftovers, running)


@asynccontextmanager
async def working(*workers: Worker | Pusher | Sender) -> AsyncIterator[Background]:
    """The workers at work; at the end they stop, handing back what they can't finish soon."""
    async with Background() as background:
        for worker in workers:
            worker.work_on(background)
        yield background


async def work_alone(settings: ExportSettings, hub: HubSettings) -> None:
    """A worker without the service around it, until SIGTERM."""
    async with open_pool(settings.database_url) as pool:
        folders = Folders(settings.export_root, await name_of(pool))
        jobs, push_jobs = Jobs(pool, MAKING), Jobs(pool, PUSHING)
        await jobs.open()
        await push_jobs.open()
        worker = Worker(
            settings.database_url, ExportTable(pool), jobs, folders, open_store(settings.store_url)
        )
        pusher = Pusher(PushTable(pool), push_jobs, folders, hub)
        sender = Sender(WebhookTable(pool), load_settings(WebhookSettings).allowed)
        async with working(worker, pusher, sender):
            await asyncio.Event().wait()


def main() -> None:
    """Make exports until SIGTERM or Ctrl-C; exits with a message if a person must change something first."""
    do_without_pandas()
    give_memory_back()
    read_command_line(__doc__, ExportSettings, HubSettings, WebhookSettings)
    settings = load_settings(ExportSettings)
    configure_logs(settings.log_level)
    prepare_types()
    try:
        asyncio.run(until_asked_to_end(work_alone(settings, load_settings(HubSettings))))
    except CannotStart as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
