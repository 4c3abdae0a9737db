"""The start of a server that may have to wait for its database: the server listens meanwhile, and says so."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar

from teleop_schema.errors import StorageUnavailable


def _tell_nobody(_reason: str) -> None:
    """A command that waits has nobody to tell but its log."""


_tell: ContextVar[Callable[[str], None]] = ContextVar("what keeps a start waiting", default=_tell_nobody)


def tell_waiting(reason: str) -> None:
    """Say what keeps the start of a service waiting: the service listens now, and answers with the reason."""
    _tell.get()(reason)


class Start[T]:
    """A block that is entered, lives and is left in a task of its own, as long as that takes.

    result  what the block gave; None until it has started
    """

    def __init__(
        self, block: AbstractAsyncContextManager[T], failed: Callable[[BaseException], None]
    ) -> None:
        """
        failed  called with the error if the block can't start after it was waited for
        """
        self.result: T | None = None
        self._reason: str | None = None
        self._failed = failed
        self._heard = asyncio.Event()
        self._over = asyncio.Event()
        self._task = asyncio.create_task(self._live(block))
        self._task.add_done_callback(self._ended)

    async def heard(self) -> None:
        """Return once the block has started, or waits for something; raises what its start raised."""
        await self._heard.wait()
        if self._task.done():
            self._task.result()

    async def check(self) -> None:
        """For readiness: raises StorageUnavailable with the reason until the block has started."""
        if self.result is None:
            raise StorageUnavailable(f"waiting to start: {self._reason}")

    async def end(self) -> None:
        """Leave the block, or give up its start; raises what leaving it raised."""
        self._over.set()
        if self.result is None:
            self._task.cancel()
        await asyncio.wait([self._task])
        if self.result is not None:
            self._task.result()

    async def _live(self, block: AbstractAsyncContextManager[T]) -> None:
        _tell.set(self._wait)
        async with block as result:
            self.result = result
            self._heard.set()
            await self._over.wait()

    def _wait(self, reason: str) -> None:
        self._reason = reason
        self._heard.set()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        heard = self._heard.is_set()
        self._heard.set()
        error = None if task.cancelled() else task.exception()
        if heard and error is not None and self.result is None:
            self._failed(error)
