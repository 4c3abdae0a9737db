"""Depth in a dataset: codes of 12 bits, and their description in info.json."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from teleop_schema.depth import (
    DEPTH_MAX_CODE,
    DEPTH_MAX_M,
    DEPTH_MIN_M,
    DEPTH_SHIFT_M,
    MM_PER_M,
    DepthUnit,
)

from teleop_dataset.v3.stats import Floats

DEPTH_LEVELS = DEPTH_MAX_CODE + 1


def depth_info(unit: DepthUnit) -> dict[str, Any]:
    """The part of `info` of a camera's feature that says how LeRobot turns the codes into depth again.

    unit  of its statistics
    """
    return {
        "is_depth_map": True,
        "depth_unit": unit,
        "video.depth_min": DEPTH_MIN_M,
        "video.depth_max": DEPTH_MAX_M,
        "video.shift": DEPTH_SHIFT_M,
        "video.use_log": True,
    }


def depth_values(info: Mapping[str, Any]) -> Floats:
    """Depth that each of the DEPTH_LEVELS codes stands for, in the dataset's unit (mm if it names none).

    What is missing in `info` is LeRobot's default: lerobot.configs.video.DepthEncoderConfig.
    """
    low, high = (
        float(info.get(f"video.depth_{edge}", each))
        for edge, each in (("min", DEPTH_MIN_M), ("max", DEPTH_MAX_M))
    )
    shift = float(info.get("video.shift", DEPTH_SHIFT_M))
    codes = np.arange(DEPTH_LEVELS) / DEPTH_MAX_CODE
    if info.get("video.use_log", True):
        begin, end = np.log(low + shift), np.log(high + shift)
        metres = np.exp(begin + codes * (end - begin)) - shift
    else:
        metres = low + codes * (high - low)
    values: Floats = metres if info.get("depth_unit") == "m" else metres * MM_PER_M
    return values
