"""Which sample becomes a row, and which picture it goes with."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from teleop_export.timing.align import (
    NONE_NEAR,
    NOT_BEGUN,
    SHORT_GAP_S,
    STALE,
    MissingPictures,
    Pictures,
    find_gaps,
    match,
)
from teleop_export.timing.loop_times import US_PER_S

NOTHING = np.zeros(0, np.int64)
LOOP_FPS = 60.0


def integers(*values):
    return np.array(values, np.int64)


def camera(seen_at, *, fps=30.0, missing=()):
    seen_at = integers(*seen_at)
    return Pictures(seen_at * 16_667 - 4_000, seen_at, fps, missing)


def timed(captured_us, *, fps=30.0):
    return Pictures(integers(*captured_us), None, fps)


def gaps(pictures, frames, sample_us=None):
    index = np.arange(frames)
    matched = match(pictures, index=index, sample_us=sample_us, loop_fps=LOOP_FPS)
    return find_gaps(pictures, matched, index, loop_fps=LOOP_FPS)


@st.composite
def sample_times(draw):
    """Times of a loop that jitters and stalls, and whose clock may step back."""
    steps = st.one_of(st.integers(10_000, 25_000), st.integers(0, 3_000_000), st.integers(-5_000_000, 0))
    return np.cumsum(draw(st.lists(steps, min_size=1, max_size=80))) + 1_763_860_000_000_000


@st.composite
def ascending(draw, limit=200):
    return sorted(draw(st.sets(st.integers(0, limit), min_size=1, max_size=40)))


@st.composite
def missing(draw, limit=220):
    edges = sorted(draw(st.sets(st.integers(0, limit), max_size=8)))
    pairs = zip(edges[::2], edges[1::2], strict=False)
    return tuple(MissingPictures(first, end, f"missing {first}") for first, end in pairs)


def test_picture_of_a_sample_is_the_latest_that_its_loop_saw():
    """A slower camera's picture is that of several samples, and of none that was before it."""
    matched = match(camera([0, 2, 5]), index=np.arange(7), sample_us=None, loop_fps=LOOP_FPS)
    assert matched.number.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert not matched.cause.any()


@given(ascending(), missing(), st.integers(0, 250))
def test_every_sample_has_one_picture_never_from_the_future(seen_at, lost, frames):
    """And it is marked unless it is what the loop saw: the latest, not lost since, not too old."""
    pictures = camera(seen_at, missing=lost)
    index = np.arange(frames)
    matched = match(pictures, index=index, sample_us=None, loop_fps=LOOP_FPS)
    assert len(matched.number) == len(matched.cause) == frames
    assert (np.diff(matched.number) >= 0).all()
    for sample, number, cause in zip(index, matched.number, matched.cause, strict=True):
        before = [each for each in seen_at if each <= sample]
        assert number == len(before) - 1
        since = before[-1] if before else -1
        missed = any(each.first <= sample and min(sample, each.end - 1) > since for each in lost)
        fine = bool(before) and not missed and sample - since <= 0.5 * LOOP_FPS
        assert (cause == 0) == fine


@given(ascending(), missing(), st.integers(1, 250))
def test_holes_are_the_long_stretches_without_a_picture(seen_at, lost, frames):
    """Ascending and disjoint; outside of them every sample has a picture, its own or that of a short gap."""
    pictures = camera(seen_at, missing=lost)
    index = np.arange(frames)
    matched = match(pictures, index=index, sample_us=None, loop_fps=LOOP_FPS)
    found = find_gaps(pictures, matched, index, loop_fps=LOOP_FPS)
    inside = np.zeros(frames, bool)
    reached = -1
    for gap in found:
        assert gap.first > reached
        reached = gap.end
        assert matched.cause[gap.first : gap.end].all()
        inside[gap.first : gap.end] = True
    assert (matched.number[~inside] >= 0).all()
    longest = run = 0
    for bad in (matched.cause != 0) & ~inside:
        run = run + 1 if bad else 0
        longest = max(longest, run)
    assert longest <= int(SHORT_GAP_S * LOOP_FPS)


