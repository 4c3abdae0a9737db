"""The job queues: procrastinate in the same PostgreSQL."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from adbc_driver_manager import Error as AdbcError
from procrastinate import App, BaseRetryStrategy, PsycopgConnector, RetryDecision, RetryStrategy
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from teleop_runtime.logs import get_logger
from teleop_runtime.trouble import trouble_of
from teleop_schema.errors import BackendError, NoSpace, Overloaded, StorageUnavailable

from teleop_export.errors import MediaEnded, NoRoom, RanFull
from teleop_export.tables.database import Connection, PsycopgPool

log = get_logger(__name__)


# A full disk: looking at it takes nothing, but each attempt that fills it again holds up its other users. A
# machine that is short of memory has ended the process that decodes, and will again until others need less.
ROOM_AGAIN_S = 10
LONGEST_PAUSE_S = 60


class MakingRetry(BaseRetryStrategy):
    """A second after anything but a full disk, and a lack of memory."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision:
        """When the job is tried again, which `exception` ended."""
        pause_s = 1
        if isinstance(exception, RanFull | MediaEnded):
            pause_s = min(2 ** min(job.attempts + 1, 10), LONGEST_PAUSE_S)
        elif isinstance(exception, NoRoom):
            pause_s = ROOM_AGAIN_S
        return RetryDecision(retry_in={"seconds": pause_s})


@dataclass(frozen=True)
class Line:
    """A queue of its own with workers of its own, so that one kind of work never waits for another.

    retry  how long a job that raised waits until it is tried again
    """

    queue: str
    task: str
    retry: BaseRetryStrategy


# The names stand in the rows of jobs that wait, whatever the module is called by now.
MAKING = Line("exports", "export_service.make_export", MakingRetry())
# The Hub, or the way to it, may be gone for a while: 2, 4, 8 … s.
PUSHING = Line("pushes", "export_service.push_export", RetryStrategy(exponential_wait=2))

# Tells the other workers that this one lives.
HEARTBEAT_S = 1.0
# Several heartbeats, because a machine under load may miss some; then another worker takes over.
STALLED_AFTER_S = 6.0
# The queue also notifies; this is for a notification that was lost.
POLL_S = 1.0
# A short export is finished before the process stops, a longer one goes back to the queue.
SHUTDOWN_GRACE_S = 10.0

# The database can't be used at the moment: it is away, its disk is full, or this process has run out of file
# handles. Of the exports' own disk and store, `NotMade` speaks.
NOT_NOW = (StorageUnavailable, NoSpace, Overloaded)
# It went away in the middle: the job is tried again when it is back.
AWAY = (psycopg.OperationalError, AdbcError, *NOT_NOW, ConnectorException)


@contextmanager
def away_told() -> Iterator[None]:
    """Raise StorageUnavailable for what the queue raises while the database is away."""
    try:
        yield
    except (psycopg.OperationalError, ConnectorException) as error:
        raise trouble_of(error.__cause__ or error) or StorageUnavailable() from error


class Jobs:
    """Jobs of one line. A job is only a call to look at an export: the truth is in its row."""

    def __init__(self, pool: PsycopgPool, line: Line) -> None:
        self._pool = pool
        self._line = line
        self._app = App(connector=PsycopgConnector())

    async def open(self) -> None:
        """Let the queue use the pool; before anything else."""
        await self._app.open_async(self._pool)

    async def enqueue(self, connection: Connection, export_id: int) -> None:
        """Have an export looked at, if the connection's transaction is committed."""
        queue = self._line.queue
        # The lock: procrastinate runs one job of an export at a time, however often it was enqueued.
        await self._app.configure_task(
            self._line.task, queue=queue, lock=f"{queue}-{export_id}", connection=connection
        ).defer_async(export_id=export_id)

    def register(self, do: Callable[[int], Awaitable[None]]) -> None:
        """Say what a job does; one whose `do(export_id)` raises is tried again."""

        async def look_at(export_id: int) -> None:
            try:
                await do(export_id)
            # These are told where they are understood; whatever else it is needs its traceback.
            except (*AWAY, BackendError):
                raise
            except Exception as error:
                log.error(
                    "a job failed, trying again", queue=self._line.queue, export_id=export_id, exc_info=error
                )
                raise

        self._app.task(name=self._line.task, queue=self._line.queue, retry=self._line.retry)(look_at)

    async def work(self) -> None:
        """Do job after job until cancelled, or until the database goes away."""
        with away_told():
            await self._app.run_worker_async(
                queues=[self._line.queue],
                # Making an export uses all processors and much memory; more workers are more processes.
                concurrency=1,
                install_signal_handlers=False,
                # What became of an export is in its row; the queue's own history would only grow.
                delete_jobs="always",
                fetch_job_polling_interval=POLL_S,
                update_heartbeat_interval=HEARTBEAT_S,
                stalled_worker_timeout=STALLED_AFTER_S,
                shutdown_graceful_timeout=SHUTDOWN_GRACE_S,
            )

    async def recover(self) -> int:
        """Queue the jobs of dead workers again; how many there were."""
        manager, queue = self._app.job_manager, self._line.queue
        with away_told():
            stalled = list(
                await manager.get_stalled_jobs(queue=queue, seconds_since_heartbeat=STALLED_AFTER_S)
            )
            for job in stalled:
                # Only the call is queued again; the attempt that died is counted in the export's row.
                await manager.retry_job(job)
        return len(stalled)
