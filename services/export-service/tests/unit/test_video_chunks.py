"""When pictures were taken whose sender tells only when a chunk begins and ends."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from teleop_export.sessions.video_chunks import VideoChunk, gather_pictures, look_at_footage

START = datetime(2026, 1, 1, tzinfo=UTC)


def chunk(number, start_s, end_s, *, frames=120, fps=30.0):
    return VideoChunk(
        id=number,
        chunk_index=number,
        sha256=str(number),
        size_bytes=1,
        start=START + timedelta(seconds=start_s),
        end=START + timedelta(seconds=end_s),
        frame_count=frames,
        frame_indices=None,
        captured_us=None,
        dropped=(),
        fps=fps,
        codec="h264",
        pix_fmt="yuv420p",
        width=64,
        height=48,
        unusable=None,
    )


def taken_s(*chunks):
    return (gather_pictures(chunks).captured_us - int(START.timestamp()) * 1_000_000) / 1e6


@pytest.mark.parametrize("end_s", [4.0, 4 - 1 / 30, 0.0], ids=["its end", "its last picture", "not told"])
def test_pictures_lie_as_in_their_file(end_s):
    """Whether a chunk's end is when its last picture was taken, or when its time was over."""
    assert np.abs(taken_s(chunk(0, 0, end_s), chunk(1, 4, 4 + end_s)) - np.arange(240) / 30).max() < 1e-5


def test_pictures_of_a_camera_that_is_not_as_fast_as_its_file_lie_evenly():
    """Its rate is only what somebody wrote there."""
    assert np.abs(taken_s(chunk(0, 0, 4.5)) - np.linspace(0, 4.5, 120)).max() < 1e-5


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, None),
        ({"unusable": "it is no mp4"}, "it is no mp4"),
        ({"frame_count": None}, "could not be checked"),
        ({"codec": None}, "could not be checked"),
        ({"frame_indices": np.arange(119)}, "holds 120 pictures, but lists 119"),
        ({"frame_indices": np.arange(120)}, None),
    ],
)
def test_why_a_chunk_can_not_be_exported(changes, problem):
    """Named by what its look, or its sender, says of it."""
    found = replace(chunk(0, 0, 4), **changes).problem
    assert found is None if problem is None else problem in found


def test_pictures_that_are_known_to_be_missing():
    """Before a chunk that has not arrived, in one that can't be used, and what the sender names."""
    listed = [
        replace(chunk(0, 0, 4), frame_indices=np.arange(0, 120), dropped=((30, 40, "the encoder was busy"),)),
        replace(chunk(1, 4, 8), unusable="it is torn"),
        replace(chunk(2, 8, 12), frame_indices=np.arange(240, 360)),
        replace(chunk(4, 16, 20), frame_indices=np.arange(480, 600)),
    ]
    told = [(each.first, each.end, each.reason, each.awaited) for each in gather_pictures(listed).missing]
    assert told == [
        (30, 40, "not recorded: the encoder was busy", False),
        (120, 240, "its video chunk 1 can't be used: it is torn", False),
        (360, 480, "its video chunk 3 has not arrived", True),
    ]


@pytest.mark.parametrize("torn", [1, 2], ids=["between", "last"])
def test_pictures_that_go_by_time_lack_those_of_a_chunk_that_cannot_be_used(torn):
    """It is named, and nothing is awaited: it has arrived."""
    chunks = [chunk(number, 4 * number, 4 * number + 4) for number in range(3)]
    chunks[torn] = replace(chunks[torn], unusable="it is torn")
    sample_us = np.arange(360) * 1_000_000 // 30 + int(START.timestamp()) * 1_000_000
    found = look_at_footage("front", 1, chunks, index=np.arange(360), sample_us=sample_us, loop_fps=30.0).gaps
    assert [(gap.reason, gap.awaited) for gap in found] == [
        (f"its video chunk {torn} can't be used: it is torn", False)
    ]
    assert abs(found[0].first - 120 * torn) <= 1
    assert abs(found[0].end - 120 * (torn + 1)) <= 1


def test_a_rate_that_no_file_tells_is_that_of_the_pictures():
    """The median of their distances; a single one has none."""
    assert gather_pictures([chunk(0, 0, 4, frames=121, fps=None)]).fps == pytest.approx(30.0, rel=1e-4)
    assert gather_pictures([chunk(0, 0, 4, frames=1, fps=None)]).fps == 1.0