@pytest.mark.parametrize(("silent", "awaited"), [(60, False), (61, True)])
def test_end_of_a_camera_whose_sender_tells_no_frames(silent, awaited):
    """A second without pictures at the end is how that camera ended; after more, some may be missing."""
    sample_us = 1_763_860_000_000_000 + (np.arange(120 + silent) * US_PER_S / LOOP_FPS).astype(np.int64)
    (gap,) = gaps(timed(sample_us[:120], fps=LOOP_FPS), len(sample_us), sample_us)
    assert (gap.first, gap.end, gap.reason, gap.awaited) == (120, 120 + silent, NONE_NEAR, awaited)


def test_late_camera_is_a_hole_at_the_beginning():
    """However short: there is no picture that could stand in."""
    (gap,) = gaps(camera(range(3, 100, 2)), 100)
    assert (gap.first, gap.end, gap.reason, gap.awaited) == (0, 3, NOT_BEGUN, False)


def test_lost_picture_is_stood_in_for():
    """By the one before it, for as long as a short gap lasts."""
    assert (
        gaps(camera([*range(0, 20, 2), *range(24, 60, 2)], missing=[MissingPictures(19, 24, "x")]), 60) == []
    )


def test_many_lost_pictures_are_a_hole():
    """With the reason noted for them."""
    (gap,) = gaps(
        camera([*range(0, 20, 2), *range(40, 60, 2)], missing=[MissingPictures(19, 40, "disk full")]), 60
    )
    assert (gap.first, gap.end, gap.reason, gap.awaited) == (19, 40, "disk full", False)


def test_video_that_ends_early_is_awaited():
    """Its last picture gets too old: the rest may not have arrived."""
    (gap,) = gaps(camera(range(0, 100, 2)), 200)
    assert (gap.first, gap.end, gap.reason, gap.awaited) == (98 + 31, 200, STALE, True)


def test_slow_camera_is_not_stale():
    """One picture a second is no reason to miss pictures."""
    assert gaps(camera(range(0, 600, 60), fps=1.0), 600) == []


def test_pictures_without_iterations_go_by_time():
    """The nearest, also one a moment later, within half a picture's time."""
    pictures = timed([0, 33_333, 66_667])
    sample_us = integers(-16_000, 0, 16_666, 17_000, 50_001, 83_000, 84_000)
    matched = match(pictures, index=np.arange(7), sample_us=sample_us, loop_fps=LOOP_FPS)
    assert matched.number.tolist() == [0, 0, 0, 1, 2, 2, 2]
    assert (matched.cause != 0).tolist() == [False] * 6 + [True]


@given(ascending(5_000_000), sample_times())
def test_pictures_by_time_are_near(captured_us, sample_us):
    """Never descending; one that is a sample's own is the nearest, at most half a picture's time away."""
    pictures = timed(np.array(captured_us) + 1_763_860_000_000_000)
    matched = match(pictures, index=np.arange(len(sample_us)), sample_us=sample_us, loop_fps=LOOP_FPS)
    assert (np.diff(matched.number) >= 0).all()
    for sample, number, cause in zip(sample_us, matched.number, matched.cause, strict=True):
        away = np.abs(pictures.captured_us - sample)
        if cause == 0:
            assert away[number] == away.min() <= US_PER_S / 30 / 2


def test_no_picture_near_in_time_is_a_hole():
    """Told as such."""
    sample_us = np.arange(60) * 16_667
    found = gaps(timed([*range(0, 300_000, 33_333), *range(600_000, 1_000_000, 33_333)]), 60, sample_us)
    assert [(gap.first, gap.end, gap.reason) for gap in found] == [(19, 35, NONE_NEAR)]


def test_nothing_matches_nothing():
    """No pictures, no samples."""
    matched = match(timed([]), index=np.arange(3), sample_us=np.arange(3), loop_fps=LOOP_FPS)
    assert matched.number.tolist() == [-1] * 3
    assert matched.cause.all()
    assert match(camera([0]), index=NOTHING, sample_us=None, loop_fps=LOOP_FPS).number.tolist() == []


def test_times_are_needed_where_iterations_are_not_known():
    """Anything else would be a guess."""
    with pytest.raises(ValueError, match="sample_us"):
        match(timed([0]), index=np.arange(3), sample_us=None, loop_fps=LOOP_FPS)
