"""Places that robots share: whoever has many files to check does not keep the others waiting."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """So many `places`; a free one goes to whoever has fewest, then to whom none was given for longest."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._having: dict[str, int] = {}
        # By robot that has a place or waits: which of all turns was its last one.
        self._last: dict[str, int] = {}
        self._turns = 0
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    def waiting(self, robot_id: str) -> int:
        """How many of a robot's files wait."""
        return len(self._waiting.get(robot_id, ()))

    @asynccontextmanager
    async def place(self, robot_id: str) -> AsyncIterator[None]:
        """A place while the block runs."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(robot_id, deque()).append(turn)
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(robot_id)
            else:
                self._leave(robot_id, turn)
            raise
        try:
            yield
        finally:
            self._give_back(robot_id)

    def _serve(self) -> None:
        while self._free and self._waiting:
            robot_id = min(
                self._waiting, key=lambda each: (self._having.get(each, 0), self._last.get(each, 0))
            )
            turn = self._waiting[robot_id].popleft()
            self._turns += 1
            self._last[robot_id] = self._turns
            if not self._waiting[robot_id]:
                del self._waiting[robot_id]
            self._free -= 1
            self._having[robot_id] = self._having.get(robot_id, 0) + 1
            turn.set_result(None)

    def _leave(self, robot_id: str, turn: asyncio.Future[None]) -> None:
        self._waiting[robot_id].remove(turn)
        if not self._waiting[robot_id]:
            del self._waiting[robot_id]
            if robot_id not in self._having:
                self._last.pop(robot_id, None)

    def _give_back(self, robot_id: str) -> None:
        self._free += 1
        self._having[robot_id] -= 1
        if not self._having[robot_id]:
            del self._having[robot_id]
            if robot_id not in self._waiting:
                del self._last[robot_id]
        self._serve()
