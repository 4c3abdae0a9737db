"""Fair shares of the event loop: a connection gets about as many bytes read in a turn as any other."""

import asyncio
from collections.abc import Generator

# More than a robot sends at once, which costs it no turn. So much plain JSON holds the loop for 0.1 ms,
# 1 MiB for 18 ms, if it is not done in parts.
TURN_BYTES = 4096


class Turns:
    """One connection's turns."""

    def __init__(self) -> None:
        self._taken_bytes = 0

    async def take(self, size_bytes: int) -> None:
        """Let all others that are ready have a turn for each TURN_BYTES that this connection has had.

        size_bytes  of the message that was just handled
        """
        self._taken_bytes += size_bytes
        while self._taken_bytes >= TURN_BYTES:
            self._taken_bytes -= TURN_BYTES
            await asyncio.sleep(0)

    async def through[Done](self, work: Generator[float, None, Done], size_bytes: int) -> Done:
        """Do `work`, whose steps take turns; returns what it returns.

        work        yields which part of the whole each of its steps was
        size_bytes  what counts for the whole
        """
        while True:
            try:
                part = next(work)
            except StopIteration as end:
                done: Done = end.value
                return done
            await self.take(round(part * size_bytes))
