"""A bandwidth cap that several uploads share."""

import asyncio
import time
from collections.abc import Callable

# How much may be sent at once after a pause: enough for whole pieces, little enough for the cap to hold.
BURST_S = 0.25


class Throttle:
    """Lets at most `bytes_per_s` through, in the order of the requests; None: no limit.

    piece_bytes  largest piece to ask for at a time, so that uploads take turns
    """

    def __init__(
        self, bytes_per_s: float | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises ValueError unless the rate is positive."""
        if bytes_per_s is not None and bytes_per_s <= 0:
            raise ValueError(f"a bandwidth of {bytes_per_s} bytes/s is too low to send anything")
        self._rate = bytes_per_s
        self._clock = clock
        self._free_at_s = 0.0
        self._turn = asyncio.Lock()

    @property
    def piece_bytes(self) -> int | None:
        return None if self._rate is None else max(1, int(self._rate * BURST_S))

    async def pass_through(self, size_bytes: int) -> None:
        """Return once this many bytes may be sent."""
        if self._rate is None:
            return
        # One after the other: a large upload can't push in before a small one that waits.
        async with self._turn:
            now_s = self._clock()
            if self._free_at_s > now_s:
                await asyncio.sleep(self._free_at_s - now_s)
            # Silence counts up to BURST_S: a quiet night is no credit for a flood.
            self._free_at_s = max(self._free_at_s, now_s - BURST_S) + size_bytes / self._rate
