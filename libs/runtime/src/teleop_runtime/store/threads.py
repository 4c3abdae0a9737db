"""Blocking work on files, in threads of its own: a slow disk must hold up nothing else."""

import asyncio
import errno
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from teleop_schema.errors import NoSpace

from teleop_runtime.store.errors import DiskFailed

# More threads than a disk works on at once; further work waits its turn.
MAX_THREADS = 32
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
DISK_FAILING = (errno.EIO, errno.EROFS, errno.ESTALE, errno.ENODEV, errno.ENXIO)

THREADS = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="store")


def start_in_thread[**P, T](
    function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> "asyncio.Future[T]":
    """Begin `function` in a thread; its result is to be had with `settled`."""

    def work() -> T:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            if error.errno in DISK_FULL:
                raise NoSpace(hint="make room on the server's disk, then upload again") from error
            if error.errno in DISK_FAILING:
                raise DiskFailed() from error
            raise

    return asyncio.get_running_loop().run_in_executor(THREADS, work)


async def settled[T](future: "asyncio.Future[T]") -> T:
    """What `future` gives; being cancelled waits for it, so that no thread works on unseen."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        if not future.cancelled():
            future.exception()
        raise


async def in_thread[**P, T](function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function` gives, run in a thread; raises NoSpace, or DiskFailed."""
    return await settled(start_in_thread(function, *args, **kwargs))
