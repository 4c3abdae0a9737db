"""Arrays that can be recorded as pictures: colour, and depth as LeRobot's cameras return it."""

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from teleop_schema.depth import DepthUnit

from lerobot_robot_backend.video.choice import RGB, SINGLE

Picture = NDArray[Any]


class PictureKind(IntEnum):
    """RGB: (height, width, 3) uint8; DEPTH_MM: (height, width, 1) uint16; DEPTH_M: the same as float32."""

    RGB = 0
    DEPTH_MM = 1
    DEPTH_M = 2

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the picture's values."""
        return _DTYPES[self]

    @property
    def channels(self) -> int:
        """Values per pixel."""
        return RGB if self is PictureKind.RGB else SINGLE

    @property
    def depth_unit(self) -> DepthUnit | None:
        """The unit of depth; None for colour."""
        return _UNITS[self]

    @property
    def pixel_bytes(self) -> int:
        """How many bytes a pixel takes."""
        return self.channels * int(self.dtype.itemsize)


_DTYPES: dict[PictureKind, np.dtype[Any]] = {
    PictureKind.RGB: np.dtype(np.uint8),
    PictureKind.DEPTH_MM: np.dtype(np.uint16),
    PictureKind.DEPTH_M: np.dtype(np.float32),
}
_UNITS: dict[PictureKind, DepthUnit | None] = {
    PictureKind.RGB: None,
    PictureKind.DEPTH_MM: "mm",
    PictureKind.DEPTH_M: "m",
}
_KINDS = {(kind.channels, kind.dtype): kind for kind in PictureKind}


def kind_of(picture: Any) -> PictureKind | None:
    """The kind of a picture, None if it can't be recorded; (height, width) has one channel."""
    if not isinstance(picture, np.ndarray) or picture.ndim not in (2, 3) or not picture.size:
        return None
    channels = picture.shape[2] if picture.ndim == 3 else SINGLE
    return _KINDS.get((channels, picture.dtype))
