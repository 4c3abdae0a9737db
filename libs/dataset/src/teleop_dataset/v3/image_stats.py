"""Statistics of a camera's pictures, from some of those that LeRobot would look at.

Decoding is what costs: LeRobot looks at every sixth picture of a minute, here it is one of eight of those,
and of large ones at a quarter of its pixels. Measured on the virtual robot's pictures, drawn, with a sensor's
noise, and with light that drifts by 40 %, against all that LeRobot looks at: the means of an episode differ
by at most 0.003, deviations by 0.002, quantiles and extremes, which single pixels make, by three of the 256
levels (0.012), white being 1; the quantiles of drawn pictures, which have few levels, by five. With one of
sixteen it was 0.011, 0.005 and 0.024. Pixels have 256 levels, those of depth 4096: how often each occurs
tells every statistic of what was looked at, of an episode and of all of them.
"""

import numpy as np
import numpy.typing as npt

from teleop_dataset.v3.depth import depth_info, depth_values
from teleop_dataset.v3.info import Camera
from teleop_dataset.v3.stats import Floats, Integers, Stats, describe_weighted

# What each level of a colour stands for, white being 1.
_BRIGHTNESS: Floats = np.arange(256) / 255.0
# Frames looked at per episode (lerobot.datasets.compute_stats.estimate_num_samples).
_SAMPLES_MIN, _SAMPLES_MAX, _SAMPLES_POWER = 100, 10_000, 0.75
# Of so many pictures that LeRobot would look at, one is; of an episode not fewer than _LOOKED_AT_MIN.
_STANDS_FOR = 8
_LOOKED_AT_MIN = 8
# Larger pictures are thinned out to about this many pixels along their longer side
# (lerobot.datasets.compute_stats.auto_downsample_height_width).
_THIN_ABOVE, _THIN_TO = 300, 150


def sampled_rows(frames: int) -> Integers:
    """The rows of an episode of `frames` whose pictures LeRobot takes statistics from, ascending."""
    samples = max(min(_SAMPLES_MIN, frames), min(int(frames**_SAMPLES_POWER), _SAMPLES_MAX))
    return np.round(np.linspace(0, frames - 1, samples)).astype(np.int64)


def looked_at_rows(frames: int) -> tuple[Integers, Integers]:
    """The rows of an episode of `frames` whose pictures are looked at, ascending, and how many of LeRobot's
    each stands for: together as many, so that its merging gives this episode the weight that it gives others.
    """
    theirs = sampled_rows(frames)
    looked_at = max(min(len(theirs), _LOOKED_AT_MIN), len(theirs) // _STANDS_FOR)
    edges = np.arange(looked_at + 1) * len(theirs) // looked_at
    return theirs[(edges[:-1] + edges[1:]) // 2], np.diff(edges)


def thinning(height: int, width: int) -> int:
    """Of how many pixels, along each side, LeRobot looks at one."""
    longer = max(height, width)
    return 1 if longer < _THIN_ABOVE else longer // _THIN_TO


def looked_at_step(height: int, width: int) -> int:
    """Of how many pixels, along each side, one is looked at: of large pictures half of LeRobot's."""
    theirs = thinning(height, width)
    return theirs if theirs == 1 else 2 * theirs


class PictureLevels:
    """How often each level occurs in a camera's pictures.

    counts    (channels, levels) pixels
    pictures  how many were added
    """

    def __init__(self, camera: Camera) -> None:
        self._values = depth_values(depth_info(camera.depth_unit)) if camera.depth_unit else _BRIGHTNESS
        self.counts: Integers = np.zeros((camera.channels, len(self._values)), np.int64)
        # Where each channel's levels begin, one after the other.
        self._begins = np.arange(camera.channels)[:, None] * len(self._values)
        self.pictures = 0

    def add(self, pixels: npt.NDArray[np.unsignedinteger], times: int = 1) -> None:
        """Add a picture, (channels, height, width), already thinned out; `times` if it is shown so often."""
        places = pixels.reshape(len(self.counts), -1) + self._begins
        found = np.bincount(places.ravel(), minlength=self.counts.size)
        self.counts += times * found.reshape(self.counts.shape)
        self.pictures += times

    def merge(self, other: "PictureLevels") -> None:
        self.counts += other.counts
        self.pictures += other.pictures

    def describe(self) -> Stats:
        """The statistics as one stretch, as wide as there are channels; at least one picture was added.

        White is 1; depth is in the camera's unit, as LeRobot leaves it.
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
