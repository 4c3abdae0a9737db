"""Fair shares of the event loop: a connection gets about as many bytes read in a turn as any other."""

import asyncio
from collections.abc import Generator

# More than a robot sends at once, so a robot never has to yield.
# This much plain JSON takes 0.1 ms of the event loop; 1 MiB would take 18 ms if it were not handled in parts.
TURN_BYTES = 4096


class Turns:
    """One connection's turns."""

    def __init__(self) -> None:
        self._taken_bytes = 0

    async def take(self, size_bytes: int) -> None:
        """Give all others that are ready a turn for each TURN_BYTES that this connection has used.

        size_bytes  size of the message that was just handled
        """
        self._taken_bytes += size_bytes
        while self._taken_bytes >= TURN_BYTES:
            self._taken_bytes -= TURN_BYTES
            # One turn of the event loop: everybody who is ready runs before this goes on.
            await asyncio.sleep(0)

    async def through[Done](self, work: Generator[float, None, Done], size_bytes: int) -> Done:
        """Run `work`, giving others a turn between its steps; returns what it returns.

        work        yields for each of its steps which part of the whole it was
        size_bytes  bytes that count for the whole
        """
        while True:
            try:
                part = next(work)
            except StopIteration as end:
                done: Done = end.value
                return done
            await self.take(round(part * size_bytes))
