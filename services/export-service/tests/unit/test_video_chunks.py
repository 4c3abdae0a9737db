"""When pictures were taken whose sender tells only when a chunk begins and ends."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from teleop_export.sessions.video_chunks import VideoChunk, gather_pictures

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
        quarantine=None,
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
