"""Tells the robot what is durable, and what was wrong."""

from collections import deque

from starlette.websockets import WebSocket
from teleop_runtime.serving.connection import peer_of
from teleop_runtime.serving.problems import as_message
from teleop_schema.messages import Ack, ErrorMessage

from teleop_telemetry.receiving.trouble import Trouble
from teleop_telemetry.receiving.wire import tell
from teleop_telemetry.receiving.writer import Writer

# Further errors are not sent one by one; the session's ledger counts them all.
MAX_WAITING_NOTICES = 16


class Notices:
    """Messages for one connection besides its acknowledgements, up to a limit."""

    def __init__(self, writer: Writer, trouble: Trouble) -> None:
        self.trouble = trouble
        self._writer = writer
        self._waiting: deque[ErrorMessage] = deque()
        self._told: ErrorMessage | None = None

    def add(self, notice: ErrorMessage) -> None:
        """Queue a message, unless too many wait already because the client does not read."""
        if len(self._waiting) < MAX_WAITING_NOTICES:
            self._waiting.append(notice)
            self._writer.changed.set()

    def take(self) -> list[ErrorMessage]:
        """All queued messages, and the reason why this connection's frames are not committed,
        if it is new."""
        taken = list(self._waiting)
        self._waiting.clear()
        error = self.trouble.error
        if error is None:
            self._told = None
        # Whoever has everything safe need not hear of it.
        elif self._writer.committed < self._writer.submitted:
            notice = as_message(error, fatal=False)
            if notice != self._told:
                self._told = notice
                taken.append(notice)
        return taken


async def send_acks(websocket: WebSocket, writer: Writer, notices: Notices) -> None:
    """Send cumulative acknowledgements and notices until cancelled; raises the writer's failure.

    Only the newest acknowledgement ever waits to be sent, however slowly the robot reads. If a robot does not
    read, nothing is sent until it reads again.
    """
    peer = peer_of(websocket)
    peer.on_reading = writer.changed.set
    with notices.trouble.heard(writer.changed.set):
        while True:
            await writer.changed.wait()
            writer.changed.clear()
            if writer.failure is not None:
                raise writer.failure
            # `on_reading` wakes this up again; until then nothing piles up but the newest acknowledgement.
            if not peer.reads:
                continue
            for notice in notices.take():
                await tell(websocket, notice)
            if writer.owes_ack:
                writer.owes_ack = False
                await tell(websocket, Ack(next=writer.committed))
