"""The acknowledged mode of `/ws/log/{robot_id}`: numbered batches, acknowledged after their commit."""

import asyncio

import msgspec
from starlette.websockets import WebSocket
from teleop_schema import messages
from teleop_schema.errors import BadMessage, ProtocolViolation, SessionMismatch
from teleop_schema.limits import Limits
from teleop_schema.messages import Batch, End, Ended, Hello, Nack, Welcome
from teleop_schema.words import counted

from teleop_telemetry import metrics
from teleop_telemetry.frames.block import extra_text
from teleop_telemetry.receiving.acks import Notices
from teleop_telemetry.receiving.batcher import Batcher
from teleop_telemetry.receiving.session import AcknowledgedSession, Known, Rewind, StoreFrames
from teleop_telemetry.receiving.turns import Turns
from teleop_telemetry.receiving.wire import receive_message, tell
from teleop_telemetry.receiving.writer import Writer
from teleop_telemetry.tables.session_table import OpenSession, SessionTable

# The hello is sent with the connection; a client without one only takes up a place.
HELLO_TIMEOUT_S = 5.0
LIMITS = Limits()
PLAIN_FRAMES = (
    "a connection with this subprotocol begins with `hello`; plain frames need a connection without one"
)
STATUS_OF_REASON = {"closed": "complete", "writer_died": "interrupted"}


class AcknowledgedConnection:
    """The connection of one robot, after its hello."""

    def __init__(
        self, websocket: WebSocket, opened: OpenSession, hello: Hello, batcher: Batcher, table: SessionTable
    ) -> None:
        self._websocket = websocket
        self._opened = opened
        self._batcher = batcher
        self._table = table
        self.writer = Writer(opened.id, opened.epoch, opened.next)
        self.notices = Notices(self.writer, batcher.trouble)
        self._session = AcknowledgedSession(
            next_frame=opened.next,
            state_width=len(hello.session.state_names),
            action_width=len(hello.session.action_names),
            columns=opened.columns,
        )

    async def receive(self) -> None:
        """Take messages until the stream has ended.

        Raises BackendError if the robot sends something invalid, WebSocketDisconnect if it goes away.
        """
        await tell(
            self._websocket,
            Welcome(
                session_id=self._opened.id, epoch=self._opened.epoch, next=self._opened.next, limits=LIMITS
            ),
        )
        turns = Turns()
        while True:
            message = await receive_message(self._websocket)
            if isinstance(message, bytes):
                await self._take(messages.decode_batch(message, LIMITS))
            elif await self._ended(messages.decode_robot_control(message)):
                return
            await turns.take(len(message))

    async def _take(self, batch: Batch) -> None:
        match self._session.receive(batch):
            case StoreFrames(block):
                metrics.FRAMES_RECEIVED.inc(block.end - block.first)
                await self._batcher.submit(self.writer, block)
            case Rewind(expected):
                metrics.REWINDS.inc()
                await tell(self._websocket, Nack(expected=expected))
            case Known():
                metrics.BATCHES_KNOWN.inc()
                self.writer.tell_again()

    async def _ended(self, message: messages.RobotMessage) -> bool:
        """Whether the session is closed now; False if frames are still to come."""
        if not isinstance(message, End):
            raise ProtocolViolation("hello may be sent only once, at the start of a connection", field="type")
        # Batches were lost on the way here: the end is sent again after them.
        if message.frames > self._session.next:
            await tell(self._websocket, Nack(expected=self._session.next))
            return False
        # What was submitted first: the end must not make a session shorter than its frames.
        await self.writer.settled()
        status = STATUS_OF_REASON[message.reason]
        if not await self._table.finish(
            self._opened,
            frames=message.frames,
            logged=message.frames,
            status=status,
            events=message.events,
        ):
            raise SessionMismatch(
                f"end says {counted(message.frames, 'frame')}, but the server holds {self._session.next}",
                field="frames",
            )
        await tell(self._websocket, Ended(frames=message.frames))
        return True


async def receive_hello(websocket: WebSocket) -> Hello:
    """First message of a robot; raises ProtocolViolation if it is anything else or does not come."""
    try:
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            message = await receive_message(websocket)
    except TimeoutError:
        raise ProtocolViolation(f"no hello within {HELLO_TIMEOUT_S:.0f} s", field="type") from None
    if isinstance(message, bytes):
        raise ProtocolViolation("a batch came before hello", field="type")
    try:
        hello = messages.decode_robot_control(message)
    except BadMessage as error:
        # The most frequent mistake: plain frames on a connection that chose the acknowledged mode.
        if error.field == "type":
            error.hint = PLAIN_FRAMES
        raise
    if not isinstance(hello, Hello):
        raise ProtocolViolation("end came before hello", field="type")
    # Refused here, the error names the field; the database's would not.
    extra_text(hello.session.host, "session.host")
    extra_text(msgspec.to_builtins(hello.session.cameras), "session.cameras")
    return hello
