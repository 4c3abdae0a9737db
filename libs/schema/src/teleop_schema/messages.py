"""Messages of the acknowledged mode, subprotocol `lerobot.telemetry.v1.4`.

Control messages are JSON text tagged by `type`. A batch is one binary message: four bytes of CRC-32C
(little-endian, Castagnoli) over the rest, then the batch as a MessagePack map.
"""

import struct
from typing import Annotated, Any, Literal
from uuid import UUID

import google_crc32c
import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from teleop_schema.columns import Column
from teleop_schema.decoding import DECODE_ERRORS, explain, field_of
from teleop_schema.errors import BadCrc, BadMessage, MessageTooLarge
from teleop_schema.limits import Limits
from teleop_schema.session import FeatureName, SessionDescription, Text
from teleop_schema.words import counted

# A robot offers all of them, and a server takes the first that it knows. What the older ones lack:
# v1.3  a server that does not know a newer one refuses a session with an operator, so it is told of none;
# v1.2  and a hello with a secret, so it is sent none;
# v1.1  a server that does not know a newer one refuses a pause without an end, so it is not told of any;
# v1    and a robot that offers no newer one refuses fields that it does not know, so its errors are sent
#       without `retryable`.
SUBPROTOCOL = "lerobot.telemetry.v1.4"
SUBPROTOCOL_1_3 = "lerobot.telemetry.v1.3"
SUBPROTOCOL_1_2 = "lerobot.telemetry.v1.2"
SUBPROTOCOL_1_1 = "lerobot.telemetry.v1.1"
OLDEST_SUBPROTOCOL = "lerobot.telemetry.v1"
SUBPROTOCOLS = (SUBPROTOCOL, SUBPROTOCOL_1_3, SUBPROTOCOL_1_2, SUBPROTOCOL_1_1, OLDEST_SUBPROTOCOL)
# The plain mode needs no subprotocol. But a page in a browser can send a token only as an offered one,
# and the browser then fails the connection unless the server chooses one: this one.
PLAIN_SUBPROTOCOL = "lerobot.plain.v1"
# How names of this protocol begin, those of releases to come too.
SUBPROTOCOL_FAMILY = "lerobot."
CRC = struct.Struct("<I")

Index = Annotated[int, Meta(ge=0, le=2**62)]
EpisodeIndex = Annotated[int, Meta(ge=0, le=2**31 - 1)]
AgeUs = Annotated[int, Meta(ge=1, le=2**62)]
# At least 128 bits as base64url, and never in an address, a log or a file of anybody else.
StreamSecret = Annotated[str, Meta(min_length=22, max_length=128, pattern=r"^[A-Za-z0-9_-]+$(?!\n)")]


class Event(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, gc=False):
    """Something that happened in the stream, sent with the frame batch that follows it (or with `end`).

    Kinds of events:

        episode_start  frame_index is the first frame of episode_index
        episode_task   frame_index is the first frame of episode_index whose task is `task`
        episode_end    frame_index is one past the last frame of episode_index
        episode_pause  frames frame_index to end_frame - 1 lie within episode_index, but do not belong to it;
                       without end_frame: the pause lasts, and unless its end is told, the episode ended there
        mark           frame_index is the frame that `note` is about
        column         frames from frame_index on may have a value of `column`
        no_video       `camera` has no video, and will not have any; `note` says why
        not_recorded   the recording command's dataset has `feature`, which the session lacks
                       or has in another form;
                       `note` says why

    Events are sent at least once; storing one twice changes nothing.

    kind     what happened
    column   the column, for `column`
    feature  name of the feature, for `not_recorded`
    """

    kind: Literal[
        "episode_start",
        "episode_task",
        "episode_pause",
        "episode_end",
        "mark",
        "column",
        "no_video",
        "not_recorded",
    ]
    frame_index: Index
    end_frame: Index | None = None
    episode_index: EpisodeIndex | None = None
    task: Text | None = None
    outcome: Literal["success", "failure", "discarded"] | None = None
    note: Text | None = None
    column: Column | None = None
    camera: FeatureName | None = None
    feature: FeatureName | None = None

    def __post_init__(self) -> None:
        if self.kind.startswith("episode") != (self.episode_index is not None):
            raise ValueError("required for episodes, not allowed for other events: field `episode_index`")
        if self.kind != "episode_pause" and self.end_frame is not None:
            raise ValueError("only a pause may have it: field `end_frame`")
        if self.end_frame is not None and self.end_frame <= self.frame_index:
            raise ValueError("a pause must end after it begins: field `end_frame`")
        if (self.kind == "column") != (self.column is not None):
            raise ValueError("required for a column event, not allowed for other events: field `column`")
        if (self.kind == "no_video") != (self.camera is not None):
            raise ValueError("required for a no_video event, not allowed for other events: field `camera`")
        if (self.kind == "not_recorded") != (self.feature is not None):
            raise ValueError(
                "required for a not_recorded event, not allowed for other events: field `feature`"
            )

    @property
    def is_lasting_pause(self) -> bool:
        """Whether it tells the beginning of a pause whose end nobody knows yet."""
        return self.kind == "episode_pause" and self.end_frame is None


