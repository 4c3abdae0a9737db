"""What the rows of `video_chunk` tell about a camera's pictures. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from teleop_schema.depth import DepthUnit
from teleop_schema.instants import instant_of, us_of
from teleop_schema.words import counted

from teleop_export.errors import VideoDiffers
from teleop_export.sessions.recorded import CameraVideo
from teleop_export.timing.align import MissingPictures, PictureGap, Pictures, find_gaps, match
from teleop_export.timing.loop_times import US_PER_S, Integers

# An iteration that none reaches: pictures are missing from here to whatever the last one is.
_FOREVER = 2**62
# The file's own times are right if they end within this many pictures of where the sender says that they do.
AS_IN_THE_FILE = 1.5


@dataclass(frozen=True)
class VideoChunk:
    """One row of `video_chunk`.

    frame_indices, captured_us  of each picture; None if the sender did not know them
    dropped                     (first, end, reason): iterations whose picture is missing
    unusable                    why it can't be used; None: it can
    depth_unit                  the pictures are depth, given in this unit; None: they are colours
    unchecked                   its check has not ended yet, so it may become usable
    """

    id: int
    chunk_index: int
    sha256: str
    size_bytes: int
    start: datetime
    end: datetime
    frame_count: int | None
    frame_indices: Integers | None
    captured_us: Integers | None
    dropped: Sequence[tuple[int, int, str]]
    fps: float | None
    codec: str | None
    pix_fmt: str | None
    width: int | None
    height: int | None
    unusable: str | None
    depth_unit: DepthUnit | None = None
    unchecked: bool = False

    @property
    def problem(self) -> str | None:
        """Why its pictures can't be exported."""
        if self.unusable is not None:
            return self.unusable
        if not self.frame_count or not (self.codec and self.pix_fmt and self.width and self.height):
            return "it could not be checked"
        if self.frame_indices is not None and len(self.frame_indices) != self.frame_count:
            return f"it holds {counted(self.frame_count, 'picture')}, but lists {len(self.frame_indices)}"
        return None


def usable(chunks: Sequence[VideoChunk]) -> list[VideoChunk]:
    """Those that pictures can be taken from."""
    return [chunk for chunk in chunks if chunk.problem is None]


def goes_by_time(chunks: Sequence[VideoChunk]) -> bool:
    """Whether nobody knows which iteration of the loop saw the pictures of these usable chunks."""
    told = [chunk.frame_indices for chunk in chunks if chunk.frame_indices is not None]
    return len(told) < len(chunks) or bool((np.diff(np.concatenate(told)) <= 0).any())


def gather_pictures(chunks: Sequence[VideoChunk]) -> Pictures:
    """All pictures of one camera in one session.

    chunks  all of its rows by chunk_index, of which at least one is usable
    """
    good = usable(chunks)
    captured = np.concatenate([_captured_us(chunk) for chunk in good])
    rate = _rate(good, captured)
    if goes_by_time(good):
        return Pictures(np.maximum.accumulate(captured), None, rate)
    seen_at = np.concatenate([chunk.frame_indices for chunk in good if chunk.frame_indices is not None])
    return Pictures(captured, seen_at, rate, _missing(chunks))


def look_at_footage(
    camera: str,
    session_id: int,
    chunks: Sequence[VideoChunk],
    *,
    index: Integers,
    sample_us: Integers | None,
    loop_fps: float,
) -> CameraVideo:
    """What a camera has recorded, and which of the session's samples it has no picture for.

    index, sample_us  of all samples of the session, as `match` wants them
    raises            VideoDiffers if the camera's pictures changed on the way
    """
    good = usable(chunks)
    first = good[0]
    for other in good[1:]:
        if (other.height, other.width) != (first.height, first.width):
            raise VideoDiffers(
                f"camera {camera} of session {session_id} changed from {first.width}x{first.height} to "
                f"{other.width}x{other.height}",
                field="cameras",
                hint="leave the camera out by naming the others in `cameras`",
            )
        if bool(other.depth_unit) != bool(first.depth_unit):
            raise VideoDiffers(
                f"camera {camera} of session {session_id} changed between colours and depth",
                field="cameras",
                hint="leave the camera out by naming the others in `cameras`",
            )
    pictures = gather_pictures(chunks)
    matched = match(pictures, index=index, sample_us=sample_us, loop_fps=loop_fps)
    gaps = find_gaps(pictures, matched, index, loop_fps=loop_fps)
    if pictures.seen_at is None and sample_us is not None:
        taken = dict(zip(index.tolist(), sample_us.tolist(), strict=True)) if gaps else {}
        gaps = [_explained(gap, chunks, taken[gap.first], taken[gap.end - 1]) for gap in gaps]
    return CameraVideo(
        height=first.height or 0,
        width=first.width or 0,
        codec=first.codec or "",
        pix_fmt=first.pix_fmt or "",
        fps=pictures.fps,
        chunks=tuple(chunk.id for chunk in good),
        pictures=len(pictures.captured_us),
        size_bytes=sum(chunk.size_bytes for chunk in good),
        gaps=tuple(gaps),
        depth_unit=first.depth_unit,
        strays=tuple(_strays(good, sample_us)) if pictures.seen_at is None else (),
    )


