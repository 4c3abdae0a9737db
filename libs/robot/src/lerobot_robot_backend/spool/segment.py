"""Segment files `frames-NNNNNN.seg`: a header, then records, then zeros up to the preallocated size."""

import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import google_crc32c
from teleop_schema.disk.opening import open_regular

from lerobot_robot_backend.spool.durable import reserve, sync_data, sync_directory
from lerobot_robot_backend.spool.record import CRC

# Half an hour of six joints at 60 Hz: few files, and acknowledged samples leave the disk soon enough.
SEGMENT_BYTES = 8 * 1024 * 1024
# One cache line, so that the first record is aligned as all others are.
HEADER_BYTES = 64
_MAGIC = b"LRBSEG1\n"
_HEADER = struct.Struct("<8sIIq16s20x")  # magic, state count, action count, first index, stream
_NAME = re.compile(r"frames-(\d{6,})\.seg")
# Two names, because two threads may prepare the same segment at the same time.
PREPARED_SUFFIXES = (".prepared", ".reserved")
# Written over the reserved space, so that the loop's first store into a page never waits for the file system.
_ZEROS = bytes(256 * 1024)


class DamagedSegment(ValueError):
    """The file is not a segment, or its header is damaged."""


@dataclass(frozen=True)
class SegmentHeader:
    """What the first 64 bytes of a segment say; `first_index` is that of its first record."""

    stream: UUID
    first_index: int
    state_count: int
    action_count: int

    def encode(self) -> bytes:
        body = _HEADER.pack(_MAGIC, self.state_count, self.action_count, self.first_index, self.stream.bytes)
        return body + CRC.pack(google_crc32c.value(body))

    @classmethod
    def decode(cls, content: bytes) -> "SegmentHeader":
        """Raises DamagedSegment."""
        body, crc = content[: _HEADER.size], content[_HEADER.size : HEADER_BYTES]
        if len(content) < HEADER_BYTES or CRC.unpack(crc)[0] != google_crc32c.value(body):
            raise DamagedSegment("the checksum of the segment's header does not match")
        magic, state_count, action_count, first_index, stream = _HEADER.unpack(body)
        if magic != _MAGIC:
            raise DamagedSegment(f"this is not a segment of a known format: {magic!r}")
        return cls(UUID(bytes=stream), first_index, state_count, action_count)


def has_records(stream_dir: Path) -> bool:
    """Whether anything was ever appended to a stream. Raises OSError."""
    for path in find_segments(stream_dir).values():
        with open_regular(path) as file:
            file.seek(HEADER_BYTES)
            if any(file.read(1)):
                return True
    return False


def segment_path(stream_dir: Path, number: int) -> Path:
    """The path of segment `number`."""
    return stream_dir / f"frames-{number:06d}.seg"


def find_segments(stream_dir: Path) -> dict[int, Path]:
    """Number -> file of the segments in use, ascending."""
    found = {}
    with os.scandir(stream_dir) as entries:
        for entry in entries:
            if match := _NAME.fullmatch(entry.name):
                found[int(match[1])] = Path(entry.path)
    return dict(sorted(found.items()))


def prepare_segment(stream_dir: Path, number: int, size_bytes: int, *, quick: bool = False) -> Path:
    """Allocate the disk space of a segment, under a name that readers do not see yet.

    The space is filled with zeros, not only reserved, so that a later sync of a record has no file-system
    metadata to write. The file and its name are durable. `quick` only reserves, and leaves both to the first
    sync of a record. Raises OSError, for example if the disk is full; then nothing is left behind.
    """
    path = segment_path(stream_dir, number).with_suffix(PREPARED_SUFFIXES[quick])
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        reserve(fd, size_bytes)
        if not quick:
            for offset in range(0, size_bytes, len(_ZEROS)):
                os.pwrite(fd, _ZEROS[: size_bytes - offset], offset)
            sync_data(fd)
            sync_directory(stream_dir)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    return path


def adopt_prepared(stream_dir: Path) -> None:
    """Make segments visible to readers that are in use but still have a prepared name.

    A power loss may undo the last rename although the records are on the disk. Only for a stream
    that nobody writes any more. Raises OSError.
    """
    adopted = False
    for suffix in PREPARED_SUFFIXES:
        for path in stream_dir.glob(f"frames-*{suffix}"):
            target = path.with_suffix(".seg")
            if _is_begun(path) and not target.exists():
                os.rename(path, target)
                adopted = True
    if adopted:
        sync_directory(stream_dir)


def _is_begun(path: Path) -> bool:
    """Whether there is a header: a segment that is only prepared has none."""
    try:
        with open_regular(path) as file:
            SegmentHeader.decode(file.read(HEADER_BYTES))
    except DamagedSegment:
        return False
    return True
