"""What the database holds about a session, as far as an export needs it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from export_service.align import PictureHole

Status = Literal["recording", "complete", "interrupted"]
Outcome = Literal["success", "failure", "discarded"]


@dataclass(frozen=True)
class Hole:
    """Frames `first` to `end - 1` were never stored, because of `reason`."""

    first: int
    end: int
    reason: str


@dataclass(frozen=True)
class EpisodeRow:
    """One row of `episode`; `end` is None while it is being recorded (or was never told)."""

    index: int
    first: int
    end: int | None
    task: str | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True)
class Footage:
    """The video of one camera in one session.

    fps       the camera's rate
    chunks    numbers of the video chunks that can be used, in their order
    pictures  in all of them
    holes     samples that it has no picture for, ascending, disjoint
    """

    height: int
    width: int
    codec: str
    pix_fmt: str
    fps: float
    chunks: tuple[int, ...]
    pictures: int
    size_bytes: int
    holes: tuple[PictureHole, ...] = ()


@dataclass(frozen=True)
class Session:
    """One session at the moment it was looked at.

    watermark  every frame index below it is committed, as a frame or as a hole
    committed  rows in the frame table below the watermark
    episodes   ascending by `index`
    holes      ascending, disjoint, all below the watermark
    footage    of each camera that has video which can be used
    cameras    that the robot had, whether video of them has arrived or not
    """

    id: int
    robot_type: str
    fps: float
    task: str | None
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    status: Status
    watermark: int
    committed: int
    episodes: tuple[EpisodeRow, ...] = ()
    holes: tuple[Hole, ...] = ()
    footage: Mapping[str, Footage] = field(default_factory=dict)
    cameras: tuple[str, ...] = ()


UNNAMED = "never stored, for a reason that nobody noted"


def name_holes(holes: Iterable[tuple[int, int]], named: Sequence[Hole]) -> Iterator[Hole]:
    """`holes` (first, end), cut where the reasons noted for them begin and end; ascending, both.

    named  gaps with their reasons; they may claim frames that are there after all
    """
    for first, end in holes:
        reached = first
        for gap in named:
            begin, stop = max(gap.first, reached), min(gap.end, end)
            if begin >= stop:
                continue
            if begin > reached:
                yield Hole(reached, begin, UNNAMED)
            yield Hole(begin, stop, gap.reason)
            reached = stop
        if reached < end:
            yield Hole(reached, end, UNNAMED)
