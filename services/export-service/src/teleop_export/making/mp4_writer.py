"""One video track as an mp4 file, from pictures that are compressed already. Blocks.

Format: ISO/IEC 14496-12. A library that muxes is called for every picture, and moves the whole file once it
knows how long the tables are, because they come first. Here pictures that lie one behind the other are
copied at once, by the kernel, and room is kept for the tables.
"""

import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from teleop_export.timing.loop_times import Flags, Integers

# Times have at least this many ticks per second, as in what FFmpeg writes.
MIN_TICKS_PER_S = 10_000
# Of a chunk's place, of a picture's size, of a keyframe's number; of everything else at most.
_PLACE_BYTES, _SIZE_BYTES, _KEYFRAME_BYTES, _REST_BYTES = 8, 4, 4, 4096
# The disk begins to write once this much has accumulated.
WRITE_BACK_BYTES = 16 * 1024 * 1024
# Elsewhere the kernel neither copies from file to file nor takes this advice.
_IS_LINUX = sys.platform == "linux"
# Read at a time where the kernel does not copy by itself.
MOVED_BYTES = 1024 * 1024

_HEAD_BYTES, _LARGE_HEAD_BYTES = 8, 16
# 1.0 in the fixed point of 16.16 bits that rates and sizes have.
_ONE = 1 << 16
# The unit matrix: neither turned nor scaled. Its last column has 2.30 bits.
_UPRIGHT = struct.pack(">9I", _ONE, 0, 0, 0, _ONE, 0, 0, 0, 1 << 30)
# `und` (ISO 639-2), five bits a letter.
_NO_LANGUAGE = 0x55C4
# Flags of `tkhd`: players leave out a track that is not enabled.
_ENABLED_AND_IN_MOVIE = 3


