"""Orderly shutdown: on SIGTERM and SIGINT the work in hand is finished before the server closes anything."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from teleop_runtime.logs import get_logger

log = get_logger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# With what follows (connections and pools that do not close by themselves) a process ends within 25 s.
DRAIN_TIMEOUT_S = 15.0


@contextmanager
def drain_before_exit(drain: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Run `drain` when asked to stop, and only then let the server stop; a second signal does not wait.

    uvicorn closes every socket before it ends the lifespan, which is too late to flush and to send the
    last acknowledgements; so its signal handlers are wrapped, not replaced.
    """
    loop = asyncio.get_running_loop()
    theirs: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    draining: list[asyncio.Task[None]] = []
    asked = False

    async def drain_then_exit(number: int, frame: Any) -> None:
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                await drain()
        except Exception as error:
            log.error("drain failed", error=repr(error))
        theirs[number](number, frame)

    def handle(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            theirs[number](number, frame)
        else:
            asked = True
            loop.call_soon_threadsafe(
                lambda: draining.append(loop.create_task(drain_then_exit(number, frame)))
            )

    installed = [number for number, handler in theirs.items() if _is_server_handler(handler)]
    for number in installed:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in installed:
            signal.signal(number, theirs[number])


def _is_server_handler(handler: Any) -> bool:
    """Whether a server (uvicorn) has installed this handler, rather than Python or nobody."""
    return callable(handler) and handler is not signal.default_int_handler
