"""Times in single precision, as LeRobot computes with them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from teleop_dataset.v3.numbering import TOLERANCE_S, pictures_are_found


def lerobots(first, frames, fps):
    """Whether LeRobot 0.6.1 would find every row's picture: its own steps from the table to the comparison
    (DatasetReader._query_videos, decode_video_frames_torchcodec)."""
    stored = torch.tensor(np.float32(np.arange(frames) / fps))
    wanted = torch.tensor([first / fps + each for each in stored.tolist()])
    shown = torch.tensor([(first + row) / fps for row in range(frames)])
    return bool(((wanted - shown).abs() < TOLERANCE_S).all())


@given(st.integers(0, 2_000_000), st.integers(1, 3000), st.integers(1, 120))
def test_pictures_are_found_where_lerobot_finds_them(first, frames, fps):
    """Early and late in a file, at any rate."""
    assert pictures_are_found(first, frames, fps) == lerobots(first, frames, fps)


@pytest.mark.parametrize("fps", [10, 25, 30, 60])
def test_what_begins_with_its_file_may_be_of_any_length(fps):
    """Five hours, in which LeRobot would not find its way if only one picture were before them."""
    assert pictures_are_found(0, 5 * 3600 * fps, fps)
    assert not pictures_are_found(1, 5 * 3600 * fps, fps)
    assert pictures_are_found(300 * fps, 600 * fps, fps)
