"""A file's hash and chunk list, made so that a later state of the same file shares as many chunks as
possible.

LeRobot's files grow in two ways: Parquet files by appending; mp4 files by a new head, followed by media bytes
that begin with the old ones. Therefore the chunks of the last uploaded state are tried on the new bytes, from
the anchor on, for as long as they fit. New bytes are cut by their content (FastCDC), and so are bytes whose
earlier chunks are not known.

Measured on a recording of 8 episodes (72 MB, two cameras), bytes sent including the lists: 1.005x the final
size with chunks of 64 KiB on average; 1.016x with cuts by content alone, at their best average of 16 KiB;
4.5x with whole files.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pyfastcdc import FastCDC
from teleop_client.uploading import ByteSource
from teleop_dataset.folder import FileSeen, VideoSeen
from teleop_schema.files import CHUNK_HASH_BYTES, CHUNK_RECORD_BYTES, MAX_DELTA_BYTES

# Smaller chunks find more equal bytes but make longer lists; measured above.
AVERAGE_CHUNK_BYTES = 64 * 1024
# For bytes before the anchor, which are few, rewritten, and partly the same (a quarter of info.json is new).
HEAD_CHUNK_BYTES = 1024
# Bytes read and hashed at a time.
PIECE_BYTES = 1024 * 1024
# A known chunk is read at once, so no list of another program may demand more than this.
MAX_KNOWN_CHUNK_BYTES = 4 * AVERAGE_CHUNK_BYTES
# Files that mostly stay the same; others are rewritten as a whole.
GROWING = (".parquet", ".mp4")
PARTLY_REWRITTEN = ("meta/info.json",)
_RECORD = struct.Struct(f"<I{CHUNK_HASH_BYTES}s")


@dataclass(frozen=True)
class Digest:
    """The hash and chunks of a file.

    chunks    records as in FilePlan; empty if the file is not worth comparing
    anchored  the chunks that begin at or after the anchor, to pass to `digest` for the next state
    """

    sha256: str
    size_bytes: int
    chunks: bytes = b""
    anchored: bytes = b""


class ShortRead(Exception):
    """The source ended before the file's size, because it was cut while being read."""


def is_delta(path: str, size_bytes: int) -> bool:
    """Whether a file is worth comparing with its earlier state."""
    return path.endswith((*GROWING, *PARTLY_REWRITTEN)) and 0 < size_bytes <= MAX_DELTA_BYTES


def anchor_of(file: FileSeen) -> int:
    """The offset after which the bytes begin with those of the earlier state."""
    if isinstance(file.content, VideoSeen):
        return file.content.media_begin
    return file.size_bytes if file.path in PARTLY_REWRITTEN else 0


def digest(
    source: ByteSource, size_bytes: int, *, delta: bool = False, anchor: int = 0, known: bytes = b""
) -> Digest:
    """The first `size_bytes` of `source`, read once; raises ShortRead.

    delta   whether to compute chunks
    anchor  the offset after which the bytes begin with those of the earlier state, if there was one
    known   `anchored` of that state
    """
    whole = hashlib.sha256()
    reader = _Reader(source, size_bytes, whole)
    if not delta:
        while reader.read(PIECE_BYTES):
            pass
        return Digest(whole.hexdigest(), size_bytes)
    head = _cut(reader, min(anchor, size_bytes), HEAD_CHUNK_BYTES)
    anchored = bytearray()
    for length, name in _records(known):
        piece = reader.peek(length)
        # From here on the bytes are new, so the remaining chunks are of no use.
        if len(piece) < length or _name(piece) != name:
            break
        reader.read(length)
        anchored += _RECORD.pack(length, name)
    anchored += _cut(reader, size_bytes, AVERAGE_CHUNK_BYTES)
    return Digest(whole.hexdigest(), size_bytes, bytes(head + anchored), bytes(anchored))


class _Reader:
    """Reads a source forwards, and hashes what was read."""

    def __init__(self, source: ByteSource, size_bytes: int, whole: "hashlib._Hash") -> None:
        self.position = 0
        self._source = source
        self._size = size_bytes
        self._whole = whole
        self._ahead = b""

    def read(self, size: int) -> bytes:
        """The next bytes, fewer only at the end."""
        piece = self.peek(size)
        self._ahead = self._ahead[len(piece) :]
        self.position += len(piece)
        self._whole.update(piece)
        return piece

    def peek(self, size: int) -> bytes:
        """The same, but they will be read again."""
        wanted = min(size, self._size - self.position)
        lacking = wanted - len(self._ahead)
        if lacking > 0:
            piece = self._source.read_at(self.position + len(self._ahead), lacking)
            if len(piece) < lacking:
                raise ShortRead
            # Without a copy of every piece in the usual case, where nothing was read ahead.
            self._ahead = self._ahead + piece if self._ahead else piece
        return self._ahead if len(self._ahead) == wanted else self._ahead[:wanted]


class _Window:
    """The part of the source that a chunker may read: up to `end`."""

    def __init__(self, reader: _Reader, end: int) -> None:
        self._reader = reader
        self._end = end

    def read(self, size: int) -> bytes:
        return self._reader.read(min(size, self._end - self._reader.position))


def _cut(reader: _Reader, end: int, average_bytes: int) -> bytearray:
    """Records of the bytes between the reader's position and `end`, cut by their content."""
    records = bytearray()
    if reader.position < end:
        for chunk in FastCDC(average_bytes).cut_stream(_Window(reader, end)):
            records += _RECORD.pack(chunk.length, _name(chunk.data))
    return records


def _records(chunks: bytes) -> Iterator[tuple[int, bytes]]:
    for start in range(0, len(chunks) - CHUNK_RECORD_BYTES + 1, CHUNK_RECORD_BYTES):
        length, name = _RECORD.unpack_from(chunks, start)
        # The list comes from the agent's own memory on disk, which may be damaged: it only costs bytes.
        if not 0 < length <= MAX_KNOWN_CHUNK_BYTES:
            return
        yield length, name


def _name(piece: bytes | memoryview) -> bytes:
    return hashlib.sha256(piece).digest()[:CHUNK_HASH_BYTES]
