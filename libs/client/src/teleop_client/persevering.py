"""Retries until it works, or until there has been no progress for too long."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from teleop_client.backend_http import Interrupted
from teleop_client.backoff import backoff_s

# Nobody is told when a server is back, so nobody waits longer than this for what is left to send.
LONGEST_BACKOFF_S = 60.0


class GaveUp(Exception):
    """No progress was made within the time allowed; `error` is the last attempt's error."""

    def __init__(self, error: Interrupted, patience_s: float) -> None:
        super().__init__(f"no data arrived for {patience_s:g} seconds: {error}")
        self.error = error


class Patience:
    """Limits how long a command that somebody waits for retries; `report` is for `persevere`."""

    def __init__(
        self,
        patience_s: float,
        tell: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`tell` is called with the reason for a retry, once for each reason."""
        self._patience_s = patience_s
        self._tell = tell
        self._clock = clock
        self._since_s = clock()
        self._told = ""

    def got_on(self) -> None:
        """Something has arrived, so the time starts again."""
        self._since_s = self._clock()

    def report(self, error: Interrupted) -> None:
        """Raises GaveUp once nothing has arrived for too long."""
        if self._clock() - self._since_s > self._patience_s:
            raise GaveUp(error, self._patience_s) from error
        if str(error) != self._told:
            self._told = str(error)
            self._tell(f"{error}; trying again")


async def persevere[T](
    attempt: Callable[[], Awaitable[T]],
    *,
    report: Callable[[Interrupted], None] = lambda _: None,
    jitter: Callable[[], float] = random.random,
) -> T:
    """The result of `attempt`, which is called again as long as it raises Interrupted: after growing pauses,
    and not sooner than the backend says."""
    failures = 0
    while True:
        try:
            return await attempt()
        except Interrupted as error:
            # A line that breaks all the time and lets something through each time is used at once.
            failures = 0 if error.progressed else failures + 1
            report(error)
            wait_s = error.retry_after_s
        await asyncio.sleep(max(wait_s, backoff_s(failures, LONGEST_BACKOFF_S, jitter())))
