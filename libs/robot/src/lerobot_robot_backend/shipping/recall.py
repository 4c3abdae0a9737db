"""Sends again what the server has confirmed and forgotten, as far as it is still in the spool.

A database that was restored to an older state, or lost, knows less than it has confirmed.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from teleop_client.backend_http import BackendHttp, HttpFailure
from teleop_client.credentials import Tokens
from teleop_schema.holding import (
    MAX_HELD,
    MAX_HELD_CHUNKS,
    Held,
    HeldFrames,
    HeldVersion,
    HeldVideo,
    Lacking,
    ranges_of,
)
from teleop_schema.words import counted

from lerobot_robot_backend.shipping.retention import unseal_unacknowledged
from lerobot_robot_backend.spool.erased import read_erased
from lerobot_robot_backend.spool.locks import locked
from lerobot_robot_backend.spool.stream import (
    SHIPPER_LOCK,
    SpoolError,
    StreamProgress,
    read_progress,
    read_stream,
    write_progress,
)
from lerobot_robot_backend.video.files import forget_stored, stored_segments

# A loss on the server is noticed within minutes, and asking costs one request.
ASK_EVERY_S = 300.0
# Answers of a backend that is older than this question.
_UNASKABLE = frozenset({"not_found", "method_not_allowed", "unknown_upload"})

log = logging.getLogger("lerobot_robot_backend.shipping.recall")


@dataclass(frozen=True)
class Recalled:
    """What must be sent again: streams whose samples are missing, and the number of video segments."""

    streams: int = 0
    segments: int = 0


class Unaskable(Exception):
    """The backend is of a release that can't say what it knows."""


async def ask(backend: BackendHttp, held: Held) -> Lacking:
    """The part of `held` that the server lacks, however much it is. Raises Interrupted, Refused,
    Unaskable."""
    lacking: Lacking | None = None
    for part in in_requests(held):
        try:
            told = await backend.ask("POST", "/files/known", Lacking, body=part)
        except HttpFailure as error:
            if error.code in _UNASKABLE:
                raise Unaskable(str(error)) from error
            raise
        if lacking is not None:
            told = Lacking(
                installation=told.installation,
                versions=lacking.versions + told.versions,
                videos=lacking.videos + told.videos,
                frames=lacking.frames + told.frames,
                overtaken=lacking.overtaken + told.overtaken,
            )
        lacking = told
    assert lacking is not None  # noqa: S101
    return lacking


def in_requests(held: Held) -> Iterator[Held]:
    """The same in parts that fit into a request; at least one."""
    versions: list[HeldVersion] = []
    videos: list[HeldVideo] = []
    frames: list[HeldFrames] = []
    chunks = 0

    def part() -> Held:
        return Held(
            robot_id=held.robot_id, versions=tuple(versions), videos=tuple(videos), frames=tuple(frames)
        )

    pieces = [piece for video in held.videos for piece in _pieces(video)]
    every: list[HeldVersion | HeldFrames | HeldVideo] = [*held.versions, *held.frames, *pieces]
    for each in every:
        more = sum(end - first for first, end in each.chunks) if isinstance(each, HeldVideo) else 0
        if len(versions) + len(videos) + len(frames) == MAX_HELD or chunks + more > MAX_HELD_CHUNKS:
            yield part()
            versions, videos, frames, chunks = [], [], [], 0
        chunks += more
        if isinstance(each, HeldVersion):
            versions.append(each)
        elif isinstance(each, HeldFrames):
            frames.append(each)
        else:
            videos.append(each)
    yield part()


def _pieces(video: HeldVideo) -> Iterator[HeldVideo]:
    """The same chunks, one range each, none of them too long for a request."""
    for first, end in video.chunks:
        for start in range(first, end, MAX_HELD_CHUNKS):
            yield HeldVideo(video.stream, video.camera_key, ((start, min(end, start + MAX_HELD_CHUNKS)),))


def held_frames(stream_dirs: Iterable[Path]) -> Iterator[HeldFrames]:
    """Streams that the server has confirmed to the end; the others ask whenever they connect."""
    for stream_dir in stream_dirs:
        progress = read_progress(stream_dir)
        if progress.ended and read_erased(stream_dir) is None:
            try:
                yield HeldFrames(read_stream(stream_dir).stream, progress.next, ended=True)
            except SpoolError as error:
                log.error("%s", error)


