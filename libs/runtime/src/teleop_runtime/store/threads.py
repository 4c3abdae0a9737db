"""Runs blocking work on files in separate threads, so that a slow disk holds up nothing else."""

import asyncio
import errno
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from teleop_schema.errors import NoSpace, Overloaded

from teleop_runtime.logs import get_logger
from teleop_runtime.store.errors import DiskFailed, StoreUnusable
from teleop_runtime.trouble import USED_UP

log = get_logger(__name__)

# More threads than a disk can serve at once; further work waits for its turn.
MAX_THREADS = 32
# No room, or none for this user.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
# A disk that fails, has been made read-only, or is gone; a network share, too.
DISK_FAILING = (errno.EIO, errno.EROFS, errno.ESTALE, errno.ENODEV, errno.ENXIO)

# Read at a time; larger parts are not faster, and each download holds one.
PART_BYTES = 1024 * 1024

THREADS = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="store")


def start_in_thread[**P, T](
    function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> "asyncio.Future[T]":
    """Start `function` in a thread; `settled` gives its result."""

    def work() -> T:
        with causes_named():
            return function(*args, **kwargs)

    return asyncio.get_running_loop().run_in_executor(THREADS, work)


@contextmanager
def causes_named() -> Iterator[None]:
    """Raise errors of the disk as NoSpace, DiskFailed, Overloaded, StoreUnusable, except FileNotFoundError.

    A missing file may be an answer or a fault; only the callers know which.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in DISK_FULL:
            raise NoSpace(hint="free some space on the server's disk, then upload again") from error
        if error.errno in DISK_FAILING:
            raise DiskFailed() from error
        if error.errno in USED_UP:
            raise Overloaded() from error
        log.error("the file store can't be used", error=str(error))
        raise StoreUnusable(
            f"the file store can't be used: {error.strerror}", hint="the backend's log names the file"
        ) from error


async def settled[T](future: "asyncio.Future[T]") -> T:
    """The result of `future`; a cancellation waits for it, so that no thread continues unnoticed."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        # Starlette ends an answer by cancelling it again and again, at whatever it waits for.
        while not future.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        if not future.cancelled():
            # Asked for, so that asyncio does not report an error that nobody has fetched.
            future.exception()
        raise


async def in_thread[**P, T](function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of `function`, run in a thread; raises like `causes_named`."""
    return await settled(start_in_thread(function, *args, **kwargs))


async def read_file(path: Path, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
    """Bytes [start, end) of a file, or all from `start` on, in parts of at most PART_BYTES.

    The file is closed with the generator, wherever it was: a client that goes away leaves none open.
    """
    with ExitStack() as opened:
        # Entered in the thread: a cancellation that comes while the file is being opened closes it, too.
        file = await in_thread(lambda: opened.enter_context(path.open("rb", buffering=0)))
        await in_thread(file.seek, start)
        left = PART_BYTES if end is None else end - start
        while left > 0 and (part := await in_thread(file.read, min(PART_BYTES, left))):
            yield part
            left = PART_BYTES if end is None else left - len(part)
