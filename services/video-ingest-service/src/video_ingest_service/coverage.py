"""Which frames of a session have a picture of a camera, and why the others have none; pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from teleop_schema.files import DroppedFrames

from video_ingest_service.views import CameraCoverage, Uncovered

NOT_YET = "no video of it has arrived"
BEFORE = "before the camera's first picture"
UNUSABLE = "its chunk is quarantined"
UNEXPLAINED = "the camera gave no picture"


@dataclass(frozen=True)
class Chunk:
    """What the coverage has to know of a chunk.

    frame_indices  of each picture; None if nobody told
    """

    index: int
    frame_indices: Sequence[int] | None
    dropped: Sequence[DroppedFrames]
    fps: float | None
    pictures: int
    quarantined: bool


def cover(camera_key: str, chunks: Sequence[Chunk], *, frames: int, session_fps: float) -> CameraCoverage:
    """The account of one camera over the session's frames [0, frames); `chunks` ascend by their index.

    A camera is slower than the loop: at 30 pictures a second, a loop of 60 sees each of them twice. So a
    picture covers the frame that first saw it and those up to the next picture's time, give or take one.
    """
    known = all(chunk.frame_indices is not None for chunk in chunks)
    uncovered = _uncovered(chunks, frames, session_fps) if known else []
    return CameraCoverage(
        camera_key=camera_key,
        chunks=len(chunks),
        quarantined=sum(chunk.quarantined for chunk in chunks),
        missing_chunks=_missing_chunks(chunks),
        pictures=sum(chunk.pictures for chunk in chunks if not chunk.quarantined),
        known=known,
        frames=frames,
        covered=frames - sum(gap.end - gap.first for gap in uncovered) if known else 0,
        uncovered=uncovered,
    )


def _missing_chunks(chunks: Sequence[Chunk]) -> list[tuple[int, int]]:
    missing, expected = [], 0
    for chunk in chunks:
        if chunk.index > expected:
            missing.append((expected, chunk.index))
        expected = chunk.index + 1
    return missing


def _uncovered(chunks: Sequence[Chunk], frames: int, session_fps: float) -> list[Uncovered]:
    gaps: list[Uncovered] = []
    end, expected, reason = 0, 0, BEFORE
    for chunk in chunks:
        if chunk.index > expected:
            reason = NOT_YET
        expected = chunk.index + 1
        indices = chunk.frame_indices or ()
        for first, after in _runs(indices, _frames_shown(chunk, session_fps)):
            gaps += _explain(end, min(first, frames), chunk.dropped, reason)
            if chunk.quarantined:
                gaps += _explain(max(end, first), min(after, frames), (), UNUSABLE)
            end, reason = max(end, after), UNUSABLE if chunk.quarantined else UNEXPLAINED
    last = chunks[-1].dropped if chunks else ()
    return _joined([*gaps, *_explain(end, frames, last, NOT_YET)])


def _frames_shown(chunk: Chunk, session_fps: float) -> int:
    """For how many frames a picture may be the newest one."""
    if chunk.quarantined or not chunk.fps:
        return 1
    return math.ceil(session_fps / chunk.fps) + 1


def _runs(indices: Sequence[int], shown: int) -> Iterable[tuple[int, int]]:
    """[first, end) of frames with a picture, where each lasts for `shown` frames."""
    start = end = None
    for index in indices:
        if start is None or end is None:
            start = index
        elif index > end:
            yield start, end
            start = index
        end = index + shown
    if start is not None and end is not None:
        yield start, end


def _explain(first: int, end: int, dropped: Sequence[DroppedFrames], otherwise: str) -> Iterable[Uncovered]:
    """The frames [first, end), each with the reason that `dropped` gives, or with `otherwise`."""
    for named in sorted(dropped, key=lambda each: each.first):
        start, stop = max(first, named.first), min(end, named.end)
        if start < stop:
            if first < start:
                yield Uncovered(first=first, end=start, reason=otherwise)
            yield Uncovered(first=start, end=stop, reason=named.reason)
            first = stop
    if first < end:
        yield Uncovered(first=first, end=end, reason=otherwise)


def _joined(gaps: Iterable[Uncovered]) -> list[Uncovered]:
    joined: list[Uncovered] = []
    for gap in gaps:
        if joined and joined[-1].end == gap.first and joined[-1].reason == gap.reason:
            joined[-1].end = gap.end
        else:
            joined.append(gap)
    return joined
