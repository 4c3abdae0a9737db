"""Recorded pictures, packet by packet or decoded, from the mp4 files that robots have sent. Blocks."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import Protocol

import numpy as np
from teleop_schema.words import counted

from teleop_export.errors import VideoUnreadable
from teleop_export.making.picture_table import PictureTable, SegmentPictures
from teleop_export.sessions.video_chunks import VideoChunk, gather_pictures, usable
from teleop_export.timing.align import Pictures
from teleop_export.timing.loop_times import Integers

# Of one camera: an episode of a minute needs no file twice.
OPEN_SEGMENTS = 8
# Fewer than are open, so that none is closed again before it was used; a store far away takes its time.
FETCHED_AHEAD, FETCHED_AT_ONCE = 6, 3
NO_PICTURES: Integers = np.zeros(0, np.int64)


class Files(Protocol):
    """Stored objects as files; of `teleop_runtime.store`, for threads."""

    def as_file(self, sha256: str) -> AbstractContextManager[Path]: ...


class Chunks(Protocol):
    """chunk_table.ChunkReader, as far as it is needed here."""

    def read(self, session_id: int, camera: str, ids: Sequence[int]) -> list[VideoChunk]: ...


# Opens a file of pictures; raises VideoUnreadable.
Opening = Callable[[Path], PictureTable]
# With what closes it.
Fetched = tuple[PictureTable, ExitStack]


class CameraPictures:
    """All pictures of one camera in one session, numbered over all of its chunks."""

    def __init__(self, chunks: Sequence[VideoChunk], files: Files, opening: Opening) -> None:
        self.pictures: Pictures = gather_pictures(chunks)
        self._chunks = list(chunks)
        self._begins = np.cumsum([0, *(chunk.frame_count or 0 for chunk in chunks)])
        self._files = files
        self._open: dict[int, Future[Fetched]] = {}
        self._threads = ThreadPoolExecutor(FETCHED_AT_ONCE, thread_name_prefix="fetch-video")
        self._opening = opening

    @classmethod
    def read(
        cls,
        chunks: Chunks,
        files: Files,
        opening: Opening,
        session_id: int,
        camera: str,
        ids: Sequence[int],
    ) -> "CameraPictures":
        """The footage in those chunks; raises VideoUnreadable if one of them is gone."""
        found = chunks.read(session_id, camera, ids)
        if [chunk.id for chunk in found] != list(ids) or usable(found) != found:
            raise VideoUnreadable(f"video chunks of camera {camera} of session {session_id} are gone")
        return cls(found, files, opening)

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

    def _segment(self, wanted: Sequence[int]) -> PictureTable:
        """The first of the `wanted` chunks' segments; the others are fetched while the caller works on it."""
        for number in wanted:
            if number not in self._open:
                if len(self._open) == OPEN_SEGMENTS:
                    # Pictures are asked for in their order, so the first chunk is done with.
                    oldest = min(each for each in self._open if each not in wanted)
                    self._threads.submit(_let_go, self._open.pop(oldest))
                self._open[number] = self._threads.submit(self._fetch, self._chunks[number])
        return self._open[wanted[0]].result()[0]

    def _fetch(self, chunk: VideoChunk) -> Fetched:
        with ExitStack() as stack:
            path = stack.enter_context(self._files.as_file(chunk.sha256))
            segment = stack.enter_context(closing(self._opening(path)))
            if segment.pictures != chunk.frame_count:
                raise VideoUnreadable(
                    f"video chunk {chunk.id} holds {counted(segment.pictures, 'picture')}, but held "
                    f"{chunk.frame_count} when it arrived"
                )
            return segment, stack.pop_all()

    def close(self) -> None:
        """Close all files, also those that are being fetched."""
        while self._open:
            self._threads.submit(_let_go, self._open.popitem()[1])
        self._threads.shutdown()


def _let_go(fetched: "Future[Fetched]") -> None:
    """Close a segment, as soon as it is there; whether it could be fetched matters to who asked for it."""
    if fetched.exception() is None:
        fetched.result()[1].close()
