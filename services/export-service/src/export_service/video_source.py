"""Recorded pictures, packet by packet or decoded, from the mp4 files that robots have sent. Blocks."""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import av
import numpy as np

from export_service.align import Integers, Pictures
from export_service.errors import VideoUnreadable
from export_service.video_chunks import Chunk, gather_pictures, usable

# Of one camera: an episode of a minute needs no file twice.
OPEN_SEGMENTS = 8


class Files(Protocol):
    """Stored objects as files; of `teleop_runtime.store`, for threads."""

    def as_file(self, sha256: str) -> AbstractContextManager[Path]: ...


class Chunks(Protocol):
    """chunk_table.ChunkReader, as far as it is needed here."""

    def read(self, session_id: int, camera: str, ids: Sequence[int]) -> list[Chunk]: ...


class _Packet(NamedTuple):
    position: int
    size: int
    pts: int
    dts: int
    keyframe: bool


class Segment:
    """One mp4 file of pictures, numbered from 0 in the order in which they are shown."""

    def __init__(self, path: Path) -> None:
        """Raises VideoUnreadable."""
        with ExitStack() as stack:
            try:
                self._container = stack.enter_context(av.open(str(path)))
                self.stream = self._container.streams.video[0]
                self._packets = [
                    _Packet(packet.pos or 0, packet.size, packet.pts, packet.dts, packet.is_keyframe)
                    for packet in self._container.demux(self.stream)
                    if packet.size and packet.pts is not None and packet.dts is not None
                ]
            except (OSError, IndexError, av.FFmpegError) as error:
                raise VideoUnreadable(f"{path.name} can't be read as video: {error}") from error
            self._file = os.open(path, os.O_RDONLY)
            self._resources = stack.pop_all()
        context = self.stream.codec_context
        self.codec = self.stream.codec.canonical_name
        self.pix_fmt = context.pix_fmt or ""
        self.extradata = bytes(context.extradata or b"")
        self.size = (self.stream.height, self.stream.width)
        shown = sorted(packet.pts for packet in self._packets)
        self._number = {pts: number for number, pts in enumerate(shown)}
        # Only where pictures lie in the order in which they are shown can they be taken out one by one.
        self.in_order = [packet.pts for packet in self._packets] == shown

    @property
    def pictures(self) -> int:
        return len(self._packets)

    def is_keyframe(self, number: int) -> bool:
        return self._packets[number].keyframe

    def size_bytes(self, number: int) -> int:
        return self._packets[number].size

    def packet(self, number: int) -> bytes:
        """A picture as it is compressed; only of a segment that is `in_order`."""
        packet = self._packets[number]
        data = os.pread(self._file, packet.size, packet.position)
        if len(data) < packet.size:
            raise VideoUnreadable(f"a video file ends before its picture {number}")
        return data

    def decode(self, wanted: Integers) -> Iterator[tuple[int, av.VideoFrame]]:
        """The pictures of these numbers (ascending, each once), in their order; raises VideoUnreadable."""
        context = av.CodecContext.create(self.stream.codec.name, "r")
        if not isinstance(context, av.VideoCodecContext):
            raise VideoUnreadable("a video file holds no pictures")
        context.extradata = self.extradata
        context.thread_count = 1
        left = set(wanted.tolist())
        try:
            for position in self._needed(wanted):
                recorded = self._packets[position]
                packet = av.Packet(os.pread(self._file, recorded.size, recorded.position))
                packet.pts, packet.dts = recorded.pts, recorded.dts
                yield from self._chosen(context.decode(packet), left)
            yield from self._chosen(context.decode(None), left)
        except av.FFmpegError as error:
            raise VideoUnreadable(f"a picture can't be decoded: {error}") from error
        if left:
            raise VideoUnreadable(f"{len(left)} pictures can't be decoded, the first is {min(left)}")

    def _needed(self, wanted: Integers) -> Iterator[int]:
        """Positions of the packets to decode, ascending: from the keyframe on that a picture builds upon."""
        if not self.in_order:
            yield from range(len(self._packets))
            return
        keyframes = np.flatnonzero([packet.keyframe for packet in self._packets])
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
        os.close(self._file)
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Part(NamedTuple):
    """Some pictures of one segment: their numbers, never descending."""

    segment: Segment
    numbers: Integers


class Footage:
    """All pictures of one camera in one session, numbered over all of its chunks."""

    def __init__(self, chunks: Sequence[Chunk], files: Files) -> None:
        self.pictures: Pictures = gather_pictures(chunks)
        self._chunks = list(chunks)
        self._begins = np.cumsum([0, *(chunk.frame_count or 0 for chunk in chunks)])
        self._files = files
        self._open: dict[int, tuple[Segment, ExitStack]] = {}

    @classmethod
    def read(
        cls, chunks: Chunks, files: Files, session_id: int, camera: str, ids: Sequence[int]
    ) -> "Footage":
        """The footage in those chunks; raises VideoUnreadable if one of them is gone."""
        found = chunks.read(session_id, camera, ids)
        if [chunk.id for chunk in found] != list(ids) or usable(found) != found:
            raise VideoUnreadable(f"video chunks of camera {camera} of session {session_id} are gone")
        return cls(found, files)

    def parts(self, numbers: Integers) -> Iterator[Part]:
        """Pictures by number, never descending, cut where a segment ends; a part is good until the next."""
        begin = 0
        while begin < len(numbers):
            chunk = int(np.searchsorted(self._begins, numbers[begin], side="right")) - 1
            end = int(np.searchsorted(numbers, self._begins[chunk + 1], side="left"))
            yield Part(self._segment(chunk), numbers[begin:end] - self._begins[chunk])
            begin = end

    def _segment(self, number: int) -> Segment:
        if number not in self._open:
            if len(self._open) == OPEN_SEGMENTS:
                self._open.pop(min(self._open))[1].close()
            chunk = self._chunks[number]
            with ExitStack() as stack:
                path = stack.enter_context(self._files.as_file(chunk.sha256))
                segment = stack.enter_context(Segment(path))
                if segment.pictures != chunk.frame_count:
                    raise VideoUnreadable(
                        f"video chunk {chunk.id} holds {segment.pictures} pictures, "
                        f"not the {chunk.frame_count} that were counted when it arrived"
                    )
                self._open[number] = (segment, stack.pop_all())
        return self._open[number][0]

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1][1].close()
