"""The telemetry protocol over one connection, robot side: what to send, and what answers mean. No I/O."""

from collections import deque
from typing import Protocol

from msgspec import UNSET
from msgspec.structs import replace
from teleop_client.refusals import hint_for
from teleop_schema.errors import BadMessage, SessionErased
from teleop_schema.limits import Limits
from teleop_schema.messages import (
    SUBPROTOCOL,
    SUBPROTOCOL_1_2,
    SUBPROTOCOL_1_3,
    Ack,
    Batch,
    Drain,
    End,
    Ended,
    ErrorMessage,
    Event,
    Hello,
    Nack,
    ServerMessage,
    Welcome,
    encode_batch,
    encode_control,
)
from teleop_schema.words import counted, shown

from lerobot_robot_backend.spool.stream import GONE, StreamEnd, StreamFile


class BatchSource(Protocol):
    """Where batches come from; `SpoolReader` is one."""

    next_index: int

    def seek(self, index: int) -> None: ...
    def read(self, limits: Limits) -> Batch | None: ...
    def furthest(self) -> int: ...
    @property
    def end(self) -> StreamEnd | None: ...


class StreamRefused(Exception):
    """The server refuses this stream for now; the text says why.

    retryable  whether time or a person can fix it, as the server says; None: it did not say
    """

    def __init__(self, detail: str, retryable: bool | None = None) -> None:
        super().__init__(detail)
        self.retryable = retryable


class StreamErased(StreamRefused):
    """An admin has erased this stream on the server, which never takes it again."""


class NotBelieved(Exception):
    """The server claims frames of this stream that were never logged here; the text says which."""


