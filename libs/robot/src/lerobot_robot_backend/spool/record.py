"""Layout of one spool record; no I/O.

Numbers are little-endian. A record is a multiple of 8 bytes, so that records can be found again after damage.

    0  u32  CRC-32C (Castagnoli) of everything after it
    4  u32  size of the whole record in bytes; 0 where no record has been written yet
    8  u8   kind
    9  u8   form of a frame's tail, see there; else 0; then 2 zero bytes
   12  u32  size of the tail in bytes
   16  i64  index   frame: its index; gap: first missing frame; event, close: index of the next frame
   24  i64  number  frame: capture time, us since the Unix epoch; gap: how many frames; else 0
   32  f32  frame only: state vector, then action vector
        …   tail    frame: nothing, or of form 1 MessagePack `FrameExtras`, of form 0 (older spools)
                    MessagePack of its `extra` alone; gap: reason, UTF-8; event: MessagePack `Event`; then
                    zeros up to the multiple of 8
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import google_crc32c
import msgspec
from teleop_schema.messages import Event

HEAD = struct.Struct("<IIBB2xIqq")
CRC = struct.Struct("<I")
# One aligned store of that size is all or nothing, so a record appears at once.
ALIGNMENT = 8
# As much as the server accepts of a frame (`MAX_EXTRA_BYTES`).
MAX_TAIL_BYTES = 64 * 1024
# HEAD, two vectors of MAX_VECTOR_VALUES, MAX_TAIL_BYTES of extra, teleop_schema.columns.MAX_PACKED_BYTES.
MAX_RECORD_BYTES = 80 * 1024

_BODY = struct.Struct("<IBB2xIqq")
# Forms of a tail.
_BARE, _BEYOND = 0, 1
_events = msgspec.msgpack.Decoder(Event)


class RecordKind(IntEnum):
    """The kind of a record."""

    FRAME = 1
    GAP = 2
    EVENT = 3
    CLOSE = 4


# A look into a set takes a fraction of what making the enum's member does.
_KINDS = frozenset(RecordKind)


class FrameExtras(msgspec.Struct, frozen=True, gc=False):
    """The data of a frame beyond its vectors.

    extra               anything, in a form that every database accepts
    observation_age_us  how old the observation was at the frame's time: it is that of an earlier frame; 0: it
                        is the frame's own
    columns             values of the session's columns, packed
    """

    extra: dict[str, Any] = {}
    observation_age_us: int = 0
    columns: bytes = b""


_extra = msgspec.msgpack.Decoder(dict[str, Any])
_beyond = msgspec.msgpack.Decoder(FrameExtras)
NOTHING_BEYOND = FrameExtras()


class DamagedRecord(ValueError):
    """These bytes are not a complete record."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record; `size`, `index`, `number` and `body` (vectors and tail) as in the layout."""

    kind: int
    size: int
    index: int
    number: int
    tail_size: int
    tail_form: int
    body: bytes

    def tail(self, vectors_size: int = 0) -> bytes:
        """The bytes after the vectors."""
        return self.body[vectors_size : vectors_size + self.tail_size]

    @property
    def end(self) -> int:
        """Index of the frame that follows this record."""
        if self.kind == RecordKind.FRAME:
            return self.index + 1
        return self.index + self.number if self.kind == RecordKind.GAP else self.index


class FrameEncoder:
    """Makes frame records of `state_count` + `action_count` float32 values."""

    def __init__(self, state_count: int, action_count: int) -> None:
        count = state_count + action_count
        layout = f"<IBB2xIqq{count}f"
        self._plain_size = CRC.size + _padded(struct.calcsize(layout), before=CRC.size)
        self._vectors = struct.Struct(layout)
        self._plain = struct.Struct(f"{layout}{self._plain_size - CRC.size - self._vectors.size}x")

    def encode(self, index: int, captured_us: int, values: Sequence[float], tail: bytes = b"") -> bytes:
        """One record. Raises OverflowError for a value beyond float32, struct.error for one
        that is not a number.

        values  state, then action
        tail    as `encode_beyond` gives it, or nothing
        """
        if not tail:
            body = self._plain.pack(self._plain_size, RecordKind.FRAME, _BARE, 0, index, captured_us, *values)
        else:
            bare = self._vectors.size + len(tail)
            size = CRC.size + _padded(bare, before=CRC.size)
            body = self._vectors.pack(size, RecordKind.FRAME, _BEYOND, len(tail), index, captured_us, *values)
            body += tail
            body += bytes(size - CRC.size - bare)
        return CRC.pack(google_crc32c.value(body)) + body


