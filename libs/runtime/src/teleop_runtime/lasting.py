"""How long what lets a caller in lasts: remembered for a moment, watched while a connection is open."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Hashable

# How long what was valid counts as valid without another look. A robot's samples come over one connection,
# which is looked at once; its files, and a page's questions, come in many requests.
REMEMBERED_S = 2.0
# More than there are robots and browsers; each takes a few hundred bytes.
MAX_REMEMBERED = 10_000


class Remembered[Key: Hashable, Value]:
    """What a look finds, for REMEMBERED_S."""

    def __init__(self, look: Callable[[Key], Awaitable[Value]]) -> None:
        self._look = look
        self._found: dict[Key, tuple[Value, float]] = {}

    async def find(self, key: Key) -> Value:
        """What is remembered of it, or what a look finds; raises what the look raises."""
        found = self._found.get(key)
        if found is not None and time.monotonic() - found[1] < REMEMBERED_S:
            return found[0]
        self._found.pop(key, None)
        value = await self._look(key)
        if len(self._found) >= MAX_REMEMBERED:
            self._found.clear()
        self._found[key] = value, time.monotonic()
        return value


class Endings[Key: Hashable]:
    """Tells those who wait that what let them in has ended."""

    def __init__(self, lasting: Callable[[Collection[Key]], Awaitable[Collection[Key]]]) -> None:
        """
        lasting  finds which of these have not ended
        """
        self._lasting = lasting
        self._waiting: dict[Key, list[asyncio.Event]] = {}

    async def wait(self, key: Key) -> None:
        """Return once a look finds that it has ended."""
        ended = asyncio.Event()
        waiting = self._waiting.setdefault(key, [])
        waiting.append(ended)
        try:
            await ended.wait()
        finally:
            waiting.remove(ended)
            if not waiting:
                self._waiting.pop(key, None)

    async def look(self) -> None:
        """Tell those who wait; asks nothing if nobody does."""
        if not self._waiting:
            return
        asked = set(self._waiting)
        for key in asked.difference(await self._lasting(asked)):
            for ended in self._waiting.get(key, []):
                ended.set()