def held_videos(stream_dirs: Iterable[Path]) -> Iterator[HeldVideo]:
    """Segments that the server has confirmed."""
    for stream_dir in stream_dirs:
        if read_erased(stream_dir) is not None:
            continue
        try:
            for camera_key, numbers in stored_segments(stream_dir).items():
                yield HeldVideo(read_stream(stream_dir).stream, camera_key, ranges_of(numbers))
        except (SpoolError, OSError) as error:
            log.error("%s", error)


def samples_of(robot_id: str, stream_dirs: Iterable[Path]) -> Held:
    """The samples of one robot that the server has confirmed."""
    return Held(robot_id=robot_id, frames=tuple(held_frames(stream_dirs)))


def video_of(robot_id: str, stream_dirs: Iterable[Path]) -> Held:
    """The video of one robot that the server has confirmed."""
    return Held(robot_id=robot_id, videos=tuple(held_videos(stream_dirs)))


async def recall(
    stream_dirs: Iterable[Path],
    held: Callable[[str, Iterable[Path]], Held],
    *,
    backend_url: str | None = None,
    tokens: Tokens | None = None,
) -> Recalled:
    """Mark for sending what the servers of these streams have forgotten.

    Each server is asked once. If one can't be reached, it is asked the next time.

    held         gives what to ask for, from the streams of one robot
    backend_url  instead of the ones that the streams were recorded for
    """
    # The question names one robot, and a spool may hold several, for several servers.
    of_robots: dict[tuple[str, str], list[Path]] = {}
    for stream_dir in stream_dirs:
        try:
            stream = read_stream(stream_dir)
        except SpoolError as error:
            log.error("%s", error)
            continue
        of_robots.setdefault((backend_url or stream.backend_url, stream.robot_id), []).append(stream_dir)
    streams = segments = 0
    for (url, robot_id), dirs in of_robots.items():
        asked = held(robot_id, dirs)
        if not (asked.videos or asked.frames):
            continue
        try:
            async with BackendHttp(url, tokens=tokens, robot_id=robot_id) as backend:
                recalled = bring_again(dirs, await ask(backend, asked))
        except (HttpFailure, Unaskable, ValueError) as error:
            log.warning("can't ask %s what it still has of %s: %s", url, robot_id, error)
            continue
        streams, segments = streams + recalled.streams, segments + recalled.segments
    if streams or segments:
        log.warning(
            "sent again because the server forgot them: %s, %s",
            counted(streams, "stream"),
            counted(segments, "video segment"),
        )
    return Recalled(streams, segments)


def bring_again(stream_dirs: Iterable[Path], lacking: Lacking) -> Recalled:
    """Mark in the spool what the server lacks; the next shipper sends it.

    A stream that can't be written is logged, and asked for again the next time.
    """
    frames = {each.stream: each for each in lacking.frames}
    videos = [each for each in lacking.videos if each.chunks]
    streams = segments = 0
    for stream_dir in stream_dirs:
        try:
            stream = read_stream(stream_dir).stream
            if stream in frames:
                streams += _forget_frames(stream_dir, frames[stream].frames)
            for video in videos:
                if video.stream == stream:
                    numbers = [n for first, end in video.chunks for n in range(first, end)]
                    segments += sum(forget_stored(stream_dir, video.camera_key, n) for n in numbers)
        except (SpoolError, OSError) as error:
            log.error("%s", error)
    return Recalled(streams, segments)


def _forget_frames(stream_dir: Path, stored: int) -> bool:
    """Whether the stream must be sent again; not if a shipper is sending it, because
    that one asks by itself."""
    with locked(stream_dir / SHIPPER_LOCK) as held:
        progress = read_progress(stream_dir)
        if not held or not progress.ended:
            return False
        # `once` remembers what was safe: if the spool has lost it, too, the server is told of a gap.
        acked = min(stored, progress.next)
        write_progress(stream_dir, StreamProgress(next=acked, once=max(progress.next, progress.once)))
        unseal_unacknowledged(stream_dir, acked)
    return True
