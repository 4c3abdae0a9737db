"""Who may send now: nobody while paused, and lower priorities only while higher ones have nothing to send."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum

from teleop_client.credentials import Tokens
from teleop_client.throttle import Throttle
from teleop_client.uploading import ByteSource, Interrupted, Uploader
from teleop_schema.files import DatasetVersion, FilePlan, Manifest, Receipt


class Priority(IntEnum):
    """What goes first."""

    TELEMETRY = 0
    VIDEO = 1
    DATASET = 2


class Lanes:
    """The shared connection to the backend."""

    def __init__(self, bytes_per_s: float | None = None) -> None:
        self._throttle = Throttle(bytes_per_s)
        self._sending = dict.fromkeys(Priority, 0)
        self._open = True
        self._changed = asyncio.Event()

    @property
    def piece_bytes(self) -> int | None:
        return self._throttle.piece_bytes

    @property
    def is_open(self) -> bool:
        return self._open

    def set_open(self, is_open: bool) -> None:
        """Open or close all lanes; running uploads stop after the current piece."""
        if is_open != self._open:
            self._open = is_open
            self._notify()

    @contextmanager
    def sending(self, priority: Priority) -> Iterator[None]:
        """A context in which lower priorities wait."""
        self._sending[priority] += 1
        try:
            yield
        finally:
            self._sending[priority] -= 1
            self._notify()

    async def turn(self, priority: Priority) -> None:
        """Return once this priority may send."""
        while not self._may_send(priority):
            await self._changed.wait()

    async def pass_through(self, priority: Priority, size_bytes: int) -> None:
        """Return once this many bytes may be sent."""
        # First the turn: bytes of a low priority must not use up bandwidth that a higher one waits for.
        await self.turn(priority)
        await self._throttle.pass_through(size_bytes)

    def _may_send(self, priority: Priority) -> bool:
        return self._open and not any(self._sending[higher] for higher in Priority if higher < priority)

    def _notify(self) -> None:
        # A new event each time, because those who wait must look again even if it changes back at once.
        self._changed.set()
        self._changed = asyncio.Event()


class _LaneThrottle(Throttle):
    """One lane's access to the shared bandwidth."""

    def __init__(self, lanes: Lanes, priority: Priority) -> None:
        super().__init__()
        self._lanes = lanes
        self._priority = priority

    @property
    def piece_bytes(self) -> int | None:
        return self._lanes.piece_bytes

    async def pass_through(self, size_bytes: int) -> None:
        await self._lanes.pass_through(self._priority, size_bytes)


class LaneUploader(Uploader):
    """An uploader of one priority.

    trouble  why the last upload or commit has to be tried again; None if it succeeded
    """

    def __init__(
        self, backend_url: str, lanes: Lanes, priority: Priority, *, tokens: Tokens, robot_id: str
    ) -> None:
        throttle = _LaneThrottle(lanes, priority)
        super().__init__(backend_url, tokens=tokens, robot_id=robot_id, throttle=throttle)
        self.trouble: str | None = None
        self._lanes = lanes
        self._priority = priority

    async def upload(
        self, plan: FilePlan, source: ByteSource, *, advance: Callable[[int], None] = lambda _: None
    ) -> Receipt:
        await self._lanes.turn(self._priority)
        # Others of lower priority stop at their next piece, and go on where they were.
        with self._lanes.sending(self._priority), self._noting_trouble():
            return await super().upload(plan, source, advance=advance)

    async def commit(self, robot_id: str, dataset: str, manifest: Manifest) -> DatasetVersion:
        await self._lanes.turn(self._priority)
        with self._noting_trouble():
            return await super().commit(robot_id, dataset, manifest)

    @contextmanager
    def _noting_trouble(self) -> Iterator[None]:
        try:
            yield
        except Interrupted as error:
            self.trouble = str(error)
            raise
        self.trouble = None
