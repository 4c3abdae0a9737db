"""Pictures on their way from the recording process to its encoder: a ring in memory that both map.

One process writes and one reads. Neither ever waits for the other, and there is no lock that a dead process
could hold. The memory has no name: the encoder inherits it as an open file, and it is freed with the last of
the two processes, however they end.

Layout: a page of 8-byte words (see `_Word` and `_Row`), then `capacity` bytes in which records follow each
other in a circle. A record is a header of 64 bytes, then the picture's rows. `head` and `tail` count bytes
since the beginning; head is stored once the record is whole, tail once its picture is in a file.
"""

import mmap
import os
import struct
import tempfile
import threading
import weakref
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import google_crc32c
import numpy as np

from lerobot_robot_backend.video.picture_kind import Picture, PictureKind, kind_of

# Smallest ring, however small the pictures are.
MIN_RING_BYTES = 8 * 1024**2
# Largest ring, however large the pictures are; two seconds of four cameras of 640x480 take 221 MB.
MAX_RING_BYTES = 256 * 1024**2

_PAGE_BYTES = 4096
# A cache line, so that writer and reader never share one.
_ALIGNMENT = 64
_MAGIC = int.from_bytes(b"LRBRING1", "little")
# CRC of the rest, camera, number, frame index, capture time, height, width, why those before it are missing,
# kind of picture
_RECORD = struct.Struct("<IIQQqIIII16x")
_SKIP = 0xFFFF_FFFF  # instead of a camera: nothing more up to the end of the memory
# The words of each process are on a cache line of their own.
_ROWS_AT = 16
_ROW_WORDS = 16
_ROWS = (_PAGE_BYTES // 8 - _ROWS_AT) // _ROW_WORDS  # how many cameras fit


class _Word(IntEnum):
    MAGIC = 0
    CAPACITY = 1
    CLOSED = 2
    HEAD = 4
    TAIL = 8
    ATTENDED = 9


class _Row(IntEnum):
    """Words of one camera: the first eight belong to the writer, the others to the reader."""

    SEEN = 0
    SEEN_INDEX = 1
    REASON = 2
    TAKEN = 8
    TAKEN_INDEX = 9
    RECORDED = 10
    FAILING = 11


class Reason(IntEnum):
    """Why the recording process did not hand a picture over, or the encoder did not record it."""

    NONE = 0
    FULL = 1
    NO_PICTURE = 2
    TOO_LARGE = 3
    NO_DEPTH = 4
    NO_ROOM = 5
    NOT_RECORDED = 6

    @property
    def text(self) -> str:
        """Text for people."""
        return _REASONS[self]


_REASONS = {
    Reason.NONE: "the encoder was stopped",
    Reason.FULL: "the encoder did not keep up with the cameras",
    Reason.NO_PICTURE: "the camera gave something other than an 8-bit RGB picture",
    Reason.TOO_LARGE: "the picture is too large for the memory between recorder and encoder",
    Reason.NO_DEPTH: "the camera gave something other than depth (uint16 in mm or float32 in m)",
    Reason.NO_ROOM: "too little space is free on the disk of the spool",
    Reason.NOT_RECORDED: "it can't be encoded or written",
}


class DamagedRing(ValueError):
    """The ring contains something that is not a record: the pictures in it are lost."""


@dataclass(frozen=True)
class TakenPicture:
    """One picture in the ring; `pixels` is valid until the picture is released.

    camera       position in the list of the session's recorded cameras
    number       how many pictures of this camera were seen before it; missing numbers were dropped
    frame_index  the loop iteration that first saw it
    captured_us  us since the Unix epoch
    pixels       (height, width, channels), with the dtype of its kind
    kind         what its values are
    reason       why the pictures right before it are missing, if they are
    end          where the next record begins
    """

    camera: int
    number: int
    frame_index: int
    captured_us: int
    pixels: Picture
    kind: PictureKind
    reason: Reason
    end: int


@dataclass(frozen=True)
class PictureTally:
    """Account of one camera's pictures so far.

    seen         number of pictures that the loop saw, recorded or not
    seen_index   the loop iteration that saw the last of them
    reason       why the last pictures were not handed over
    taken        all pictures with a lower number are handled
    taken_index  the loop iteration of the last handled picture, plus one
    recorded     number of pictures in a file
    failing      why the encoder could not record the last picture that it took; NONE if it did
    """

    seen: int
    seen_index: int
    reason: Reason
    taken: int
    taken_index: int
    recorded: int
    failing: Reason


class PictureRing:
    """The memory; the encoder inherits `fd`."""

    def __init__(self, fd: int) -> None:
        """Map a ring that `create_ring` made. Raises DamagedRing if it is not one."""
        self.fd = fd
        # Closed even if nobody calls `close`: a ring that stays open keeps up to 256 MB.
        self._let_go = weakref.finalize(self, os.close, fd)
        populate = getattr(mmap, "MAP_POPULATE", 0)  # Linux: avoids page faults later, in the loop
        self._map = mmap.mmap(fd, 0, flags=mmap.MAP_SHARED | populate)
        self._view = memoryview(self._map)
        self._words = self._view[:_PAGE_BYTES].cast("Q")
        if self._words[_Word.MAGIC] != _MAGIC:
            raise DamagedRing("this memory does not hold a picture ring")
        self.capacity = self._words[_Word.CAPACITY]
        self._data = self._view[_PAGE_BYTES : _PAGE_BYTES + self.capacity]
        self._fence = threading.Lock()

    def write(
        self, camera: int, number: int, frame_index: int, captured_us: int, pixels: Picture, reason: Reason
    ) -> bool:
        """Copy a picture of one of the kinds into the ring; returns False, and does nothing,
        if there is no space."""
        size = _record_bytes(pixels.nbytes)
        head = self._words[_Word.HEAD]
        offset = head % self.capacity
        skipped = self.capacity - offset if offset + size > self.capacity else 0
        # `tail` may be older than what the reader has released by now: then there is more room, never less.
        if skipped + size > self.capacity - (head - self._words[_Word.TAIL]):
            return False
        if skipped:
            self._store(offset, _RECORD.pack(0, _SKIP, 0, 0, 0, 0, 0, 0, 0))
            offset = 0
        height, width = pixels.shape[:2]
        rows_at = offset + _RECORD.size
        target = self._data[rows_at : rows_at + pixels.nbytes]
        if pixels.flags.c_contiguous:
            # Not numpy's copy, which releases Python's global lock and then waits to get it back.
            target[:] = memoryview(pixels).cast("B")
        else:
            np.frombuffer(target, pixels.dtype).reshape(pixels.shape)[...] = pixels
        kind = kind_of(pixels) or PictureKind.RGB
        record = _RECORD.pack(0, camera, number, frame_index, captured_us, height, width, reason, kind)
        self._store(offset, record)
        self._order()
        # Last: until then the reader does not look at the record.
        self._words[_Word.HEAD] = head + skipped + size
        return True

    def read(self) -> TakenPicture | None:
        """The oldest picture that is not released; None if there is none. Raises DamagedRing."""
        head, tail = self._words[_Word.HEAD], self._words[_Word.TAIL]
        if head == tail:
            return None
        self._order()
        offset = tail % self.capacity
        fields = self._load(offset)
        if fields[0] == _SKIP:
            tail += self.capacity - offset
            fields = self._load(offset := 0)
        camera, number, frame_index, captured_us, height, width, reason, kind = fields
        kind = PictureKind(kind)
        size = height * width * kind.pixel_bytes
        end = tail + _record_bytes(size)
        # A checksum proves that it was written so, not that it fits: the writer may have been another
        # release.
        if camera >= _ROWS or end > head or offset + _record_bytes(size) > self.capacity:
            raise DamagedRing("a record in the ring is longer than what was written")
        start = offset + _RECORD.size
        shape = height, width, kind.channels
        pixels = np.frombuffer(self._data[start : start + size], kind.dtype).reshape(shape)
        return TakenPicture(camera, number, frame_index, captured_us, pixels, kind, Reason(reason), end)

    def release(self, end: int) -> None:
        """Release the space of the pictures before `end`, which are handled."""
        self._words[_Word.TAIL] = end

    def release_all(self) -> None:
        """Give up everything that is in the ring now."""
        self.release(self._words[_Word.HEAD])

    def see(self, camera: int, seen: int, index: int, reason: Reason) -> None:
        """As the writer: record that a picture was seen in loop iteration `index`."""
        row = _row(camera)
        self._words[row + _Row.REASON] = reason
        self._words[row + _Row.SEEN_INDEX] = index
        # The count last, so that whoever reads it finds the index and the reason that belong to it.
        self._words[row + _Row.SEEN] = seen

    def take(self, camera: int, taken: int, taken_index: int, recorded: int) -> None:
        """As the reader: record how far this camera's pictures are handled."""
        row = _row(camera)
        self._words[row + _Row.TAKEN_INDEX] = taken_index
        self._words[row + _Row.TAKEN] = taken
        self._words[row + _Row.RECORDED] = recorded
        self._words[row + _Row.FAILING] = Reason.NONE

    def fail(self, camera: int, reason: Reason) -> None:
        """As the reader: record that this camera's picture could not be recorded; `take` ends that."""
        self._words[_row(camera) + _Row.FAILING] = reason

    def account(self, camera: int) -> PictureTally:
        """Account of this camera's pictures."""
        words, row = self._words, _row(camera)
        return PictureTally(
            words[row + _Row.SEEN],
            words[row + _Row.SEEN_INDEX],
            Reason(words[row + _Row.REASON]),
            words[row + _Row.TAKEN],
            words[row + _Row.TAKEN_INDEX],
            words[row + _Row.RECORDED],
            Reason(words[row + _Row.FAILING]),
        )

    @property
    def closed(self) -> bool:
        """Whether the writer has said that no more pictures come."""
        return bool(self._words[_Word.CLOSED])

    def finish(self) -> None:
        """As the writer: say that no more pictures come."""
        self._order()
        self._words[_Word.CLOSED] = 1

    @property
    def attended(self) -> bool:
        """Whether there is a reader."""
        return bool(self._words[_Word.ATTENDED])

    def attend(self) -> None:
        """As the reader: say that pictures are taken from now on."""
        self._words[_Word.ATTENDED] = 1

    def close(self) -> None:
        """Release the memory; no picture of it may be in use."""
        for view in (self._words, self._data, self._view):
            view.release()
        self._map.close()
        self._let_go()

    def _store(self, offset: int, record: bytes) -> None:
        crc = google_crc32c.value(record[4:])
        self._data[offset : offset + _RECORD.size] = crc.to_bytes(4, "little") + record[4:]

    def _load(self, offset: int) -> tuple[Any, ...]:
        record = bytes(self._data[offset : offset + _RECORD.size])
        crc, *fields = _RECORD.unpack(record)
        if crc != google_crc32c.value(record[4:]):
            raise DamagedRing("the checksum of a record in the ring does not match")
        return tuple(fields)

    def _order(self) -> None:
        """A memory fence: no earlier load or store may pass a later one, on processors that reorder them.

        Python has no fence, but a lock provides two halves of one: nothing earlier passes its release, and
        nothing later passes its acquisition. Taking the lock once is not enough, because both may move
        inside and pass each other there. If it is taken twice, the first release is before the second
        acquisition.
        """
        for _ in range(2):
            with self._fence:
                pass


def create_ring(capacity: int, fallback_dir: str | os.PathLike[str]) -> PictureRing:
    """An empty ring with space for this many bytes; `fallback_dir` is used if the system has no unnamed
    memory.

    Raises OSError if there is not enough memory.
    """
    capacity -= capacity % _ALIGNMENT
    fd = _nameless_file(fallback_dir)
    try:
        os.ftruncate(fd, _PAGE_BYTES + capacity)
        if hasattr(os, "posix_fallocate"):
            # Otherwise a lack of memory would show only at a store into it, which kills the process.
            os.posix_fallocate(fd, 0, _PAGE_BYTES + capacity)
        os.pwrite(fd, _MAGIC.to_bytes(8, "little") + capacity.to_bytes(8, "little"), 0)
    except OSError:
        os.close(fd)
        raise
    return PictureRing(fd)


def _nameless_file(fallback_dir: str | os.PathLike[str]) -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("lerobot_backend pictures", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile(dir=fallback_dir) as file:
        return os.dup(file.fileno())


def _record_bytes(picture_bytes: int) -> int:
    return _RECORD.size + -(-picture_bytes // _ALIGNMENT) * _ALIGNMENT


def _row(camera: int) -> int:
    return _ROWS_AT + camera * _ROW_WORDS