class Batch(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, gc=False):
    """Consecutive frames of one stream, `first` to `first + count - 1`.

    timestamps  count x int64 little-endian, us since the Unix epoch, robot's capture clock
    state       count x S float32 little-endian, row-major, S = len(state_names)
    action      count x A float32 little-endian, row-major, A = len(action_names)
    extra       offset in this batch -> that frame's values beyond its names
    observation_ages_us
                offset in this batch -> age of that frame's observation at its timestamp, us, if it is that of
                an earlier frame, repeated with a newer action; all other frames have their own observation
    columns     offset in this batch -> that frame's values of the session's columns, packed as in
                `teleop_schema.columns`
    events      what happened before these frames
    gap         if set, these frames are missing for this reason, and the three arrays are empty; a gap may be
                longer than a batch of frames
    """

    first: Index
    count: Annotated[int, Meta(ge=1, le=2**32)]
    timestamps: bytes = b""
    state: bytes = b""
    action: bytes = b""
    extra: dict[int, dict[str, Any]] = {}
    observation_ages_us: dict[int, AgeUs] = {}
    columns: dict[int, bytes] = {}
    events: tuple[Event, ...] = ()
    gap: Text | None = None

    @property
    def end(self) -> int:
        """One past the last frame index."""
        return self.first + self.count


class Hello(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="hello"):
    """First message of a connection; takes the stream over from any other connection.

    stream         created by the robot before its first sample
    session        what the frames are
    first_unacked  oldest frame index that is not acknowledged yet
    secret         made by the robot with the stream: from the first hello that has it, nobody without it
                   may go on with the stream
    """

    stream: UUID
    session: SessionDescription
    first_unacked: Index = 0
    secret: StreamSecret | UnsetType = UNSET


class End(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="type", tag="end"):
    """The stream has ended.

    frames  how many there are in all
    events  those after the last batch
    reason  closed: the session ended normally; writer_died: the recording process was killed
    """

    frames: Index
    reason: Literal["closed", "writer_died"] = "closed"
    events: tuple[Event, ...] = ()


class Welcome(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="welcome"):
    """Answer to `hello`, or in plain mode to the first frame: send from `next` on.

    epoch  counts the connections of the stream; an older one is fenced off
    next   index of the first frame that is not committed
    """

    session_id: int
    epoch: int
    next: Index
    limits: Limits


class Ack(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="ack"):
    """Every frame below `next` is committed.

    next  index of the first frame that is not committed
    """

    next: Index


class Nack(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="nack"):
    """A batch began past `expected`: rewind to it.

    expected  index of the frame that the next batch must begin with
    """

    expected: Index


class Ended(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="ended"):
    """All `frames` are committed and the session is closed."""

    frames: Index


class Drain(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="drain"):
    """This replica is going away: reconnect."""


class ErrorMessage(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="error"):
    """What was wrong with a message; the connection closes after a fatal one.

    A client must ignore fields that it does not know.

    code       stable name of the error
    detail     what was wrong, in words
    fatal      whether the connection closes
    retryable  true: the same message may succeed later, once time or a person has fixed the cause; false:
               it is refused however often it is sent; None: the server's release does not say
    """

    code: str
    detail: str
    fatal: bool
    field: str | None = None
    hint: str | None = None
    retryable: bool | None = None


RobotMessage = Hello | End
ServerMessage = Welcome | Ack | Nack | Ended | Drain | ErrorMessage

_json = msgspec.json.Encoder()
_msgpack = msgspec.msgpack.Encoder()
_robot_decoder = msgspec.json.Decoder(RobotMessage)
_server_decoder = msgspec.json.Decoder(ServerMessage)
_batch_decoder = msgspec.msgpack.Decoder(Batch)


def encode_control(message: RobotMessage | ServerMessage) -> str:
    """JSON text of a control message."""
    return _json.encode(message).decode()


def decode_robot_control(text: str) -> RobotMessage:
    """The robot's message; raises BadMessage naming the field."""
    try:
        message: RobotMessage = _robot_decoder.decode(text)
    except DECODE_ERRORS as error:
        raise _not_understood(error) from error
    return message


def decode_server_control(text: str | bytes) -> ServerMessage:
    """The server's message; raises BadMessage naming the field."""
    try:
        message: ServerMessage = _server_decoder.decode(text)
    except DECODE_ERRORS as error:
        raise _not_understood(error) from error
    return message


def encode_batch(batch: Batch) -> bytes:
    """Binary message of a batch: CRC-32C, then MessagePack."""
    body = _msgpack.encode(batch)
    return CRC.pack(google_crc32c.value(body)) + body


def decode_batch(message: bytes, limits: Limits) -> Batch:
    """The batch in a binary message; checks its integrity and size, but not its vectors.

    Raises MessageTooLarge, BadCrc, or BadMessage naming the field.
    """
    if len(message) > limits.max_message_bytes:
        raise MessageTooLarge(
            f"the batch has {len(message)} bytes, the limit is {limits.max_message_bytes}",
            limit=limits.max_message_bytes,
        )
    if len(message) <= CRC.size:
        raise BadMessage(f"a binary message of {len(message)} bytes can't hold a batch", field="batch")
    body = memoryview(message)[CRC.size :]
    if CRC.unpack_from(message)[0] != google_crc32c.value(bytes(body)):
        raise BadCrc(field="crc32c", hint="send the batch again from the spool")
    try:
        batch = _batch_decoder.decode(body)
    except DECODE_ERRORS as error:
        raise _not_understood(error) from error
    if batch.gap is None and batch.count > limits.max_frames:
        raise BadMessage(
            f"count is {batch.count}, a batch holds at most {counted(limits.max_frames, 'frame')}",
            field="count",
            limit=limits.max_frames,
        )
    return batch


def _not_understood(error: Exception) -> BadMessage:
    """The error text for a message that could not be decoded."""
    field = field_of(error)
    return BadMessage(explain(error, field or "the message"), field=field)
