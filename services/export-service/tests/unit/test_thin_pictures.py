"""A few pixels of decoded pictures as RGB."""

import av
import numpy as np
import pytest
from teleop_export.making.thin_pictures import ThinPictures

# Of 256, from rounding twice, into the picture's own colours and back, and from sharing them.
LEVELS_OFF, MEAN_OFF = 6, 2.5
# More than are turned into RGB together.
PICTURES = 18


def drawn(height: int, width: int) -> np.ndarray:
    """A picture whose colours change slowly, so that pixels may share them."""
    down, across = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None, :]
    channels = (60 + 130 * down * across, 200 - 120 * down + 0 * across, 40 + 160 * across + 0 * down)
    return np.stack(channels, axis=-1).astype(np.uint8)


def decoded(pixels: np.ndarray, pix_fmt: str) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)


@pytest.mark.parametrize(
    "pix_fmt", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv411p", "yuv420p10le", "nv12", "gbrp"]
)
@pytest.mark.parametrize(("height", "width"), [(480, 640), (479, 637), (90, 120)])
@pytest.mark.parametrize("step", [1, 2, 8])
def test_every_so_many_pixels_are_those_of_the_picture(
    pix_fmt: str, height: int, width: int, step: int
) -> None:
    """Whatever planes a picture lies in, and however wide they are."""
    pictures = [drawn(height, width) + np.uint8(brighter) for brighter in range(PICTURES)]
    found = list(ThinPictures(step).of(decoded(pixels, pix_fmt) for pixels in pictures))
    assert len(found) == PICTURES
    for planes, pixels in zip(found, pictures, strict=True):
        wanted = np.moveaxis(pixels[::step, ::step], -1, 0).astype(int)
        assert planes.dtype == np.uint8
        assert planes.shape == wanted.shape
        # What shares a colour with pixels that are not there is FFmpeg's matter.
        off = (planes - wanted)[:, :-8, :-8]
        assert np.abs(off).max() <= LEVELS_OFF
        assert np.abs(off.mean(axis=(1, 2))).max() <= MEAN_OFF
