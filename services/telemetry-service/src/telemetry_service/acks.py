"""What a connection knows of its frames' fate, and telling the robot."""

import asyncio

from starlette.websockets import WebSocket
from teleop_schema.messages import Ack, encode_control

from telemetry_service.commit import Outcome


class Acks:
    """Cumulative acknowledgements of one connection: only the newest is ever waiting to be sent.

    committed  every frame below it is durable
    """

    def __init__(self, committed: int) -> None:
        self.committed = committed
        self._failure: BaseException | None = None
        self._settled = asyncio.Event()
        self._outstanding = 0
        self._changed = asyncio.Event()

    def watch(self, outcome: Outcome) -> None:
        """Acknowledge this block once it is durable."""
        self._outstanding += 1
        outcome.add_done_callback(self._done)

    def repeat(self) -> None:
        """Say again what is committed."""
        self._changed.set()

    async def send(self, websocket: WebSocket) -> None:
        """Send acknowledgements until cancelled; raises what a commit of this connection raised."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._failure is not None:
                raise self._failure
            await websocket.send_text(encode_control(Ack(next=self.committed)))

    async def settled(self) -> None:
        """Return once every block that is watched is durable; raises if one never will be."""
        while self._outstanding and self._failure is None:
            self._settled.clear()
            await self._settled.wait()
        if self._failure is not None:
            raise self._failure

    def _done(self, outcome: Outcome) -> None:
        self._outstanding -= 1
        if (error := outcome.exception()) is not None:
            self._failure = self._failure or error
        else:
            self.committed = max(self.committed, outcome.result())
        self._changed.set()
        self._settled.set()
