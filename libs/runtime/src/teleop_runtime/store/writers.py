"""Allows one writer per upload in a process: a later request ends the earlier one, which may be dead."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from uuid import UUID

from teleop_runtime.store.errors import UploadBusy


@dataclass
class _Turn:
    """The writer of one upload, and those that wait.

    lock    held by the writer; an ended writer keeps it until its bytes are durable
    newest  the only request that is not asked to end
    users   requests that are writing or waiting
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    newest: "asyncio.Task[int] | None" = None
    users: int = 0


class Writers:
    """Lets only one append work on each upload, the latest."""

    def __init__(self) -> None:
        self._turns: dict[UUID, _Turn] = {}

    async def run(self, upload_id: UUID, write: Callable[[], Awaitable[int]]) -> int:
        """The result of `write`, once earlier writers have ended; raises UploadBusy if a later one
        arrives."""
        turn = self._turns.setdefault(upload_id, _Turn())
        turn.users += 1
        if turn.newest is not None:
            # A client whose line broke has come back; the server may not know for minutes that the old one is
            # dead.
            turn.newest.cancel()
        task = turn.newest = asyncio.create_task(self._in_turn(turn, write))
        try:
            return await task
        except asyncio.CancelledError:
            # It was not a later request that ended this one, but whoever waits for it.
            if turn.newest is task:
                raise
            raise UploadBusy("a later request has taken over this upload") from None
        finally:
            if turn.newest is task:
                turn.newest = None
            self._leave(upload_id, turn)

    async def end(self, upload_id: UUID) -> None:
        """Return once nothing in this process writes to the upload any more."""
        turn = self._turns.get(upload_id)
        if turn is None:
            return
        turn.users += 1
        if turn.newest is not None:
            turn.newest.cancel()
            turn.newest = None
        try:
            # An ended writer holds it until its last block is durable.
            async with turn.lock:
                pass
        finally:
            self._leave(upload_id, turn)

    async def _in_turn(self, turn: _Turn, write: Callable[[], Awaitable[int]]) -> int:
        async with turn.lock:
            return await write()

    def _leave(self, upload_id: UUID, turn: _Turn) -> None:
        turn.users -= 1
        if not turn.users:
            # One entry for each upload of a year would be a leak.
            del self._turns[upload_id]
