"""A segment of one camera's video while it is recorded: `NNNNNN.part`, with one compressed picture after
another.

Each record is independent: a checksum, a length, a kind, then its content. Whatever kills the encoder, every
picture that it has appended is there afterwards, with its frame index and its time.
An mp4 would be unreadable without its end. `finish` makes the mp4.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

import google_crc32c
import msgspec
from msgspec import Struct
from teleop_schema.depth import DepthUnit
from teleop_schema.disk.opening import open_regular
from teleop_schema.files import DroppedFrames

from lerobot_robot_backend.spool.durable import sync_data
from lerobot_robot_backend.spool.record import CRC

# A segment of lossless pictures ends at this size, if not earlier by their number.
MAX_PART_BYTES = 256 * 1024**2
# A lossless picture of 6000x4000; anything longer is damage, not a picture.
_MAX_RECORD_BYTES = 128 * 1024**2

_HEAD = struct.Struct("<III")  # CRC of the rest, bytes of content, kind
_PICTURE = struct.Struct("<QQq")  # number, frame index, capture time


class _Kind(IntEnum):
    SEGMENT = 1
    PICTURE = 2
    DROPPED = 3
    END = 4


class SegmentHead(Struct, frozen=True, kw_only=True):
    """Data that is the same for all pictures of a segment.

    fps            pictures per second in the mp4; their true times are kept separately
    height, width  of the video, see `codec.video_size`
    depth_unit     unit of depth pictures (HEVC); None for colour pictures (H.264)
    """

    robot_id: str
    session: UUID
    camera_key: str
    chunk_index: int
    fps: float
    height: int
    width: int
    depth_unit: DepthUnit | None = None


@dataclass
class PartFile:
    """The contents of a part file, in order; the compressed pictures themselves stay in the file.

    numbers      how many pictures of this camera were seen before each of them
    captured_us  us since the Unix epoch
    ended        whether the camera's recording has ended, and what is missing is named
    size_bytes   how much of the file is whole
    """

    head: SegmentHead | None = None
    numbers: list[int] = field(default_factory=list)
    frame_indexes: list[int] = field(default_factory=list)
    captured_us: list[int] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    dropped: list[DroppedFrames] = field(default_factory=list)
    ended: bool = False
    size_bytes: int = 0


class PartWriter:
    """Appends to a part file; after a crash, each append is there as a whole or not at all.

    size_bytes  how large the file is
    """

    def __init__(self, path: Path, head: SegmentHead | None = None) -> None:
        """Begin a new file with `head`, or continue an existing one, cut to its whole records.
        Raises OSError."""
        self.path = path
        new = os.O_CREAT | os.O_EXCL if head else 0
        self._fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | new, 0o600)
        self.size_bytes = 0 if head else read_part(path).size_bytes
        try:
            if head:
                self._append(_record(_Kind.SEGMENT, msgspec.msgpack.encode(head)))
            else:
                # What follows the last whole record was being written when the encoder died.
                os.ftruncate(self._fd, self.size_bytes)
        except OSError:
            self.close()
            if head:
                path.unlink(missing_ok=True)
            raise

    def append_picture(
        self,
        number: int,
        frame_index: int,
        captured_us: int,
        packet: bytes,
        dropped: DroppedFrames | None = None,
    ) -> None:
        """Append a compressed picture and what is missing right before it. Raises OSError;
        then neither is appended."""
        record = _record(_Kind.PICTURE, _PICTURE.pack(number, frame_index, captured_us) + packet)
        if dropped is not None:
            record = _record(_Kind.DROPPED, msgspec.msgpack.encode(dropped)) + record
        self._append(record)

    def append_end(self, dropped: DroppedFrames | None) -> None:
        """Mark the camera's recording as ended, with what is missing at its end; raises OSError."""
        record = _record(_Kind.END, b"")
        if dropped is not None:
            record = _record(_Kind.DROPPED, msgspec.msgpack.encode(dropped)) + record
        self._append(record)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _append(self, record: bytes) -> None:
        rest = memoryview(record)
        try:
            while rest:
                rest = rest[os.pwrite(self._fd, rest, self.size_bytes + len(record) - len(rest)) :]
        except OSError:
            # Half a record at the end would hide everything that is appended after it.
            os.ftruncate(self._fd, self.size_bytes)
            raise
        self.size_bytes += len(record)


def read_part(path: Path) -> PartFile:
    """All whole records from the beginning of the file on. Raises OSError."""
    part = PartFile()
    with open_regular(path) as file:
        for kind, content in _read_records(file):
            start = part.size_bytes + _HEAD.size
            if kind == _Kind.SEGMENT:
                part.head = msgspec.msgpack.decode(content, type=SegmentHead)
            elif kind == _Kind.PICTURE:
                number, frame_index, captured_us = _PICTURE.unpack_from(content)
                part.numbers.append(number)
                part.frame_indexes.append(frame_index)
                part.captured_us.append(captured_us)
                part.places.append((start + _PICTURE.size, len(content) - _PICTURE.size))
            elif kind == _Kind.DROPPED:
                part.dropped.append(msgspec.msgpack.decode(content, type=DroppedFrames))
            # Of the last record: a recording that is continued after its end has not ended.
            part.ended = kind == _Kind.END
            part.size_bytes = start + len(content)
    return part


def sync_part(path: Path) -> None:
    """Return once what is in the file now is on the disk. Raises OSError."""
    with open_regular(path) as file:
        sync_data(file.fileno())


class PartPictures:
    """The compressed pictures of a part, one after the other, as a readable file."""

    def __init__(self, file: BinaryIO, part: PartFile) -> None:
        self._file = file
        self._places = iter(part.places)
        self._left = 0

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, none at the end."""
        while self._left == 0:
            place = next(self._places, None)
            if place is None:
                return b""
            self._file.seek(place[0])
            self._left = place[1]
        piece = self._file.read(min(size, self._left))
        self._left -= len(piece)
        return piece


def _record(kind: _Kind, content: bytes) -> bytes:
    rest = _HEAD.pack(0, len(content), kind)[4:] + content
    return CRC.pack(google_crc32c.value(rest)) + rest


def _read_records(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        crc, size, kind = _HEAD.unpack(head)
        if size > _MAX_RECORD_BYTES:  # do not read what a damaged length demands
            return
        content = file.read(size)
        if len(content) < size or crc != google_crc32c.value(head[4:] + content):
            return
        yield kind, content
