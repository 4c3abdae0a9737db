"""Which frames of a session have a picture of a camera, and why the others have none; pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from teleop_schema.files import DroppedFrames

from teleop_video_ingest.model.views import CameraCoverage, Overlap, Uncovered

NOT_YET = "no video has arrived for it"
BEFORE = "before the camera's first picture"
UNUSABLE = "its chunk can't be used"
UNEXPLAINED = "the camera gave no picture"
# A chunk may end when its last picture ends, or when the next chunk begins.
OVERLAP_PICTURES = 1.5
# An answer lists this many; `covered` counts all.
MAX_NAMED_GAPS = 1000


@dataclass(frozen=True)
class CoveredChunk:
    """The data of a chunk that the coverage needs.

    span_us  its start and end, from its sender
    runs  frames that show one of its pictures (see runs_of); None if the sender did not say
    """

    index: int
    span_us: tuple[int, int]
    runs: Sequence[tuple[int, int]] | None
    dropped: Sequence[DroppedFrames]
    pictures: int
    quarantined: bool


def runs_of(frame_indices: Sequence[int], *, fps: float | None, session_fps: float) -> list[tuple[int, int]]:
    """[first, end) of the frames that show a picture, given the frames that first saw one, ascending.

    A camera is slower than the loop: at 30 pictures a second, a loop of 60 Hz sees each of them twice. So a
    picture covers the frame that first saw it and those up to about the next picture's time.
    """
    shown = math.ceil(session_fps / fps) + 1 if fps else 1
    runs: list[tuple[int, int]] = []
    for index in frame_indices:
        if runs and index <= runs[-1][1]:
            runs[-1] = (runs[-1][0], index + shown)
        else:
            runs.append((index, index + shown))
    return runs


def cover(camera_key: str, chunks: Sequence[CoveredChunk], *, frames: int) -> CameraCoverage:
    """The account of one camera over the session's frames [0, frames); `chunks` ascend by their index."""
    known = all(chunk.runs is not None for chunk in chunks)
    uncovered = _uncovered(chunks, frames) if known else []
    overlaps = _overlaps(chunks)
    return CameraCoverage(
        camera_key=camera_key,
        chunks=len(chunks),
        quarantined=sum(chunk.quarantined for chunk in chunks),
        missing_chunks=_missing_chunks(chunks),
        pictures=sum(chunk.pictures for chunk in chunks if not chunk.quarantined),
        repeated=sum(overlap.pictures for overlap in overlaps),
        overlaps=overlaps[:MAX_NAMED_GAPS],
        known=known,
        frames=frames,
        covered=frames - sum(gap.end - gap.first for gap in uncovered) if known else 0,
        uncovered=uncovered[:MAX_NAMED_GAPS],
    )


def _missing_chunks(chunks: Sequence[CoveredChunk]) -> list[tuple[int, int]]:
    missing, expected = [], 0
    for chunk in chunks:
        if chunk.index > expected:
            missing.append((expected, chunk.index))
        expected = chunk.index + 1
    return missing


def _overlaps(chunks: Sequence[CoveredChunk]) -> list[Overlap]:
    """Usable chunks whose time other chunks already show, in order of time."""
    overlaps = []
    shown_by, shown_until_us = -1, -math.inf
    usable = [chunk for chunk in chunks if not chunk.quarantined and chunk.pictures]
    for chunk in sorted(usable, key=lambda chunk: (chunk.span_us[0], chunk.index)):
        begin_us, end_us = chunk.span_us
        picture_us = (end_us - begin_us) / chunk.pictures
        twice_us = min(end_us, shown_until_us) - begin_us
        if picture_us > 0 and twice_us > OVERLAP_PICTURES * picture_us:
            pictures = min(chunk.pictures, round(twice_us / picture_us))
            overlaps.append(Overlap(chunk_index=chunk.index, shown_by=shown_by, pictures=pictures))
        if end_us > shown_until_us:
            shown_by, shown_until_us = chunk.index, end_us
    return overlaps


def _uncovered(chunks: Sequence[CoveredChunk], frames: int) -> list[Uncovered]:
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