def encode_gap(first: int, count: int, reason: str) -> bytes:
    """Record saying that `count` frames from `first` on are missing, and why."""
    return _encode(RecordKind.GAP, first, count, reason.encode("utf-8", "replace")[:MAX_TAIL_BYTES])


def encode_event(next_index: int, event: Event) -> bytes:
    """Record of an event before frame `next_index`."""
    return _encode(RecordKind.EVENT, next_index, 0, msgspec.msgpack.encode(event))


def encode_close(frames: int) -> bytes:
    """Record saying that the session ended normally, with `frames` frames."""
    return _encode(RecordKind.CLOSE, frames, 0, b"")


def decode_record(buffer: bytes | memoryview, offset: int = 0) -> Record | None:
    """The record at `offset`; None where nothing has been written.

    Raises DamagedRecord if the bytes are neither, also if the record reaches past the buffer's end.
    """
    if len(buffer) - offset < HEAD.size:
        raise DamagedRecord("the record is cut off")
    crc, size, kind, tail_form, tail_size, index, number = HEAD.unpack_from(buffer, offset)
    # Prepared space is zeros, and no record has the size 0.
    if size == 0 and crc == 0:
        return None
    # Before the checksum, so that a damaged size can't make this read the whole file.
    if not HEAD.size <= size <= MAX_RECORD_BYTES or size % ALIGNMENT or offset + size > len(buffer):
        raise DamagedRecord(f"a record can't be {size} bytes long")
    record = bytes(buffer[offset + CRC.size : offset + size])
    if google_crc32c.value(record) != crc:
        raise DamagedRecord("the checksum does not match")
    if kind not in _KINDS or tail_size > size - HEAD.size or index < 0:
        raise DamagedRecord(f"the record's kind is {kind} and its tail {tail_size} bytes long")
    return Record(kind, size, index, number, tail_size, tail_form, record[_BODY.size :])


def encode_beyond(extra: bytes = b"", *, observation_age_us: int = 0, columns: bytes = b"") -> bytes:
    """The tail of a frame's record, as `FrameExtras` describes it; empty if there is nothing to store.

    extra  as `encode_extra` gives it
    """
    told: dict[str, Any] = {}
    if extra:
        told["extra"] = msgspec.Raw(extra)
    if observation_age_us:
        told["observation_age_us"] = observation_age_us
    if columns:
        told["columns"] = columns
    return msgspec.msgpack.encode(told) if told else b""


def decode_beyond(record: Record, vectors_size: int) -> FrameExtras:
    """The data of a frame beyond its `vectors_size` bytes of vectors; raises DECODE_ERRORS if it is none."""
    if not record.tail_size:
        return NOTHING_BEYOND
    tail = record.tail(vectors_size)
    if record.tail_form == _BARE:
        return FrameExtras(extra=_extra.decode(tail))
    return _beyond.decode(tail)


def decode_event(record: Record) -> Event:
    """The event in an event record; raises DECODE_ERRORS if it is none that this release knows."""
    return _events.decode(record.tail())


def _encode(kind: RecordKind, index: int, number: int, tail: bytes) -> bytes:
    bare = _BODY.size + len(tail)
    size = CRC.size + _padded(bare, before=CRC.size)
    body = _BODY.pack(size, kind, _BARE, len(tail), index, number) + tail
    body += bytes(size - CRC.size - bare)
    return CRC.pack(google_crc32c.value(body)) + body


def _padded(size: int, *, before: int) -> int:
    """`size`, enlarged so that together with `before` bytes it is a multiple of the alignment."""
    return size + -(size + before) % ALIGNMENT
