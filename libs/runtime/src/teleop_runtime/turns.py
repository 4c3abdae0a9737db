"""Places that are shared: whoever wants many does not keep the others waiting."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class Turns:
    """So many `places`; a free one goes to whoever has fewest, then to whom none was given for longest."""

    def __init__(self, places: int, each: int | None = None) -> None:
        """
        each  how many of them one may have at a time, although others are free; None: all
        """
        self._free = places
        self._each = places if each is None else each
        self._having: dict[Hashable, int] = {}
        # By who has a place or waits: which of all turns was its last one.
        self._last: dict[Hashable, int] = {}
        self._turns = 0
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}

    def waiting(self, who: Hashable) -> int:
        """How many places are waited for."""
        return len(self._waiting.get(who, ()))

    @asynccontextmanager
    async def place(self, who: Hashable) -> AsyncIterator[None]:
        """A place while the block runs."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(who, deque()).append(turn)
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(who)
            else:
                self._leave(who, turn)
            raise
        try:
            yield
        finally:
            self._give_back(who)

    def _serve(self) -> None:
        while self._free:
            may = [who for who in self._waiting if self._having.get(who, 0) < self._each]
            if not may:
                return
            who = min(may, key=lambda each: (self._having.get(each, 0), self._last.get(each, 0)))
            turn = self._waiting[who].popleft()
            self._turns += 1
            self._last[who] = self._turns
            if not self._waiting[who]:
                del self._waiting[who]
            self._free -= 1
            self._having[who] = self._having.get(who, 0) + 1
            turn.set_result(None)

    def _leave(self, who: Hashable, turn: asyncio.Future[None]) -> None:
        self._waiting[who].remove(turn)
        if not self._waiting[who]:
            del self._waiting[who]
            if who not in self._having:
                self._last.pop(who, None)

    def _give_back(self, who: Hashable) -> None:
        self._free += 1
        self._having[who] -= 1
        if not self._having[who]:
            del self._having[who]
            if who not in self._waiting:
                del self._last[who]
        self._serve()
