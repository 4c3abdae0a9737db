"""Statistics of a camera's pictures, from the same pictures and pixels that LeRobot uses.

Fewer are not enough. With every eighth picture and a quarter of the pixels, scenes in
which something happens in a few pictures, or in every eighth, or repeats every eighth pixel,
were wrong by a fifth of the whole brightness.
Decoding LeRobot's 121 of 600 pictures of 640x480 takes 0.1 s. Pixels have 256 levels, those of depth 4096;
the number of pixels at each level is enough for every statistic, of an episode and of all of them.
"""

import numpy as np
import numpy.typing as npt

from teleop_dataset.v3.depth import depth_info, depth_values
from teleop_dataset.v3.info import VideoFeature
from teleop_dataset.v3.stats import Floats, Integers, Stats, describe_weighted

# The value of each level of a colour; white is 1.
_BRIGHTNESS: Floats = np.arange(256) / 255.0
# Frames used per episode (lerobot.datasets.compute_stats.estimate_num_samples).
_SAMPLES_MIN, _SAMPLES_MAX, _SAMPLES_POWER = 100, 10_000, 0.75
# Larger pictures are thinned out to about this many pixels along their longer side
# (lerobot.datasets.compute_stats.auto_downsample_height_width).
_THIN_ABOVE, _THIN_TO = 300, 150


def sampled_rows(frames: int) -> Integers:
    """The rows of an episode of `frames` whose pictures LeRobot takes statistics from, ascending."""
    samples = max(min(_SAMPLES_MIN, frames), min(int(frames**_SAMPLES_POWER), _SAMPLES_MAX))
    return np.round(np.linspace(0, frames - 1, samples)).astype(np.int64)


def thinning(height: int, width: int) -> int:
    """LeRobot uses one of this many pixels along each side."""
    longer = max(height, width)
    return 1 if longer < _THIN_ABOVE else longer // _THIN_TO


class PictureLevels:
    """How often each level occurs in a camera's pictures.

    counts    (channels, levels) pixels
    pictures  how many were added
    """

    def __init__(self, camera: VideoFeature) -> None:
        self._values = depth_values(depth_info(camera.depth_unit)) if camera.depth_unit else _BRIGHTNESS
        self.counts: Integers = np.zeros((camera.channels, len(self._values)), np.int64)
        # Where each channel's levels begin, one after the other.
        self._begins = np.arange(camera.channels)[:, None] * len(self._values)
        self.pictures = 0

    def add(self, pixels: npt.NDArray[np.unsignedinteger], times: int = 1) -> None:
        """Add a picture, (channels, height, width), already thinned out; `times` is how often it is shown."""
        places = pixels.reshape(len(self.counts), -1) + self._begins
        found = np.bincount(places.ravel(), minlength=self.counts.size)
        self.counts += times * found.reshape(self.counts.shape)
        self.pictures += times

    def merge(self, other: "PictureLevels") -> None:
        """Add all pictures of another one of the same camera."""
        self.counts += other.counts
        self.pictures += other.pictures

    def describe(self) -> Stats:
        """The statistics as one stretch, as wide as there are channels; at least one picture was added.

        White is 1; depth is in the camera's unit, as in LeRobot.
        """
        parts = []
        for counts in self.counts:
            seen = np.flatnonzero(counts)
            parts.append(describe_weighted(self._values[seen], counts[seen]))
        wide = (
            np.concatenate([getattr(part, name) for part in parts], axis=-1)
            for name in ("low", "high", "mean", "std", "quantiles")
        )
        return Stats(np.array([self.pictures]), *wide)
