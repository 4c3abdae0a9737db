"""Messages to and from the processes that handle untrusted files (`probe_worker`, `repair_worker`)."""

from msgspec import Struct

# Increased whenever a check finds something else in the same file than before; files
# that an older version has checked are then checked again. 2:
# a packet hidden by an edit list is not a picture, and rotated video is bad. 3: video whose edit list has
# several parts is bad, and video whose edit list hides its end is not. 4: tables that only FFmpeg reads
# are bad.
LOOK_VERSION = 4


class Probed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of a check of a video file; None for what it did not reach.

    frames     pictures in the file
    keyframes  how many of them can be decoded by themselves
    fps        pictures per second, measured over the whole file
    problem    why it can't be used as video; None if it can
    looked     whether the check was completed; otherwise `problem` is not a verdict on the file
    slow       it was not, because it takes more processor time than a first check may
    missing    of a worker's first answer: how this system does not confine it, in words
    """

    frames: int | None = None
    keyframes: int | None = None
    fps: float | None = None
    codec: str | None = None
    pix_fmt: str | None = None
    width: int | None = None
    height: int | None = None
    problem: str | None = None
    looked: bool = True
    slow: bool = False
    missing: list[str] = []


class Question(Struct, frozen=True):
    """A question to a worker, which comes with the open file; it answers with a line with Probed.

    frames  how many pictures the sender says there are
    cpu_s   processor time that the check may take
    """

    frames: int | None
    cpu_s: int


class Outcome(Struct, frozen=True):
    """The answer of `repair_worker`.

    episodes, frames  of the repaired dataset; 0 if nothing could be recovered
    report            text on what was rebuilt and what was lost
    sound             nothing is wrong with the dataset as it is: nothing was written
    """

    episodes: int
    frames: int
    report: str
    sound: bool = False
