"""Fair shares of the event loop: a connection gets about as many bytes read in a turn as any other."""

import asyncio

# More than a robot sends at once, which costs it no turn. So much plain JSON holds the loop for 0.1 ms,
# 1 MiB for 16 ms.
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
