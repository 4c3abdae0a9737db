"""Which picture of a camera each sample goes with. Pure.

A sample is one iteration of the robot's control loop; its index counts them. A picture belongs to the
iteration that first saw it, and to those after it, until they saw another one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from teleop_schema.files import SILENT_CAMERA_S

from teleop_export.timing.loop_times import US_PER_S, Flags, Integers

# For this long, the picture before stands in for missing ones.
SHORT_GAP_S = 0.1
# A picture is not what the camera sees any more once it is older than LeRobot's cameras let one be
# (lerobot.cameras.Camera.read_latest), or than this many pictures of a slower camera.
STALE_S = 0.5
STALE_PERIODS = 2.0

_FINE, _NOT_BEGUN, _STALE, _FIRST_MISSING = 0, 1, 2, 3
NOT_BEGUN = "the camera had given no picture yet"
STALE = "the camera gave no new picture for too long"
NONE_NEAR = "no picture was taken at that time"


@dataclass(frozen=True)
class MissingPictures:
    """Iterations `first` to `end - 1` that saw a picture which is missing.

    awaited  it may still arrive
    """

    first: int
    end: int
    reason: str
    awaited: bool = False


@dataclass(frozen=True)
class Pictures:
    """All pictures of one camera in one session, in their order.

    captured_us  (P,) when each was taken, us since the Unix epoch, robot's clock, ascending
    seen_at      (P,) the iteration that first saw each, ascending; None if the sender did not know
    fps          the camera's rate
    missing       ascending and disjoint
    """

    captured_us: Integers
    seen_at: Integers | None
    fps: float
    missing: Sequence[MissingPictures] = ()


@dataclass(frozen=True)
class Matched:
    """What samples saw of one camera.

    number  (N,) the picture of each, never descending; -1 where there is none
    cause   (N,) 0 where the sample really saw that picture, else why not (`told` tells it)
    """

    number: Integers
    cause: Integers


@dataclass(frozen=True)
class PictureGap:
    """Samples with index `first` to `end - 1` for which a camera has no picture, nor one to stand in."""

    first: int
    end: int
    reason: str
    awaited: bool


def match(pictures: Pictures, *, index: Integers, sample_us: Integers | None, loop_fps: float) -> Matched:
    """What samples saw of a camera.

    index      (N,) of the samples, ascending
    sample_us  (N,) when each was taken, us since the Unix epoch, robot's clock; needed only if the pictures
               have no `seen_at`: then each sample has the nearest picture, at most half a picture's time away
    loop_fps   the rate of the samples
    """
    if pictures.seen_at is None:
        if sample_us is None:
            raise ValueError("pictures without a known frame are matched by sample_us")
        return _match_times(pictures, sample_us)
    return _match_iterations(pictures, pictures.seen_at, index, loop_fps)


def told(cause: int, missing: Sequence[MissingPictures], *, by_time: bool) -> str:
    """A cause of `Matched` in words."""
    if cause >= _FIRST_MISSING:
        return missing[cause - _FIRST_MISSING].reason
    if by_time:
        return NONE_NEAR
    return NOT_BEGUN if cause == _NOT_BEGUN else STALE


def find_gaps(pictures: Pictures, matched: Matched, index: Integers, *, loop_fps: float) -> list[PictureGap]:
    """Where samples can't have a picture: ascending, disjoint.

    Up to SHORT_GAP_S the picture before stands in, and there is no gap. One that lasts to the last sample
    is awaited, because the video may just not have arrived; but not if its sender tells no frames and it is
    short: no robot is behind then, and the ledger awaits nothing either.
    """
    longest = max(1, int(SHORT_GAP_S * loop_fps))
    over = 0 if pictures.seen_at is not None else int(SILENT_CAMERA_S * loop_fps)
    gaps = []
    for begin, end in _runs(matched.cause != _FINE):
        causes = matched.cause[begin:end]
        # As short as that, the picture before is what the robot would have seen.
        if end - begin <= longest and matched.number[begin] >= 0:
            continue
        known = np.unique(causes[causes >= _FIRST_MISSING])
        lost = [pictures.missing[cause - _FIRST_MISSING] for cause in known]
        awaited = any(each.awaited for each in lost)
        at_the_end = end == len(index) and end - begin > over and not lost
        reason = told(int(causes[0]), pictures.missing, by_time=pictures.seen_at is None)
        gaps.append(PictureGap(int(index[begin]), int(index[end - 1]) + 1, reason, awaited or at_the_end))
    return gaps


def _match_iterations(pictures: Pictures, seen_at: Integers, index: Integers, loop_fps: float) -> Matched:
    number = np.searchsorted(seen_at, index, side="right") - 1
    since = np.concatenate([[-1], seen_at])[number + 1]
    stale = max(STALE_S, STALE_PERIODS / pictures.fps) * loop_fps
    cause = np.where(index - since > stale, _STALE, _FINE)
    if pictures.missing:
        first = np.array([each.first for each in pictures.missing])
        last = np.array([each.end - 1 for each in pictures.missing])
        place = np.searchsorted(first, index, side="right") - 1
        # The latest iteration up to this one that saw a picture which is missing.
        lost_at = np.where(place >= 0, np.minimum(index, last[np.maximum(place, 0)]), -1)
        cause = np.where(lost_at > since, _FIRST_MISSING + place, cause)
    cause = np.where((number < 0) & (cause < _FIRST_MISSING), _NOT_BEGUN, cause)
    return Matched(number, cause.astype(np.int64))


def _match_times(pictures: Pictures, sample_us: Integers) -> Matched:
    captured = pictures.captured_us
    if not len(captured):
        return Matched(np.full(len(sample_us), -1), np.full(len(sample_us), _NOT_BEGUN))
    after = np.searchsorted(captured, sample_us, side="left").clip(0, len(captured) - 1)
    before = np.maximum(after - 1, 0)
    nearer = np.abs(captured[after] - sample_us) < np.abs(sample_us - captured[before])
    nearest = np.where(nearer, after, before)
    near = np.abs(captured[nearest] - sample_us) <= US_PER_S / pictures.fps / 2
    # A sample without one keeps the picture before it; a clock that steps back brings no picture back.
    latest = np.searchsorted(captured, sample_us, side="right") - 1
    number = np.maximum.accumulate(np.where(near, nearest, latest))
    # Where a clock stepped back, the nearest picture would be one that lies before the last.
    near &= number == nearest
    cause = np.where(near, _FINE, np.where(number < 0, _NOT_BEGUN, _STALE))
    return Matched(number, cause.astype(np.int64))


def _runs(flags: Flags) -> Iterator[tuple[int, int]]:
    """Begin and end of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
