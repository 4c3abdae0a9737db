"""Statistics of pictures: what LeRobot looks at, and numpy's own result over all of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from teleop_dataset.v3.image_stats import PictureLevels, sampled_rows, thinning
from teleop_dataset.v3.info import VideoFeature
from teleop_dataset.v3.stats import LEVELS, join

COLOURS = VideoFeature("front", 96, 128, "h264", "yuv420p")


@given(st.integers(1, 200_000))
def test_rows_are_those_that_lerobot_samples(frames):
    """From one row up to many."""
    from lerobot.datasets.compute_stats import sample_indices

    assert sampled_rows(frames).tolist() == sample_indices(frames)


@pytest.mark.parametrize("scene", ["lamp at the end", "flicker", "stripes"])
def test_statistics_are_those_of_lerobot(scene):
    """Also of what happens in a few pictures only, and of what repeats every few pictures or pixels."""
    from lerobot.datasets.compute_stats import auto_downsample_height_width, get_feature_stats

    pictures = np.full((60, 3, 480, 640), 30, np.uint8)
    if scene == "stripes":
        pictures[..., 3::8] = pictures[..., 4::8] = 230
    else:
        pictures[slice(3, None, 8) if scene == "flicker" else slice(-4, None)] = 230
    rows, step = sampled_rows(len(pictures)), thinning(480, 640)
    levels = PictureLevels(VideoFeature("front", 480, 640, "h264", "yuv420p"))
    for row in rows.tolist():
        levels.add(pictures[row, :, ::step, ::step])
    stats = levels.describe()
    kept = np.stack([auto_downsample_height_width(pictures[row]) for row in rows])
    lerobots = get_feature_stats(kept, axis=(0, 2, 3), keepdims=True)
    assert stats.count.tolist() == lerobots["count"].tolist() == [60]
    np.testing.assert_allclose(stats.mean.ravel(), kept.mean(axis=(0, 2, 3)) / 255, rtol=1e-9)
    np.testing.assert_allclose(stats.std.ravel(), kept.std(axis=(0, 2, 3)) / 255, rtol=1e-9)
    assert stats.std.min() > 0.1
    # LeRobot adds up in single precision.
    for name, wanted in {"mean": "mean", "std": "std", "low": "min", "high": "max"}.items():
        found = getattr(stats, name).ravel()
        np.testing.assert_allclose(found, lerobots[wanted].ravel() / 255, atol=0.01, err_msg=name)


@pytest.mark.parametrize("size", [(48, 64), (299, 299), (300, 200), (480, 640), (640, 480), (1080, 1920)])
def test_pixels_are_those_that_lerobot_keeps(size):
    """Upright and lying, small and large."""
    from lerobot.datasets.compute_stats import auto_downsample_height_width

    picture = np.arange(size[0] * size[1]).reshape(size)
    step = thinning(*size)
    np.testing.assert_array_equal(picture[::step, ::step], auto_downsample_height_width(picture[None])[0])


def test_statistics_are_exact():
    """Of each channel, white being 1; a picture that is shown twice counts twice."""
    pictures = np.random.default_rng(0).integers(0, 256, (5, 3, 12, 16), np.uint8)
    levels, others = PictureLevels(COLOURS), PictureLevels(COLOURS)
    for picture in pictures[:2]:
        levels.add(picture)
    for picture in pictures[2:]:
        others.add(picture, 2)
    levels.merge(others)
    stats = levels.describe()
    pixels = np.moveaxis(np.concatenate([pictures, pictures[2:]]), 1, -1).reshape(-1, 3) / 255.0
    assert stats.count.tolist() == [8]
    np.testing.assert_array_equal(stats.low[0], pixels.min(axis=0))
    np.testing.assert_array_equal(stats.high[0], pixels.max(axis=0))
    np.testing.assert_allclose(stats.mean[0], pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(stats.std[0], pixels.std(axis=0), rtol=1e-12)
    np.testing.assert_allclose(stats.quantiles[0], np.quantile(pixels, LEVELS, axis=0), rtol=1e-12)


@pytest.mark.parametrize(("unit", "scale"), [("mm", 1000.0), ("m", 1.0)])
def test_statistics_of_depth_are_in_the_cameras_unit(unit, scale):
    """Of what LeRobot makes of the codes; it is not scaled as colours are."""
    from lerobot.datasets.depth_utils import dequantize_depth

    codes = np.random.default_rng(0).integers(0, 4096, (5, 1, 12, 16), np.uint16)
    levels = PictureLevels(VideoFeature("depth", 12, 16, "hevc", "gray12le", unit))
    for picture in codes:
        levels.add(picture)
    stats = levels.describe()
    depth = dequantize_depth(codes, output_unit="m", output_tensor=False).ravel().astype(np.float64) * scale
    assert stats.mean.shape == (1, 1)
    for name, wanted in {"low": depth.min(), "high": depth.max(), "mean": depth.mean()}.items():
        np.testing.assert_allclose(getattr(stats, name)[0], wanted, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(stats.std[0], depth.std(), rtol=1e-4)
    np.testing.assert_allclose(stats.quantiles[0].ravel(), np.quantile(depth, LEVELS), rtol=1e-4)


def test_stretches_are_joined():
    """Episodes one after the other, each with its own."""
    each = []
    for level in (0, 255):
        levels = PictureLevels(COLOURS)
        levels.add(np.full((3, 2, 2), level, np.uint8))
        each.append(levels.describe())
    assert join(each).mean.tolist() == [[0.0] * 3, [1.0] * 3]
    assert join(each).quantiles.shape == (2, len(LEVELS), 3)
