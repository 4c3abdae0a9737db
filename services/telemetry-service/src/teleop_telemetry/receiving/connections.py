"""The open telemetry connections of this process, so that they can be asked to reconnect elsewhere."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from teleop_schema.errors import StorageUnavailable, TooManyConnections


class Connections:
    """Counts connections, and asks them all to drain."""

    def __init__(self) -> None:
        # By robot.
        self._open: Counter[str] = Counter()
        self._draining = asyncio.Event()
        self._none_left = asyncio.Event()
        self._none_left.set()

    @contextmanager
    def entered(self, robot_id: str, *, limit: int, of_robot: int) -> Iterator[asyncio.Event]:
        """Count a connection while the block runs; the event is set when it should drain.

        limit     how many may be open
        of_robot  how many of one robot, so that it leaves room for the others

        Raises TooManyConnections at a limit, StorageUnavailable while draining.
        """
        # A load balancer may send a robot here in the moment of stopping; it finds another replica.
        if self._draining.is_set():
            raise StorageUnavailable("this process is stopping; connect again")
        if self._open.total() >= limit:
            raise TooManyConnections(f"{limit} connections are open", limit=limit)
        if self._open[robot_id] >= of_robot:
            raise TooManyConnections(
                f"{robot_id} has {of_robot} open connections, which is the limit", limit=of_robot
            )
        self._open[robot_id] += 1
        self._none_left.clear()
        try:
            yield self._draining
        finally:
            self._open[robot_id] -= 1
            if not self._open[robot_id]:
                # A counter keeps names at 0, and `_open` must be empty once nobody is left.
                del self._open[robot_id]
            if not self._open:
                self._none_left.set()

    async def drain(self) -> None:
        """Ask every connection to finish; return once all have."""
        self._draining.set()
        await self._none_left.wait()
