"""How the cameras' pictures are recorded, as the user chooses it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from teleop_schema.session import SessionDescription

if TYPE_CHECKING:
    from lerobot_robot_backend.video_capture import VideoCapture

Quality = Literal["high", "lossless"]
Video = Literal["high", "lossless", "off"]

VIDEO_VARIABLE = "LEROBOT_BACKEND_VIDEO"
# Values per pixel of what is recorded: colours, and depth.
RGB, SINGLE = 3, 1
VIDEO_CHOICES: tuple[Video, ...] = ("high", "lossless", "off")


def choose_video(chosen: str | None) -> Video:
    """`chosen`, else LEROBOT_BACKEND_VIDEO, else "high"; raises ValueError for anything else."""
    name = chosen or os.environ.get(VIDEO_VARIABLE) or "high"
    for choice in VIDEO_CHOICES:
        if name == choice:
            return choice
    raise ValueError(f"{VIDEO_VARIABLE} is {name!r}; it is one of {', '.join(VIDEO_CHOICES)}")


def open_capture(stream_dir: Path, session: SessionDescription, video: Video) -> "VideoCapture | None":
    """What takes the session's pictures; None where there are none. Raises OSError if they can't be taken."""
    if not session.cameras or video == "off":
        return None
    from lerobot_robot_backend.video_capture import VideoCapture

    return VideoCapture(stream_dir, session, video)
