"""How the user wants the cameras' pictures to be recorded."""

import os
from typing import Literal

Quality = Literal["high", "lossless"]
Video = Literal["high", "lossless", "off"]

VIDEO_VARIABLE = "LEROBOT_BACKEND_VIDEO"
# Values per pixel of recorded pictures: colour, and depth.
RGB, SINGLE = 3, 1
VIDEO_CHOICES: tuple[Video, ...] = ("high", "lossless", "off")


def choose_video(chosen: str | None) -> Video:
    """`chosen`; default: LEROBOT_BACKEND_VIDEO, or "high". Raises ValueError for any other value."""
    name = chosen or os.environ.get(VIDEO_VARIABLE) or "high"
    for choice in VIDEO_CHOICES:
        if name == choice:
            return choice
    raise ValueError(f"{VIDEO_VARIABLE} is {name!r}; it must be one of {', '.join(VIDEO_CHOICES)}")
