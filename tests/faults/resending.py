"""A robot as its library behaves: it keeps what is not acknowledged and comes back wherever a server is."""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

from teleop_schema.errors import BadMessage
from teleop_schema.messages import Ack, Drain, End, Ended, ErrorMessage, Nack
from teleop_testing.robots.robot import TestRobot, batch
from websockets.exceptions import WebSocketException

WINDOW_BATCHES = 64
RECONNECT_S = 0.2


class ResendingRobot:
    """Streams frames as fast as they are taken, until it is told to end.

    pace_s          pause after each batch
    window_batches  unacknowledged batches at most

    acked   every frame below it was acknowledged, by whichever connection
    drains  how often a server asked it to go elsewhere
    breaks  how often a connection ended unasked, as some do where a machine has too much to do
    """

    def __init__(
        self,
        robot_id: str,
        addresses: Sequence[str],
        *,
        batch_frames: int = 30,
        pace_s: float = 0.0,
        window_batches: int = WINDOW_BATCHES,
    ) -> None:
        self.robot_id = robot_id
        self.stream = uuid4()
        self.acked = 0
        self.drains = 0
        self.breaks = 0
        self.session_id = 0
        self.close_codes: list[int] = []
        self._addresses = addresses
        self._batch_frames = batch_frames
        self._pace_s = pace_s
        self._window_frames = window_batches * batch_frames
        self._total: int | None = None
        self._connections = 0

    def end(self, total: int) -> None:
        """Stop at `total` frames."""
        self._total = total

    async def run(self) -> None:
        """Return once the server has said that the session has ended."""
        while True:
            address = self._addresses[self._connections % len(self._addresses)]
            self._connections += 1
            drains = self.drains
            try:
                async with TestRobot.connected(address, self.robot_id, stream=self.stream) as robot:
                    if await self._converse(robot):
                        return
            except (OSError, TimeoutError, AssertionError, BadMessage, WebSocketException) as error:
                closed = getattr(error, "rcvd", None)
                self.close_codes += [closed.code] if closed else []
            self.breaks += self.drains == drains
            await asyncio.sleep(RECONNECT_S)

    async def _converse(self, robot: TestRobot) -> bool:
        self.session_id = robot.welcome.session_id
        assert robot.welcome.next >= self.acked, "an acknowledged frame is gone"
        self.acked = self._next = robot.welcome.next
        self._room = asyncio.Event()
        self._room.set()
        sending = asyncio.create_task(self._send(robot))
        try:
            return await self._listen(robot)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, robot: TestRobot) -> None:
        while self._total is None or self._next < self._total:
            await self._room.wait()
            await robot.send(batch(self._next, self._batch_frames))
            self._next += self._batch_frames
            if self._next - self.acked >= self._window_frames:
                self._room.clear()
            await asyncio.sleep(self._pace_s)
        await robot.say(End(frames=self._next))

    async def _listen(self, robot: TestRobot) -> bool:
        while True:
            message = await robot.hear_any()
            match message:
                case Ack(next=acked):
                    self.acked = acked
                    self._room.set()
                case Drain():
                    self.drains += 1
                case Ended():
                    return True
                case Nack() | ErrorMessage():
                    return False
