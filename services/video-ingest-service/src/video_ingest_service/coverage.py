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
# An answer names so many; what is covered counts them all.
MAX_NAMED_GAPS = 1000


@dataclass(frozen=True)
class Chunk:
    """What the coverage has to know of a chunk.

    runs  frames that show one of its pictures (see runs_of); None if nobody told
    """

    index: int
    runs: Sequence[tuple[int, int]] | None
    dropped: Sequence[DroppedFrames]
    pictures: int
    quarantined: bool


def runs_of(frame_indices: Sequence[int], *, fps: float | None, session_fps: float) -> list[tuple[int, int]]:
    """[first, end) of the frames that show a picture, of the frames that first saw one, ascending.

    A camera is slower than the loop: at 30 pictures a second, a loop of 60 sees each of them twice. So a
    picture covers the frame that first saw it and those up to the next picture's time, give or take one.
    """
    shown = math.ceil(session_fps / fps) + 1 if fps else 1
    runs: list[tuple[int, int]] = []
    for index in frame_indices:
        if runs and index <= runs[-1][1]:
            runs[-1] = (runs[-1][0], index + shown)
        else:
            runs.append((index, index + shown))
    return runs


def cover(camera_key: str, chunks: Sequence[Chunk], *, frames: int) -> CameraCoverage:
    """The account of one camera over the session's frames [0, frames); `chunks` ascend by their index."""
    known = all(chunk.runs is not None for chunk in chunks)
    uncovered = _uncovered(chunks, frames) if known else []
    return CameraCoverage(
        camera_key=camera_key,
        chunks=len(chunks),
        quarantined=sum(chunk.quarantined for chunk in chunks),
        missing_chunks=_missing_chunks(chunks),
        pictures=sum(chunk.pictures for chunk in chunks if not chunk.quarantined),
        known=known,
        frames=frames,
        covered=frames - sum(gap.end - gap.first for gap in uncovered) if known else 0,
        uncovered=uncovered[:MAX_NAMED_GAPS],
    )


def _missing_chunks(chunks: Sequence[Chunk]) -> list[tuple[int, int]]:
    missing, expected = [], 0
    for chunk in chunks:
        if chunk.index > expected:
            missing.append((expected, chunk.index))
        expected = chunk.index + 1
    return missing


def _uncovered(chunks: Sequence[Chunk], frames: int) -> list[Uncovered]:
    gaps: list[Uncovered] = []
    end, expected, reason = 0, 0, BEFORE
    for chunk in chunks:
        if chunk.index > expected:
            reason = NOT_YET
        expected = chunk.index + 1
        for first, after in chunk.runs or ():
            gaps += _explain(end, min(first, frames), chunk.dropped, reason)
            if chunk.quarantined:
                gaps += _explain(max(end, first), min(after, frames), (), UNUSABLE)
            end, reason = max(end, after), UNUSABLE if chunk.quarantined else UNEXPLAINED
    last = chunks[-1].dropped if chunks else ()
    return _joined([*gaps, *_explain(end, frames, last, NOT_YET)])


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
