"""The job queue: procrastinate in the same PostgreSQL."""

from collections.abc import Awaitable, Callable

from procrastinate import App, PsycopgConnector, RetryStrategy
from procrastinate.exceptions import ConnectorException

from export_service.database import Connection, Pool

QUEUE = "exports"
TASK = "export_service.make_export"

HEARTBEAT_S = 1.0
STALLED_AFTER_S = 6.0
POLL_S = 1.0
# A short export is finished before the process stops, a longer one goes back to the queue.
SHUTDOWN_GRACE_S = 10.0

QueueUnavailable = ConnectorException


class Jobs:
    """Jobs that make exports. A job is only a call to look at an export: the truth is in its row."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._app = App(connector=PsycopgConnector())

    async def open(self) -> None:
        await self._app.open_async(self._pool)

    async def enqueue(self, connection: Connection, export_id: int) -> None:
        """Have an export made, if the connection's transaction is committed."""
        await self._app.configure_task(
            TASK, queue=QUEUE, lock=f"export-{export_id}", connection=connection
        ).defer_async(export_id=export_id)

    def register(self, make: Callable[[int], Awaitable[None]]) -> None:
        """Say what a job does; one whose `make(export_id)` raises is tried again."""

        async def make_export(export_id: int) -> None:
            await make(export_id)

        self._app.task(name=TASK, queue=QUEUE, retry=RetryStrategy(wait=1))(make_export)

    async def work(self) -> None:
        """Do job after job until cancelled, or until the database goes away."""
        await self._app.run_worker_async(
            queues=[QUEUE],
            concurrency=1,
            install_signal_handlers=False,
            delete_jobs="always",
            fetch_job_polling_interval=POLL_S,
            update_heartbeat_interval=HEARTBEAT_S,
            stalled_worker_timeout=STALLED_AFTER_S,
            shutdown_graceful_timeout=SHUTDOWN_GRACE_S,
        )

    async def recover(self) -> int:
        """Queue the jobs of dead workers again; how many there were."""
        manager = self._app.job_manager
        stalled = list(await manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=STALLED_AFTER_S))
        for job in stalled:
            await manager.retry_job(job)
        return len(stalled)
