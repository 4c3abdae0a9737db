"""What is said to and by the processes that look into files: `probe_worker` and `repair_worker`."""

from msgspec import Struct

# Raised whenever a look finds something else in the same file than before: what an older one has looked into
# is looked into again then. 2: what an edit list hides is no picture, what players turn is no usable video.
LOOK_VERSION = 2


class Probed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a look into a video file found; None where it did not get that far.

    frames     pictures in the file
    keyframes  how many of them can be decoded by themselves
    fps        pictures per second, measured over the whole file
    problem    why it can't be used as video; None if it can
    looked     whether a look came to an end: else `problem` is no verdict on the file
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


class Question(Struct, frozen=True):
    """What a worker is asked, as a line of JSON; it answers with a line that holds Probed.

    frames  how many pictures the sender says there are
    """

    path: str
    frames: int | None


class Outcome(Struct, frozen=True):
    """What `repair_worker` tells.

    episodes, frames  of the repaired dataset; 0 if nothing could be recovered
    report            what was rebuilt and what was lost, in words
    """

    episodes: int
    frames: int
    report: str
