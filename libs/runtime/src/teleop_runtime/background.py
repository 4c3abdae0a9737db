"""Background work that continues as long as a service runs, whatever happens, and reports its trouble."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from teleop_schema.errors import NoSpace, StorageUnavailable

from teleop_runtime.logs import get_logger
from teleop_runtime.metrics import BACKGROUND_FAILURES, BACKGROUND_IN_TROUBLE
from teleop_runtime.trouble import trouble_of

log = get_logger(__name__)

# A lasting fault makes one line per second in the log, not a flood.
RESTART_AFTER_S = 1.0
# Work that has run this long after a restart has overcome its trouble.
STEADY_AFTER_S = 5.0
# Enough to finish an export that is nearly made, and less than a drain may take.
STOP_WITHIN_S = 13.0
# After this time, cancelled work that does not end is left behind.
STOP_AT_LAST_S = 1.0

type Work = Callable[[], Awaitable[object]]


@dataclass
class _Task:
    """One kind of work.

    vital    whether the service is useless without it
    trouble  the error with which it failed; None once it works again
    """

    name: str
    vital: bool
    trouble: str | None = None

    async def check(self) -> None:
        """Raise while it is in trouble."""
        if self.trouble is not None:
            raise RuntimeError(self.trouble)

    def failed(self, error: BaseException) -> None:
        """Count the failure; log it unless the last one was the same.

        A bug needs its traceback, a database that is away does not.
        """
        BACKGROUND_FAILURES.labels(self.name).inc()
        BACKGROUND_IN_TROUBLE.labels(self.name).set(1)
        known = error if isinstance(error, StorageUnavailable | NoSpace) else trouble_of(error)
        told = str(known or error) or type(error).__name__
        if told != self.trouble:
            self.trouble = told
            if known is not None:
                log.warning("background work is waiting", task=self.name, error=told, hint=known.hint)
            else:
                log.error("background work failed, trying again", task=self.name, exc_info=error)

    def got_on(self) -> None:
        if self.trouble is not None:
            log.info("background work has recovered", task=self.name)
        self.trouble = None
        BACKGROUND_IN_TROUBLE.labels(self.name).set(0)


class Background:
    """The background tasks of one part of a service, which end with the block.

    No task ever ends by itself: a task that raises, or returns, is started again. The log,
    `background_failures_total` and `background_in_trouble` report this, and readiness too if it is vital.
    """

    def __init__(self) -> None:
        self._running: dict[asyncio.Task[None], _Task] = {}

    def keep(self, name: str, work: Work, *, vital: bool = False) -> None:
        """Keep `work`, which runs until it is cancelled, running."""
        self._start(self._keep(task := _Task(name, vital), work), task)

    def every(
        self, seconds: float, name: str, look: Work, *, at_once: bool = True, vital: bool = False
    ) -> None:
        """Call `look` now (if `at_once`), and again `seconds` after the end of each call."""
        self._start(self._repeat(task := _Task(name, vital), look, seconds, at_once), task)

    def checks(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Checks for readiness, by name: one for each vital task, which raises while it is in trouble."""
        return {task.name: task.check for task in self._running.values() if task.vital}

    @property
    def names(self) -> list[str]:
        """The same checks for all tasks."""
        return [task.name for task in self._running.values()]

    async def stop(self) -> None:
        """Cancel all tasks, and wait for their end as long as there is time."""
        for patience_s in (STOP_WITHIN_S, STOP_AT_LAST_S):
            pending = [task for task in self._running if not task.done()]
            for task in pending:
                task.cancel()
            if pending:
                await asyncio.wait(pending, timeout=patience_s)
        for task, about in self._running.items():
            if not task.done():
                log.error("background work does not stop", task=about.name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def _start(self, work: Coroutine[None, None, None], task: _Task) -> None:
        BACKGROUND_IN_TROUBLE.labels(task.name).set(0)
        self._running[asyncio.create_task(work, name=task.name)] = task

    async def _keep(self, task: _Task, work: Work) -> None:
        loop = asyncio.get_running_loop()
        while True:
            steady = loop.call_later(STEADY_AFTER_S, task.got_on)
            try:
                if await _done(task, work):
                    task.failed(RuntimeError("it ended on its own"))
            finally:
                steady.cancel()
            await asyncio.sleep(RESTART_AFTER_S)

    async def _repeat(self, task: _Task, look: Work, seconds: float, at_once: bool) -> None:
        if not at_once:
            await asyncio.sleep(seconds)
        while True:
            if await _done(task, look):
                task.got_on()
            await asyncio.sleep(seconds)


async def _done(task: _Task, work: Work) -> bool:
    """Run `work`; returns whether it ended without an error, which it reports.
    Raises only our own cancellation.

    Some libraries answer a cancellation with their own error, for example if the database is away, and some
    raise a cancellation that nobody requested. What counts is whether we were asked to end.
    """
    failure: BaseException | None = None
    try:
        await work()
    except asyncio.CancelledError:
        failure = RuntimeError("something within it was cancelled")
    except Exception as error:
        failure = error
    current = asyncio.current_task()
    if current is not None and current.cancelling():
        raise asyncio.CancelledError
    if failure is not None:
        task.failed(failure)
    return failure is None
