"""Statistics of pictures: what LeRobot looks at, and numpy's own result over all of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from teleop_dataset.v3.image_stats import PictureLevels, sampled_rows, thinning
from teleop_dataset.v3.stats import LEVELS, join


@given(st.integers(1, 200_000))
def test_rows_are_those_that_lerobot_samples(frames):
    """From one row up to many."""
    from lerobot.datasets.compute_stats import sample_indices

    assert sampled_rows(frames).tolist() == sample_indices(frames)


@pytest.mark.parametrize("size", [(48, 64), (299, 299), (300, 200), (480, 640), (640, 480), (1080, 1920)])
def test_pixels_are_those_that_lerobot_keeps(size):
    """Upright and lying, small and large."""
    from lerobot.datasets.compute_stats import auto_downsample_height_width

    picture = np.arange(size[0] * size[1]).reshape(size)
    step = thinning(*size)
    np.testing.assert_array_equal(picture[::step, ::step], auto_downsample_height_width(picture[None])[0])


def test_statistics_are_exact():
    """Of each channel, white being 1; a picture that is shown twice counts twice."""
    pictures = np.random.default_rng(0).integers(0, 256, (5, 12, 16, 3), np.uint8)
    levels, others = PictureLevels(), PictureLevels()
    for picture in pictures[:2]:
        levels.add(picture)
    for picture in pictures[2:]:
        others.add(picture, 2)
    levels.merge(others)
    stats = levels.describe()
    pixels = np.concatenate([pictures, pictures[2:]]).reshape(-1, 3) / 255.0
    assert stats.count.tolist() == [8]
    np.testing.assert_array_equal(stats.low[0], pixels.min(axis=0))
    np.testing.assert_array_equal(stats.high[0], pixels.max(axis=0))
    np.testing.assert_allclose(stats.mean[0], pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(stats.std[0], pixels.std(axis=0), rtol=1e-12)
    np.testing.assert_allclose(stats.quantiles[0], np.quantile(pixels, LEVELS, axis=0), rtol=1e-12)


def test_stretches_are_joined():
    """Episodes one after the other, each with its own."""
    each = []
    for level in (0, 255):
        levels = PictureLevels()
        levels.add(np.full((2, 2, 3), level, np.uint8))
        each.append(levels.describe())
    assert join(each).mean.tolist() == [[0.0] * 3, [1.0] * 3]
    assert join(each).quantiles.shape == (2, len(LEVELS), 3)
