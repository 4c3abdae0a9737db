"""One mp4 file of recorded pictures, packet by packet or decoded. Blocks."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import av
import numpy as np
from teleop_dataset.errors import BrokenFile
from teleop_dataset.media import check_size, decoder_limits, open_mp4, video_of
from teleop_dataset.mp4_samples import samples_of

from teleop_export.errors import VideoUnreadable
from teleop_export.timing.loop_times import Integers

# Read at once of pictures that lie one behind the other.
WINDOW_BYTES = 1024 * 1024


@dataclass(frozen=True)
class VideoEncoding:
    """How the pictures of a file are encoded.

    decoder  of such pictures; opening one takes as long as decoding one of them
    """

    codec: str
    pix_fmt: str
    extradata: bytes
    size: tuple[int, int]
    decoder: av.VideoCodecContext


class PictureFile:
    """One mp4 file of pictures, numbered from 0 in the order in which they are shown.

    hides  it holds pictures that are not shown, and have no number: others build upon them
    """

    def __init__(self, path: Path, kinds: dict[bytes, VideoEncoding] | None = None) -> None:
        """
        kinds   by description, for files that are likely to be encoded alike: what is there is not looked
                for again, what is found is added
        raises  VideoUnreadable
        """
        self.path = path
        with ExitStack() as stack:
            try:
                self._file = stack.enter_context(path.open("rb"))
                samples = samples_of(path)
                known = {} if kinds is None else kinds
                if samples.description not in known:
                    known[samples.description] = _kind(path)
                self.kind = known[samples.description]
            except (OSError, IndexError, av.FFmpegError, BrokenFile) as error:
                raise VideoUnreadable(f"{path.name} can't be read as video: {error}") from error
            self._resources = stack.pop_all()
        self.description = samples.description
        self.keyframe = samples.keyframe
        self.sizes = samples.size
        self._offset = samples.offset
        self._pts, self._dts = samples.pts, samples.dts
        self.hides = not samples.shown.all()
        shown = np.sort(samples.pts[samples.shown])
        self._number = {pts: number for number, pts in enumerate(shown.tolist())}
        # Only where pictures lie in the order in which they are shown can they be taken out one by one.
        self.in_order = not self.hides and bool((samples.pts == shown).all())

    @property
    def pictures(self) -> int:
        """How many are shown."""
        return len(self._number)

    def packets(self, numbers: Integers) -> Iterator[tuple[int, bytes]]:
        """Pictures as they are compressed, with their numbers (never descending); only of a segment that is
        `in_order`."""
        begin, window = 0, b""
        ends = self._offset + self.sizes
        for number in numbers.tolist():
            first, end = int(self._offset[number]), int(ends[number])
            if first < begin or end > begin + len(window):
                begin, window = first, self._read(first, max(WINDOW_BYTES, end - first))
            if end > begin + len(window):
                raise VideoUnreadable(f"a video file ends before its picture {number}")
            yield number, window[first - begin : end - begin]

    def stretches(self, numbers: Integers) -> Iterator[tuple[int, int, int]]:
        """The same pictures, those that lie one behind the other together: where in `numbers` each stretch
        begins, where in the file, and how many bytes it takes."""
        offsets, sizes = self._offset[numbers], self.sizes[numbers]
        apart = np.concatenate([[True], offsets[1:] != offsets[:-1] + sizes[:-1]])
        begins = np.flatnonzero(apart)
        totals = np.add.reduceat(sizes, begins)
        yield from zip(begins.tolist(), offsets[begins].tolist(), totals.tolist(), strict=True)

    def fileno(self) -> int:
        """The open file's descriptor."""
        return self._file.fileno()

    def _read(self, offset: int, size: int) -> bytes:
        return os.pread(self._file.fileno(), size, offset)

    def decode(self, wanted: Integers) -> Iterator[tuple[int, av.VideoFrame]]:
        """The pictures of these numbers (ascending, each once), in their order; raises VideoUnreadable."""
        if not len(wanted):
            return
        decoder = self.kind.decoder
        left = set(wanted.tolist())
        try:
            for position in self._needed(wanted):
                packet = av.Packet(self._read(int(self._offset[position]), int(self.sizes[position])))
                packet.pts, packet.dts = int(self._pts[position]), int(self._dts[position])
                yield from self._chosen(decoder.decode(packet), left)
            yield from self._chosen(decoder.decode(None), left)
        except (av.FFmpegError, BrokenFile) as error:
            raise VideoUnreadable(f"a picture can't be decoded: {error}") from error
        finally:
            # The next file, which shares it, must not get what is left in it of this one.
            decoder.flush_buffers()
        if left:
            raise VideoUnreadable(f"{len(left)} pictures can't be decoded, the first is number {min(left)}")

    def _needed(self, wanted: Integers) -> Iterator[int]:
        """Positions of the packets to decode, ascending: from the keyframe on that a picture builds upon."""
        if not self.in_order:
            # The order of showing does not tell which picture builds upon which: all of them are decoded.
            yield from range(len(self.sizes))
            return
        keyframes = np.flatnonzero(self.keyframe)
        reached = 0
        for number in wanted.tolist():
            before = np.searchsorted(keyframes, number, side="right") - 1
            start = int(keyframes[before]) if before >= 0 else 0
            yield from range(max(start, reached), number + 1)
            reached = number + 1

    def _chosen(self, frames: Sequence[av.VideoFrame], left: set[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        for frame in frames:
            check_size(frame, *self.kind.size)
            number = self._number.get(frame.pts, -1) if frame.pts is not None else -1
            if number in left:
                left.discard(number)
                yield number, frame

    def close(self) -> None:
        """Close the file; its pictures can't be read any more."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _kind(path: Path) -> VideoEncoding:
    with closing(open_mp4(path)) as container:
        stream = video_of(container)
        context = stream.codec_context
        # The container's own ends with the container; this one is shared by all files of the kind.
        decoder = av.CodecContext.create(stream.codec.name, "r")
        if not isinstance(decoder, av.VideoCodecContext):
            raise VideoUnreadable(f"{path.name} holds no pictures")
        decoder.extradata = context.extradata
        decoder.options = decoder_limits(stream.height, stream.width)
        # With several threads FFmpeg holds as many pictures back; and each camera has a thread already.
        decoder.thread_count = 1
        return VideoEncoding(
            codec=stream.codec.canonical_name,
            pix_fmt=context.pix_fmt or "",
            extradata=bytes(context.extradata or b""),
            size=(stream.height, stream.width),
            decoder=decoder,
        )


class SegmentPictures(NamedTuple):
    """Some pictures of one segment: their numbers, never descending."""

    segment: PictureFile
    numbers: Integers
