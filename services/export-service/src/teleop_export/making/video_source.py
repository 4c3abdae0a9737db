"""Recorded pictures, packet by packet or decoded, from the mp4 files that robots have sent. Blocks."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import av
import numpy as np
from teleop_dataset.errors import BrokenFile
from teleop_dataset.mp4_samples import samples_of

from teleop_export.errors import VideoUnreadable
from teleop_export.sessions.video_chunks import VideoChunk, gather_pictures, usable
from teleop_export.timing.align import Pictures
from teleop_export.timing.loop_times import Integers

# Of one camera: an episode of a minute needs no file twice.
OPEN_SEGMENTS = 8
# Fewer than are open, so that none is closed again before it was used; a store far away takes its time.
FETCHED_AHEAD, FETCHED_AT_ONCE = 6, 3
# Read at once of pictures that lie one behind the other.
WINDOW_BYTES = 1024 * 1024
NO_PICTURES: Integers = np.zeros(0, np.int64)


class Files(Protocol):
    """Stored objects as files; of `teleop_runtime.store`, for threads."""

    def as_file(self, sha256: str) -> AbstractContextManager[Path]: ...


class Chunks(Protocol):
    """chunk_table.ChunkReader, as far as it is needed here."""

    def read(self, session_id: int, camera: str, ids: Sequence[int]) -> list[VideoChunk]: ...


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
        except av.FFmpegError as error:
            raise VideoUnreadable(f"a picture can't be decoded: {error}") from error
        finally:
            decoder.flush_buffers()
        if left:
            raise VideoUnreadable(f"{len(left)} pictures can't be decoded, the first is number {min(left)}")

    def _needed(self, wanted: Integers) -> Iterator[int]:
        """Positions of the packets to decode, ascending: from the keyframe on that a picture builds upon."""
        if not self.in_order:
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
            number = self._number.get(frame.pts, -1) if frame.pts is not None else -1
            if number in left:
                left.discard(number)
                yield number, frame

    def close(self) -> None:
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _kind(path: Path) -> VideoEncoding:
    with closing(av.open(str(path))) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        decoder = av.CodecContext.create(stream.codec.name, "r")
        if not isinstance(decoder, av.VideoCodecContext):
            raise VideoUnreadable(f"{path.name} holds no pictures")
        decoder.extradata = context.extradata
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


# With what closes it.
Fetched = tuple[PictureFile, ExitStack]


class CameraPictures:
    """All pictures of one camera in one session, numbered over all of its chunks."""

    def __init__(self, chunks: Sequence[VideoChunk], files: Files) -> None:
        self.pictures: Pictures = gather_pictures(chunks)
        self._chunks = list(chunks)
        self._begins = np.cumsum([0, *(chunk.frame_count or 0 for chunk in chunks)])
        self._files = files
        self._open: dict[int, Future[Fetched]] = {}
        self._threads = ThreadPoolExecutor(FETCHED_AT_ONCE, thread_name_prefix="fetch-video")
        self._kinds: dict[bytes, VideoEncoding] = {}

    @classmethod
    def read(
        cls, chunks: Chunks, files: Files, session_id: int, camera: str, ids: Sequence[int]
    ) -> "CameraPictures":
        """The footage in those chunks; raises VideoUnreadable if one of them is gone."""
        found = chunks.read(session_id, camera, ids)
        if [chunk.id for chunk in found] != list(ids) or usable(found) != found:
            raise VideoUnreadable(f"video chunks of camera {camera} of session {session_id} are gone")
        return cls(found, files)

    def parts(self, numbers: Integers, then: Integers = NO_PICTURES) -> Iterator[SegmentPictures]:
        """Pictures by number, never descending, cut where a segment ends; a part is good until the next.

        then  pictures that are likely to be asked for next: of them the first files are fetched, too
        """
        chunks = self._chunks_of(numbers)
        ends = np.searchsorted(numbers, self._begins[np.array(chunks, np.int64) + 1], side="left").tolist()
        wanted = list(dict.fromkeys(chunks + self._chunks_of(then)))
        begin = 0
        for position, (chunk, end) in enumerate(zip(chunks, ends, strict=True)):
            segment = self._segment(wanted[position : position + FETCHED_AHEAD])
            yield SegmentPictures(segment, numbers[begin:end] - self._begins[chunk])
            begin = end

    def _chunks_of(self, numbers: Integers) -> list[int]:
        chunks: list[int] = np.unique(np.searchsorted(self._begins, numbers, side="right") - 1).tolist()
        return chunks

    def _segment(self, wanted: Sequence[int]) -> PictureFile:
        """The first of the `wanted` chunks' segments; the others are fetched while the caller works on it."""
        for number in wanted:
            if number not in self._open:
                if len(self._open) == OPEN_SEGMENTS:
                    oldest = min(each for each in self._open if each not in wanted)
                    self._threads.submit(_let_go, self._open.pop(oldest))
                self._open[number] = self._threads.submit(self._fetch, self._chunks[number])
        return self._open[wanted[0]].result()[0]

    def _fetch(self, chunk: VideoChunk) -> Fetched:
        with ExitStack() as stack:
            path = stack.enter_context(self._files.as_file(chunk.sha256))
            segment = stack.enter_context(PictureFile(path, self._kinds))
            if segment.pictures != chunk.frame_count:
                raise VideoUnreadable(
                    f"video chunk {chunk.id} holds {segment.pictures} "
                    f"pictures, but {chunk.frame_count} were counted when it arrived"
                )
            return segment, stack.pop_all()

    def close(self) -> None:
        while self._open:
            self._threads.submit(_let_go, self._open.popitem()[1])
        self._threads.shutdown()


def _let_go(fetched: "Future[Fetched]") -> None:
    """Close a segment, as soon as it is there; whether it could be fetched matters to who asked for it."""
    if fetched.exception() is None:
        fetched.result()[1].close()
