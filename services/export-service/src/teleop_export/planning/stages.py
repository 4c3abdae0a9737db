"""What is told of an export while it is made, and once it is. Pure."""

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

Status = Literal["queued", "running", "done", "failed", "cancelled"]
Stage = Literal["data", "video", "statistics", "verify"]
STAGES: tuple[Stage, ...] = ("data", "video", "statistics", "verify")
# Of an export's fingerprint, after its number in the name of its folder.
SHORT_DIGITS = 12

Watch = Callable[[Stage, int, int], None]
"""Told a stage, the frames done and those to do in all; may raise to stop the work."""


class Content(Struct, frozen=True, kw_only=True):
    """What lies in the folder.

    episodes     how many
    tasks        how many different ones
    files        how many
    videos       files of video
    video_bytes  of the compressed pictures in them
    """

    episodes: int
    frames: int
    tasks: int
    files: int
    size_bytes: int
    videos: int
    video_bytes: int
