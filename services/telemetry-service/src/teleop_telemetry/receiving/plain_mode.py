"""The plain mode of `/ws/log/{robot_id}`: JSON frames from any WebSocket client.

The server says nothing before the first frame, because the session needs the names in that frame. It can't
know about frames that never arrived, so such sessions are `best_effort`. A message that can't be understood
is answered with an error, left out, and counted in the session's ledger; the connection continues.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from uuid import uuid4

import msgspec
from msgspec import UNSET, Struct, UnsetType
from starlette.websockets import WebSocket
from teleop_runtime.logs import get_logger
from teleop_runtime.serving.problems import as_message
from teleop_runtime.trouble import trouble_of
from teleop_schema.decoding import DECODE_ERRORS
from teleop_schema.errors import BackendError, BadMessage, ProtocolViolation
from teleop_schema.limits import Limits
from teleop_schema.messages import SUBPROTOCOL, Welcome
from teleop_schema.plain import decoding_plain
from teleop_schema.session import Fps, Operator, SessionDescription, Text

from teleop_telemetry import metrics
from teleop_telemetry.frames.block import FrameBlock
from teleop_telemetry.receiving.acks import Notices
from teleop_telemetry.receiving.batcher import Batcher
from teleop_telemetry.receiving.session import PlainSession
from teleop_telemetry.receiving.turns import Turns
from teleop_telemetry.receiving.wire import receive_message, tell
from teleop_telemetry.receiving.writer import Writer
from teleop_telemetry.tables.refusals import Refusals
from teleop_telemetry.tables.session_table import OpenSession, SessionTable

log = get_logger(__name__)

# How old the ledger of an open session may be, and how often invalid messages cost a commit.
NOTE_EVERY_S = 1.0
# Pause between attempts to open or end a session while the database can't be used.
AGAIN_AFTER_S = 1.0


class _Tagged(Struct):
    """A message of which only the kind counts."""

    type: str


_tag_decoder = msgspec.json.Decoder(_Tagged)
ACKNOWLEDGED_ONLY = ("hello", "end")


class PlainQuery(Struct, forbid_unknown_fields=True):
    """Query parameters of a plain connection: everything that frames do not contain.

    fps         declared rate of the frames, Hz
    task        what the robot does, in words
    robot_type  kind of the robot, as LeRobot names it
    operator    who drives it
    """

    fps: Fps = 60.0
    task: Text | None = None
    robot_type: Text = "unknown"
    operator: Operator | UnsetType = UNSET


class PlainConnection:
    """One plain client's connection; its session begins with its first frame."""

    def __init__(
        self,
        websocket: WebSocket,
        robot_id: str,
        query: PlainQuery,
        batcher: Batcher,
        table: SessionTable,
    ) -> None:
        self._websocket = websocket
        self._robot_id = robot_id
        self._query = query
        self._batcher = batcher
        self._table = table
        self._session: PlainSession | None = None
        self._turns = Turns()
        self._refusals = Refusals()
        self._noting: asyncio.Task[None] | None = None
        self.writer = Writer(0, 0, 0)
        self.notices = Notices(self.writer, batcher.trouble)

    async def receive(self) -> None:
        """Take messages forever; raises what `receive_message` raises at the end."""
        while True:
            try:
                message = await receive_message(self._websocket)
            except BackendError as unread:
                # Nobody knows how many frames it contained.
                self._refusals.add("", unread)
                raise
            try:
                block = await self._block_of(message)
            except BackendError as error:
                if wrong_mode := _of_the_other_mode(message):
                    self._refusals.add(message, wrong_mode)
                    raise wrong_mode from error
                self._refuse(message, error)
                await self._turns.take(len(message))
            else:
                metrics.FRAMES_RECEIVED.inc(block.end - block.first)
                await self._batcher.submit(self.writer, block)

    async def finish(self, *, orderly: bool) -> None:
        """End the session, once everything submitted is durable.

        orderly  the client has said that it is done; otherwise it may have wanted to send more: the session
                 is interrupted, and how many frames there were in all stays unknown
        """
        if self._noting is not None:
            # The end stores all refusals; a note at the same time could overwrite it with fewer.
            self._noting.cancel()
        if self._session is None:
            if refused := self._refusals.all():
                log.warning(
                    "no frame could be stored", robot=self._robot_id, reasons=[r.reason for r in refused]
                )
            return
        await self.writer.settled()
        opened = OpenSession(self.writer.session_id, self.writer.epoch, 0)
        await self._persist(
            lambda: self._table.finish(
                opened,
                frames=self.writer.submitted,
                logged=self.writer.submitted if orderly else None,
                status="complete" if orderly else "interrupted",
                refusals=self._refusals.all(),
            )
        )

    async def _persist[Done](self, work: Callable[[], Awaitable[Done]]) -> Done:
        """What `work` returns, tried until the database can do it; the reason is reported once.

        A client that only sends can't send a frame again, nor say again that it is done.
        """
        reported: str | None = None
        while True:
            try:
                return await work()
            except Exception as error:
                trouble = trouble_of(error) or error
                if not (isinstance(trouble, BackendError) and trouble.retryable):
                    raise
                if trouble.detail != reported:
                    reported = trouble.detail
                    log.warning(
                        "database away", robot=self._robot_id, error=trouble.detail, hint=trouble.hint
                    )
                    self.notices.add(as_message(trouble, fatal=False))
            await asyncio.sleep(AGAIN_AFTER_S)

    def _refuse(self, message: str | bytes, error: BackendError) -> None:
        metrics.MESSAGES_REFUSED.labels(error.code).inc()
        self._refusals.add(message, error)
        self.notices.add(as_message(error, fatal=False))
        if self._noting is None and self._session is not None:
            self._noting = asyncio.create_task(self._note_refusals())

    async def _note_refusals(self) -> None:
        """Keep the session's ledger up to date while it is open; its end stores the rest."""
        while True:
            if self._refusals.changed:
                # Before the note, so that a refusal during it is noted the next time.
                self._refusals.changed = False
                try:
                    await self._table.note_refusals(self.writer.session_id, self._refusals.all())
                except Exception as error:
                    self._refusals.changed = True
                    log.warning("refused frames could not be recorded, trying again", error=repr(error))
            await asyncio.sleep(NOTE_EVERY_S)

    async def _block_of(self, message: str | bytes) -> FrameBlock:
        # Taken before anything that costs time: frames without a time get it from this.
        arrived_us = time.time_ns() // 1000
        if isinstance(message, bytes):
            raise BadMessage(
                "frames must be JSON text, this message is binary",
                hint=f"send a text message; for batches, connect with the subprotocol {SUBPROTOCOL}",
            )
        # A long message takes 8 ms to read, and 10 ms to be turned into columns.
        half = len(message) // 2
        frames = await self._turns.through(decoding_plain(message), half)
        session = self._session or PlainSession(frames[0], fps=self._query.fps)
        block = await self._turns.through(session.receive(frames, arrived_us), half)
        if self._session is None:
            await self._open(session, block.started_us)
            self._session = session
        return block

    async def _open(self, session: PlainSession, started_us: int) -> None:
        description = SessionDescription(
            robot_type=self._query.robot_type,
            operator=self._query.operator,
            fps=self._query.fps,
            state_names=session.state_names,
            action_names=session.action_names,
            started_at_us=started_us,
            task=self._query.task,
        )
        # One for all attempts: if the outcome of one is unknown, the next takes its session over.
        stream = uuid4()
        opened = await self._persist(
            lambda: self._table.open(stream, self._robot_id, description, delivery="best_effort")
        )
        self.writer.session_id, self.writer.epoch = opened.id, opened.epoch
        await tell(
            self._websocket, Welcome(session_id=opened.id, epoch=opened.epoch, next=0, limits=Limits())
        )


def _of_the_other_mode(message: str | bytes) -> ProtocolViolation | None:
    """What to tell the sender of a message that could not be stored, if it is one of the acknowledged mode: a
    refusal that lets the connection go on would leave it waiting forever for its `welcome`."""
    try:
        kind = _tag_decoder.decode(message).type if isinstance(message, str) else None
    except DECODE_ERRORS:
        return None
    if kind not in ACKNOWLEDGED_ONLY:
        return None
    return ProtocolViolation(
        f"{kind} belongs to the acknowledged mode, and this connection is in plain mode",
        field="type",
        hint=f"connect with the subprotocol {SUBPROTOCOL}",
    )
