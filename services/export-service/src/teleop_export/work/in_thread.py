"""Work in a thread that tells how far it is, and can be stopped."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from teleop_export.errors import Cancelled
from teleop_export.work.jobs import NOT_NOW

# Five times a second is what an eye sees; each is a row's update.
TELL_PROGRESS_S = 0.2


class Stop:
    """The way to stop a thread: what it calls again and again raises Cancelled once that is `asked`."""

    def __init__(self) -> None:
        self.asked = False

    def check(self) -> None:
        """For the thread; raises Cancelled."""
        if self.asked:
            raise Cancelled


async def work_in_thread[Result](
    work: Callable[[Stop], Result], tell: Callable[[], Awaitable[bool]]
) -> Result:
    """Do `work` in a thread, which has ended when this returns or raises.

    tell    notes how far it is, every TELL_PROGRESS_S and once it is done; False if nobody wants it any more
    raises  what `work` or `tell` raised, but for what `tell` can't do now before the end; Cancelled if
            nobody wants it
    """
    stop = Stop()
    running = asyncio.get_running_loop().run_in_executor(None, work, stop)
    try:
        while not (await asyncio.wait([running], timeout=TELL_PROGRESS_S))[0]:
            # That nobody can be told for a moment is no reason to lose what has been done.
            with suppress(*NOT_NOW):
                if not await tell():
                    raise Cancelled
    finally:
        stop.asked = True
        await asyncio.wait([running])
        failure = running.exception()
    if failure is not None:
        raise failure
    if not await tell():
        raise Cancelled
    return running.result()
