"""What lies where in an mp4 file of recorded pictures, whoever has found that out. Blocks."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from teleop_export.errors import VideoUnreadable
from teleop_export.timing.loop_times import Flags, Integers

# Read at once of pictures that lie one behind the other.
WINDOW_BYTES = 1024 * 1024


@dataclass(frozen=True)
class VideoEncoding:
    """How the pictures of a file are encoded; size: height and width."""

    codec: str
    pix_fmt: str
    extradata: bytes
    size: tuple[int, int]


class PictureTable(ABC):
    """The pictures of one mp4 file, numbered from 0 in the order in which they are shown.

    pictures  how many are shown
    hides     it holds pictures that are not shown, and have no number: others build upon them
    in_order  pictures lie in the order in which they are shown
    keyframe  (N,) of all that are stored, in the order of decoding
    sizes     (N,) bytes
    offset    (N,) where each lies in the file
    """

    def __init__(
        self,
        *,
        encoding: VideoEncoding,
        description: bytes,
        keyframe: Flags,
        sizes: Integers,
        offset: Integers,
        pictures: int,
        hides: bool,
        in_order: bool,
    ) -> None:
        self.kind = encoding
        self.description = description
        self.keyframe = keyframe
        self.sizes = sizes
        self.pictures = pictures
        self.hides = hides
        self.in_order = in_order
        self.offset = offset

    @abstractmethod
    def fileno(self) -> int:
        """The open file's descriptor."""

    @abstractmethod
    def description_at(self, fps: int) -> bytes:
        """What `stsd` says of the pictures, with another rate."""

    @abstractmethod
    def converted(self, numbers: Integers) -> Iterator[bytes]:
        """Pictures, ascending, as a decoder takes them that knows nothing but packets."""

    @abstractmethod
    def close(self) -> None:
        """Close the file; its pictures can't be read any more."""

    def packets(self, numbers: Integers) -> Iterator[tuple[int, bytes]]:
        """Pictures as they are compressed, with their numbers (never descending); only of a segment that is
        `in_order`."""
        begin, window = 0, b""
        ends = self.offset + self.sizes
        for number in numbers.tolist():
            first, end = int(self.offset[number]), int(ends[number])
            if first < begin or end > begin + len(window):
                begin, window = first, self._read(first, max(WINDOW_BYTES, end - first))
            if end > begin + len(window):
                raise VideoUnreadable(f"a video file ends before its picture {number}")
            yield number, window[first - begin : end - begin]

    def stretches(self, numbers: Integers) -> Iterator[tuple[int, int, int]]:
        """The same pictures, those that lie one behind the other together: where in `numbers` each stretch
        begins, where in the file, and how many bytes it takes."""
        offsets, sizes = self.offset[numbers], self.sizes[numbers]
        apart = np.concatenate([[True], offsets[1:] != offsets[:-1] + sizes[:-1]])
        begins = np.flatnonzero(apart)
        totals = np.add.reduceat(sizes, begins)
        yield from zip(begins.tolist(), offsets[begins].tolist(), totals.tolist(), strict=True)

    def _read(self, offset: int, size: int) -> bytes:
        return os.pread(self.fileno(), size, offset)


class SegmentPictures(NamedTuple):
    """Some pictures of one segment: their numbers, never descending."""

    segment: PictureTable
    numbers: Integers
