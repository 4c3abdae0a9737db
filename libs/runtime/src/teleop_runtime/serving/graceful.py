"""Orderly shutdown: on SIGTERM and SIGINT, work in hand is finished before the server closes anything."""

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from teleop_runtime.logs import get_logger

log = get_logger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Together with what follows (connections and pools that do not close by themselves),
# a process ends within 25 s.
DRAIN_TIMEOUT_S = 15.0
# Less than the 30 s after which compose kills it, and the 40 s after which Kubernetes does.
END_WITHIN_S = 25.0
EXIT_BY_FORCE = 1


def end_in_time() -> None:
    """Make this process end END_WITHIN_S from now, whatever is still waiting.

    A thread that waits for a frozen database can't be interrupted, and Python waits for its threads. The next
    process does its work again, because nothing here is final before a commit.
    """

    def end() -> None:
        log.error("not everything finished in time", end_within_s=END_WITHIN_S)
        # Not `sys.exit`, which waits for the very threads that hang.
        os._exit(EXIT_BY_FORCE)

    timer = threading.Timer(END_WITHIN_S, end)
    # An orderly end must not wait for it.
    timer.daemon = True
    timer.start()


async def until_asked_to_end[T](work: Coroutine[Any, Any, T]) -> T | None:
    """What `work`, of a process that serves nothing, returns; cancelled on SIGTERM or SIGINT: None then."""
    task = asyncio.create_task(work)

    def end() -> None:
        end_in_time()
        task.cancel()

    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, end)
    with suppress(asyncio.CancelledError):
        return await task
    return None


def ask_server_to_end() -> None:
    """As Ctrl-C does; nothing where no server runs. After SIGTERM, the process could not say why it ended."""
    if _is_server_handler(signal.getsignal(signal.SIGINT)):
        signal.raise_signal(signal.SIGINT)


@contextmanager
def start_ends_when_asked() -> Iterator[None]:
    """On SIGTERM and SIGINT, cancel the current task while it is in the block, then call the server's
    handler.

    The block may wait for a database forever, and a server that is still starting only remembers the signal.
    """
    starting = asyncio.current_task()
    assert starting is not None  # noqa: S101
    loop = asyncio.get_running_loop()

    def handle(go_on: Callable[[], None]) -> None:
        end_in_time()
        # A signal's handler runs between any two instructions; only this call is safe there.
        loop.call_soon_threadsafe(starting.cancel)
        go_on()

    with _before_the_server(handle):
        yield


@contextmanager
def drain_before_exit(drain: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Run `drain` when asked to stop, and only then stop the server; a second signal does not wait.

    uvicorn closes every socket before it ends the lifespan. That would be too late to flush and to send the
    last acknowledgements, so its signal handlers are wrapped.
    """
    loop = asyncio.get_running_loop()
    draining: list[asyncio.Task[None]] = []
    asked = False

    async def drain_then(go_on: Callable[[], None]) -> None:
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                await drain()
        except Exception as error:
            log.error("drain failed", error=repr(error))
        go_on()

    def handle(go_on: Callable[[], None]) -> None:
        nonlocal asked
        # A person who presses Ctrl-C twice means it.
        if asked:
            go_on()
        else:
            asked = True
            end_in_time()
            loop.call_soon_threadsafe(lambda: draining.append(loop.create_task(drain_then(go_on))))

    with _before_the_server(handle):
        yield


@contextmanager
def _before_the_server(handle: Callable[[Callable[[], None]], None]) -> Iterator[None]:
    """On SIGTERM and SIGINT, call `handle` with the server's own handler; does nothing if no server runs."""
    theirs: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}

    def heard(number: int, frame: Any) -> None:
        handle(partial(theirs[number], number, frame))

    installed = [number for number, handler in theirs.items() if _is_server_handler(handler)]
    for number in installed:
        signal.signal(number, heard)
    try:
        yield
    finally:
        for number in installed:
            signal.signal(number, theirs[number])


def _is_server_handler(handler: Any) -> bool:
    """Whether a server (uvicorn) has installed this handler, and not Python or nobody."""
    return callable(handler) and handler is not signal.default_int_handler