class Shipping:
    """State of one connection.

    acked       every frame below is durable on the server
    session_id  the server's number of the session, None before `welcome`
    ended       the server has the whole session
    leaving     the server asks the robot to reconnect
    complaint   last error that did not close the connection; cleared once frames are acknowledged again
    """

    def __init__(self, source: BatchSource, description: StreamFile, acked: int, once: int = 0) -> None:
        """Set `once`: every frame below it was durable at some time, if that is more than `acked`."""
        self.acked = acked
        self.session_id: int | None = None
        self.ended = False
        self.leaving = False
        self.complaint: str | None = None
        self._source = source
        self._description = description
        self._once_acked = max(acked, once)
        # Until `welcome` nobody knows from which frame on, or how much at a time.
        self._limits: Limits | None = None
        self._in_flight: deque[tuple[int, int]] = deque()  # end index, bytes
        self._in_flight_bytes = 0
        # What the last rewind asked for; None once something beyond it was acknowledged.
        self._rewound_to: int | None = None
        # How many frames the `end` named that was sent; nothing follows it until it is answered.
        self._told_frames: int | None = None
        self._caught_up = False
        self._knows_pauses = True

    def hello(self, subprotocol: str = SUBPROTOCOL) -> str:
        """The first message, to a server that has chosen `subprotocol`."""
        self._knows_pauses = subprotocol in (SUBPROTOCOL, SUBPROTOCOL_1_3, SUBPROTOCOL_1_2)
        description = self._description
        # An older server would refuse it. It learns nothing that a newer one in its place could check.
        knows_secrets = subprotocol in (SUBPROTOCOL, SUBPROTOCOL_1_3)
        secret = description.secret if knows_secrets and description.secret else UNSET
        session = description.session
        if subprotocol != SUBPROTOCOL:
            session = replace(session, operator=UNSET)
        return encode_control(Hello(description.stream, session, self.acked, secret))

    def next_message(self) -> str | bytes | None:
        """The next message; None if there is nothing to send now, or too many frames are unacknowledged."""
        limits = self._limits
        if limits is None or self._told_frames is not None or self.leaving:
            return None
        if len(self._in_flight) >= limits.window_batches or self._in_flight_bytes >= limits.window_bytes:
            return None
        batch = self._source.read(limits)
        if batch is not None:
            # If no limit cut the batch, there was no more; the next one may wait to become larger.
            message = _encode_fitting(replace(batch, events=self._understood(batch.events)), limits)
            self._in_flight.append((batch.end, len(message)))
            self._in_flight_bytes += len(message)
            self._caught_up = batch.count < limits.max_frames and 2 * len(message) < limits.max_message_bytes
            return message
        self._caught_up = True
        end = self._source.end
        # Sent only when nothing is on its way, because the server can't be rewound after an `end`.
        if end is None or self._in_flight:
            return None
        # Server and disk have both lost frames that were safe: they become a gap, not a shorter session.
        if end.frames < self._once_acked and self.acked < self._once_acked:
            return self._tell_gone(end.frames)
        # A power loss may have taken frames from this disk that the server has: the session does not become
        # shorter.
        self._told_frames = max(end.frames, self.acked)
        return encode_control(End(self._told_frames, end.reason, self._understood(end.events)))

    @property
    def is_waiting(self) -> bool:
        """Whether an answer is expected."""
        return bool(self._in_flight) or self._told_frames is not None or self._limits is None

    @property
    def is_caught_up(self) -> bool:
        """Whether the last message contained everything that there was."""
        return self._caught_up

    def receive(self, message: ServerMessage) -> None:
        """Handle an answer.

        Raises StreamRefused, StreamErased, NotBelieved, or BadMessage if it makes no sense at this point.
        """
        if isinstance(message, ErrorMessage):
            self._complain(message)
        elif isinstance(message, Drain):
            self.leaving = True
        elif isinstance(message, Welcome):
            if self._limits is not None:
                raise BadMessage("the server sent a second welcome")
            self._check_welcome(message.next)
            self._limits = message.limits
            self.session_id = message.session_id
            self.acked = message.next
            self._source.seek(message.next)
        elif self._limits is None:
            raise BadMessage(f"the server sent {type(message).__name__} before welcome")
        elif isinstance(message, Ack):
            self._acknowledge(message.next)
        elif isinstance(message, Nack):
            self._rewind(message.expected)
        elif isinstance(message, Ended):
            if message.frames != self._told_frames:
                frames = counted(message.frames, "frame")
                raise NotBelieved(f"the server ended the session at {frames} instead of {self._told_frames}")
            self._acknowledge(message.frames)
            self.ended = True

    def _understood(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        """Those that the server knows: an older one would refuse the whole batch, and the session with it."""
        if self._knows_pauses:
            return events
        return tuple(event for event in events if not event.is_lasting_pause)

    def _tell_gone(self, first: int) -> bytes:
        """The server has lost frames that it had confirmed, and the spool no longer has them either."""
        self._source.seek(self._once_acked)
        batch = Batch(first=first, count=self._once_acked - first, gap=GONE)
        message = encode_batch(batch)
        self._in_flight.append((batch.end, len(message)))
        self._in_flight_bytes += len(message)
        return message

    def _check_welcome(self, next_index: int) -> None:
        # Reads the disk only if it matters: usually the server claims no more than it acknowledged.
        if next_index > max(self.acked, self._source.next_index) and next_index > self._source.furthest():
            raise NotBelieved(
                f"the server has {counted(next_index, 'frame')} of this session, but this computer has "
                f"logged at most {self._source.furthest()}: someone else wrote to it. Nothing is sent, "
                "everything is kept"
            )

    def _acknowledge(self, next_index: int) -> None:
        # Believed, it would let frames be removed here that nobody has.
        if next_index > (self._told_frames or self._source.next_index):
            raise NotBelieved(f"the server acknowledges frames up to {next_index}, which were never sent")
        if next_index > self.acked:
            self.complaint = None
        self.acked = max(self.acked, next_index)
        # What was asked for has arrived, so the same number would be a new loss.
        if self._rewound_to is not None and next_index > self._rewound_to:
            self._rewound_to = None
        # One acknowledgement is for all before it.
        while self._in_flight and self._in_flight[0][0] <= next_index:
            self._in_flight_bytes -= self._in_flight.popleft()[1]

    def _rewind(self, expected: int) -> None:
        if expected > max(self.acked, self._source.next_index):
            raise NotBelieved(f"the server asks for frame {expected}, but nothing before it was sent")
        # Each batch that was on its way behind a missing one is refused; only the first refusal counts.
        if expected == self._rewound_to:
            return
        self._rewound_to = expected
        self._in_flight.clear()
        self._in_flight_bytes = 0
        self._told_frames = None
        # The server's database may have been set back, so it may know less than it has acknowledged.
        self.acked = min(self.acked, expected)
        self._source.seek(expected)

    def _complain(self, message: ErrorMessage) -> None:
        text = f"{message.code}: {message.detail}" + (f" ({message.field})" if message.field else "")
        hint = hint_for(message.detail, message.hint)
        text = shown(text + (f"; {hint}" if hint else ""))
        if message.fatal and message.code == SessionErased.code:
            raise StreamErased(shown(message.detail), message.retryable)
        if message.fatal:
            raise StreamRefused(text, message.retryable)
        self.complaint = text


def _encode_fitting(batch: Batch, limits: Limits) -> bytes:
    """The batch as a message; a frame that is too large for any message becomes a gap that says so."""
    message = encode_batch(batch)
    if len(message) <= limits.max_message_bytes:
        return message
    frames = counted(batch.count, "frame")
    reason = (
        f"a message of {frames} has {len(message)} bytes, but the server accepts {limits.max_message_bytes}"
    )
    return encode_batch(Batch(first=batch.first, count=batch.count, gap=reason))
