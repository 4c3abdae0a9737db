"""The open telemetry connections of this process, so that they can be asked to reconnect elsewhere."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from teleop_schema.errors import StorageUnavailable, TooManyConnections


class Connections:
    """Counts connections, and asks them all to drain."""

    def __init__(self) -> None:
        self._open = 0
        self._draining = asyncio.Event()
        self._none_left = asyncio.Event()
        self._none_left.set()

    @contextmanager
    def entered(self, limit: int) -> Iterator[asyncio.Event]:
        """Count a connection while the block runs; the event is set when it should drain.

        Raises TooManyConnections at the limit, StorageUnavailable while draining.
        """
        if self._draining.is_set():
            raise StorageUnavailable("this process is stopping; connect again")
        if self._open >= limit:
            raise TooManyConnections(f"{limit} connections are open", limit=limit)
        self._open += 1
        self._none_left.clear()
        try:
            yield self._draining
        finally:
            self._open -= 1
            if not self._open:
                self._none_left.set()

    async def drain(self) -> None:
        """Ask every connection to finish; return once all have."""
        self._draining.set()
        await self._none_left.wait()