class Mp4Writer:
    """Takes pictures in the order in which they are shown, picture k at k / fps; complete after `close`.

    room      for how many pictures there is
    pictures  how many were added
    """

    def __init__(
        self, path: Path, description: bytes, *, size: tuple[int, int], fps: int, delay: int, room: int
    ) -> None:
        """
        description  what `stsd` holds: how all pictures are encoded
        size         height and width
        delay        for how many pictures' time one that is decoded waits to be shown
        """
        self.room = room
        self.pictures = 0
        self._description = description
        self._size = size
        self._fps = fps
        self._delay = delay
        self._sizes: list[Integers] = []
        self._keyframes: list[Flags] = []
        # Places with 64 bits, because the room is reckoned before it is known how long the file becomes.
        tables = room * (_SIZE_BYTES + _KEYFRAME_BYTES) + (room // fps + 1) * _PLACE_BYTES
        self._media = len(_FILE_TYPE) + tables + len(description) + _REST_BYTES
        self._file = path.open("wb")
        self._file.seek(self._media)
        self._written = self._begun = self._media

    def write(self, data: bytes) -> None:
        """Append bytes of pictures, of which `add` tells."""
        self._file.write(data)
        self._written += len(data)

    def copy(self, source: int, offset: int, size: int) -> bool:
        """Append bytes of pictures from an open file; whether it has as many."""
        # What Python still holds of it comes before what the kernel appends.
        self._file.flush()
        end = offset + size
        while offset < end and (moved := _move(source, self._file.fileno(), offset, end - offset)):
            offset += moved
            self._written += moved
        if self._written - self._begun >= WRITE_BACK_BYTES:
            self._write_back()
        return offset == end

    def _write_back(self) -> None:
        """Have the disk begin with what was written, so that whoever waits for it at the end waits shorter.

        What is on disk already would leave the page cache; nothing of this part is yet.
        """
        if _IS_LINUX:
            os.posix_fadvise(
                self._file.fileno(), self._begun, self._written - self._begun, os.POSIX_FADV_DONTNEED
            )
        self._begun = self._written

    def add(self, sizes: Integers, keyframes: Flags) -> None:
        """Tell of pictures whose bytes were, or will be, written: of each how many, and what it is."""
        self._sizes.append(sizes)
        self._keyframes.append(keyframes)
        self.pictures += len(sizes)

    def close(self) -> None:
        """Complete the file; raises OSError, but closes it even then."""
        with self._file as file:
            sizes = np.concatenate([np.zeros(0, np.int64), *self._sizes])
            movie = self._movie(sizes, np.concatenate([np.zeros(0, np.bool_), *self._keyframes]))
            left = self._media - len(_FILE_TYPE) - len(movie) - _HEAD_BYTES - _LARGE_HEAD_BYTES
            # A length of 64 bits (the 1 says so): with `streaming_safe` one file may have more than 4 GiB.
            media = struct.pack(">I4sQ", 1, b"mdat", _LARGE_HEAD_BYTES + int(sizes.sum()))
            file.seek(0)
            file.write(_FILE_TYPE + movie + _box(b"free", bytes(left)) + media)
            file.flush()
            self._write_back()

    def _movie(self, sizes: Integers, keyframes: Flags) -> bytes:
        # A picture takes a whole number of ticks, so that picture k is at k / fps without any rounding.
        step = 1
        # Doubled, as FFmpeg does it.
        while self._fps * step < MIN_TICKS_PER_S:
            step *= 2
        ticks, duration, delay = self._fps * step, self.pictures * step, self._delay * step
        times = struct.pack(">QQIQ", 0, 0, ticks, duration)
        header = times + struct.pack(">IH10x", _ONE, 0x100) + _UPRIGHT + struct.pack(">24xI", 2)
        media = (
            _full_box(b"mdhd", times + struct.pack(">HH", _NO_LANGUAGE, 0), version=1),
            _full_box(b"hdlr", struct.pack(">4x4s12x", b"vide") + b"VideoHandler\0"),
            _box(
                b"minf",
                _full_box(b"vmhd", bytes(8), flags=1),
                _box(b"dinf", _full_box(b"dref", struct.pack(">I", 1), _full_box(b"url ", flags=1))),
                _box(b"stbl", *self._tables(sizes, keyframes, step, delay)),
            ),
        )
        height, width = self._size
        shape = struct.pack(">QQIIQ8xHHHH", 0, 0, 1, 0, duration, 0, 0, 0, 0) + _UPRIGHT
        shape += struct.pack(">II", width * _ONE, height * _ONE)
        # What is decoded first is shown `delay` later. The edit takes that off: picture 0 is shown at 0.
        edit = struct.pack(">IQqI", 1, duration, delay, _ONE)
        return _box(
            b"moov",
            _full_box(b"mvhd", header, version=1),
            _box(
                b"trak",
                _full_box(b"tkhd", shape, version=1, flags=_ENABLED_AND_IN_MOVIE),
                _box(b"edts", _full_box(b"elst", edit, version=1)),
                _box(b"mdia", *media),
            ),
        )

    def _tables(self, sizes: Integers, keyframes: Flags, step: int, delay: int) -> list[bytes]:
        """What describes the pictures, all of which follow each other; a chunk is a second of them."""
        count = self.pictures
        begins = self._media + np.cumsum(sizes) - sizes
        places = begins[:: self._fps]
        whole, rest = divmod(count, self._fps)
        fills = [(1, self._fps, 1)] * bool(whole) + [(whole + 1, rest, 1)] * bool(rest)
        tables = [_box(b"stsd", self._description), _table(b"stts", [(count, step)])]
        if delay:
            tables.append(_table(b"ctts", [(count, delay)]))
        # Without a `stss` every picture is a keyframe; with an empty one none would be.
        if not keyframes.all():
            tables.append(_table(b"stss", np.flatnonzero(keyframes) + 1))
        return [
            *tables,
            _table(b"stsc", fills),
            _full_box(b"stsz", struct.pack(">II", 0, count), sizes.astype(">u4").tobytes()),
            _full_box(b"co64", struct.pack(">I", len(places)), places.astype(">u8").tobytes()),
        ]


def _move(source: int, target: int, offset: int, size: int) -> int:
    """Append up to `size` bytes at `offset` of one file to another; how many."""
    if _IS_LINUX:
        return os.sendfile(target, source, offset, size)
    return os.write(target, os.pread(source, min(size, MOVED_BYTES), offset))


def _box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", _HEAD_BYTES + len(body), kind) + body


def _full_box(kind: bytes, *content: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *content)


def _table(kind: bytes, entries: Sequence[Sequence[int]] | Integers) -> bytes:
    """How many entries there are, and their 32 bit numbers."""
    return _full_box(kind, struct.pack(">I", len(entries)), np.array(entries).astype(">u4").tobytes())


_FILE_TYPE = _box(b"ftyp", b"isom", struct.pack(">I", 512), b"isomiso2mp41")
