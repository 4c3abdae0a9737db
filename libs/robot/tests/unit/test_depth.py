import numpy as np
import pytest
from lerobot.datasets.depth_utils import quantize_depth
from lerobot_robot_backend.video.depth import depth_codes
from lerobot_robot_backend.video.picture_kind import PictureKind, kind_of

EVERY_MM = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256, 1)
METRES = np.concatenate([np.linspace(-5, 12, 4000), [0.0, np.inf, 1e30]]).astype(np.float32).reshape(-1, 1, 1)


@pytest.mark.parametrize("picture", [EVERY_MM, EVERY_MM[..., 0], METRES], ids=["mm", "flat", "m"])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_codes_are_those_of_lerobot(picture):
    """Every depth that a camera can give, in either unit, also what is out of range."""
    np.testing.assert_array_equal(depth_codes(picture), quantize_depth(picture, video_backend=None))


def test_what_was_not_measured_is_code_0():
    """Cameras say 0 or NaN where they measured nothing."""
    np.testing.assert_array_equal(depth_codes(np.full((2, 2), np.nan, np.float32)), 0)
    np.testing.assert_array_equal(depth_codes(np.zeros((2, 2), np.uint16)), 0)


def test_kinds_of_pictures():
    """Colours of bytes, depth of two types; nothing else is a picture, above all not grayscale."""
    shapes = {
        PictureKind.RGB: [((4, 6, 3), np.uint8)],
        PictureKind.DEPTH_MM: [((4, 6, 1), np.uint16), ((4, 6), np.uint16)],
        PictureKind.DEPTH_M: [((4, 6, 1), np.float32), ((4, 6), np.float32)],
        None: [
            *[((4, 6, 1), np.uint8), ((4, 6), np.uint8), ((4, 6, 3), np.float32), ((4, 6, 1), np.float64)],
            *[((4, 6, 4), np.uint8), ((4, 6, 1), ">u2"), ((0, 6, 3), np.uint8), ((4,), np.uint16)],
        ],
    }
    for kind, arrays in shapes.items():
        assert [kind_of(np.zeros(*array)) for array in arrays] == [kind] * len(arrays)
    assert kind_of("picture") is None