def _explained(gap: PictureGap, chunks: Sequence[VideoChunk], first_us: int, last_us: int) -> PictureGap:
    """The gap with its reason, if a chunk from between can't be used: then at most its check is awaited."""
    for chunk in chunks:
        if chunk.problem is not None and us_of(chunk.start) <= last_us and us_of(chunk.end) >= first_us:
            return replace(gap, reason=_unusable(chunk), awaited=chunk.unchecked)
    return gap


def _unusable(chunk: VideoChunk) -> str:
    return f"its video chunk {chunk.chunk_index} can't be used: {chunk.problem}"


def _strays(chunks: Sequence[VideoChunk], sample_us: Integers | None) -> Iterator[tuple[int, str]]:
    """Number and times of the chunks all of whose pictures were taken before the session, or after it."""
    if sample_us is None or not len(sample_us):
        return
    first_us, last_us = int(sample_us.min()), int(sample_us.max())
    began, ended = map(instant_of, (first_us, last_us))
    for chunk in chunks:
        if chunk.captured_us is None and (us_of(chunk.end) < first_us or us_of(chunk.start) > last_us):
            yield (
                chunk.id,
                f"chunk {chunk.chunk_index} is from {chunk.start.isoformat()} to {chunk.end.isoformat()}, "
                f"the session from {began.isoformat()} to {ended.isoformat()}",
            )


def _captured_us(chunk: VideoChunk) -> Integers:
    """When each picture was taken.

    If the sender does not know, as in the file, from `start` on: `end` may be when the last one was taken, or
    when its time was over. Where the file's rate is not that of the camera they lie evenly up to `end`.
    """
    if chunk.captured_us is not None:
        return chunk.captured_us
    start, end = (us_of(each) for each in (chunk.start, chunk.end))
    count = chunk.frame_count or 0
    if chunk.fps:
        last = start + round((count - 1) * US_PER_S / chunk.fps)
        if end == start or abs(end - last) * chunk.fps <= AS_IN_THE_FILE * US_PER_S:
            end = last
    captured_us: Integers = np.rint(np.linspace(start, end, count)).astype(np.int64)
    return captured_us


def _rate(chunks: Sequence[VideoChunk], captured_us: Integers) -> float:
    """The highest rate that a chunk tells of; else what the pictures' times tell."""
    told = max((chunk.fps for chunk in chunks if chunk.fps), default=0.0)
    if told or len(captured_us) < 2:
        return told or 1.0
    return US_PER_S / max(1.0, float(np.median(np.diff(captured_us))))


def _missing(chunks: Sequence[VideoChunk]) -> list[MissingPictures]:
    """What is known to be missing: named by the sender, in a chunk that can't be used, or in one that has not
    arrived. Ascending and disjoint."""
    found: list[MissingPictures] = []
    reached, number = 0, 0
    missing: tuple[str, bool] | None = None
    for chunk in chunks:
        # Of several reasons in a row the first is told, but for one that will pass.
        if chunk.chunk_index > number and not (missing and missing[1]):
            missing = (f"its video chunk {number} has not arrived", True)
        number = chunk.chunk_index + 1
        if chunk.problem is not None:
            if missing is None or (chunk.unchecked and not missing[1]):
                missing = (_unusable(chunk), chunk.unchecked)
            continue
        # Its sender does not know the loop: what is missing shows by the times of the pictures (`match`).
        if chunk.frame_indices is None:
            continue
        if missing is not None:
            found.append(MissingPictures(reached, int(chunk.frame_indices[0]), *missing))
            missing = None
        found += [
            MissingPictures(first, end, f"not recorded: {reason}") for first, end, reason in chunk.dropped
        ]
        reached = int(chunk.frame_indices[-1]) + 1
    if missing is not None:
        found.append(MissingPictures(reached, _FOREVER, *missing))
    return _disjoint(found)


def _disjoint(missing: Sequence[MissingPictures]) -> list[MissingPictures]:
    """Each cut to what those before it do not cover."""
    kept: list[MissingPictures] = []
    reached = 0
    for each in sorted(missing, key=lambda each: (each.first, each.end)):
        if each.end > max(each.first, reached):
            kept.append(MissingPictures(max(each.first, reached), each.end, each.reason, each.awaited))
            reached = each.end
    return kept
