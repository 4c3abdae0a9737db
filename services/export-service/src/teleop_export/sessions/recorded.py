"""What the database holds about a session, as far as an export needs it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Literal

import numpy as np
import numpy.typing as npt
from teleop_schema.columns import Column
from teleop_schema.depth import DepthUnit

from teleop_export.timing.align import PictureGap
from teleop_export.timing.loop_times import Flags, Integers, LoopTimes, SampleTimes, Which
from teleop_export.timing.pace import Pace, measure
from teleop_export.timing.pauses import Pauses, without

Label = Literal["success", "failure", "unlabelled"]
ALL_LABELS: frozenset[Label] = frozenset({"success", "failure", "unlabelled"})

# The ledger's bounds, see `implausible`: no recording is older, and clocks differ by less than a day.
YEAR_2000_US = 946_684_800_000_000
DAY_US = 86_400_000_000

Status = Literal["recording", "complete", "interrupted"]
Outcome = Literal["success", "failure", "discarded"]


@dataclass(frozen=True)
class Gap:
    """Frames `first` to `end - 1` were never stored, because of `reason`."""

    first: int
    end: int
    reason: str


@dataclass(frozen=True)
class Judgement:
    """What people have said of an episode beside its outcome.

    reason    of the outcome
    quality   1 (poor) to 5
    operator  who drove, as told of the episode, or else of its session
    """

    reason: str | None = None
    quality: int | None = None
    tags: tuple[str, ...] = ()
    operator: str | None = None


@dataclass(frozen=True)
class EpisodeRow:
    """One row of `episode_overview`; `end` is None while it is being recorded (or was never told).

    end      of one that is being recorded and pauses: where the pause began
    task     of its first frame
    changes  of the task: the frame that another one begins with, and this task; ascending
    cut_off  its recorder died before it told the end
    judged   what people have said of it
    """

    index: int
    first: int
    end: int | None
    task: str | None = None
    outcome: Outcome | None = None
    changes: tuple[tuple[int, str | None], ...] = ()
    cut_off: bool = False
    judged: Judgement = Judgement()


@dataclass(frozen=True)
class CameraVideo:
    """The video of one camera in one session.

    fps       the camera's rate
    chunks    numbers of the video chunks that can be used, in their order
    pictures  in all of them
    depth_unit
              they are depth, which the camera gave in this unit, or did so first; None: they are colours
    gaps     samples that it has no picture for, ascending, disjoint
    strays   number of each chunk that lies outside the session by its times, and these in words
    """

    height: int
    width: int
    codec: str
    pix_fmt: str
    fps: float
    chunks: tuple[int, ...]
    pictures: int
    size_bytes: int
    gaps: tuple[PictureGap, ...] = ()
    depth_unit: DepthUnit | None = None
    strays: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Values:
    """Which frames of a session have values of its columns.

    index  (N,) of the frames, ascending
    rows   (N,) whether they become rows of a dataset, if they are in an exported episode
    bits   (N, W) bit p % 8 of byte p // 8: whether they have a value of the column at position p
    """

    index: Integers
    rows: Flags
    bits: npt.NDArray[np.uint8]

    @classmethod
    def none(cls) -> "Values":
        """Of no frames."""
        return cls(np.zeros(0, np.int64), np.zeros(0, bool), np.zeros((0, 0), np.uint8))


@dataclass(frozen=True)
class Session:
    """One session at the moment it was looked at.

    fps        as its sender declared it
    watermark  every frame index below it is committed, as a frame or as a gap
    committed  rows in the frame table below the watermark
    episodes   ascending by `index`
    gaps      ascending, disjoint, all below the watermark
    footage    of each camera that has video which can be used
    cameras    that the robot had, whether video of them has arrived or not
    pace       at which its loop really ran
    paces      of the samples that become rows, in each of its episodes, by their index; without any, under
               None
    not_finite  samples with a value that is NaN or infinite, ascending, disjoint
    repeating  index of the samples that do not, for they have no observation of their own, ascending
    unacted    index of the others that do not, for they have no action, ascending
    pauses     of its episodes
    columns    beyond state and action, by position
    values     which of its samples have values of them
    not_recorded
               features that its robot or the dataset of its command had, and that it has not, or otherwise,
               each with the reason
    times_not_told
               samples that came without a time, which have that of their arrival; None: nobody counted them
    implausible
               samples whose time can't be right, by `implausible`
    refused    frames that the server refused, and that are stored nowhere
    judged     what is said of it where it has no episodes: who drove
    """

    id: int
    robot_id: str
    robot_type: str
    fps: float
    task: str | None
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    status: Status
    watermark: int
    committed: int
    episodes: tuple[EpisodeRow, ...] = ()
    gaps: tuple[Gap, ...] = ()
    footage: Mapping[str, CameraVideo] = field(default_factory=dict)
    cameras: tuple[str, ...] = ()
    pace: Pace = field(default_factory=Pace)
    paces: Mapping[int | None, Pace] = field(default_factory=dict)
    not_finite: Sequence[Gap] = ()
    repeating: Sequence[int] = ()
    unacted: Sequence[int] = ()
    pauses: Pauses = field(default_factory=Pauses)
    columns: tuple[Column, ...] = ()
    values: Values = field(default_factory=Values.none, compare=False)
    not_recorded: Mapping[str, str] = field(default_factory=dict)
    times_not_told: int | None = 0
    implausible: int = 0
    refused: int = 0
    judged: Judgement = Judgement()

    @property
    def loop_hz(self) -> float:
        """The loop rate as it was measured, or else declared."""
        return self.pace.hz or self.fps


def implausible(taken_us: Integers, committed_us: int) -> int:
    """How many samples are from before 2000, or from later than a day after the session's last commit.

    The ledger's own measure: the clock of the robot was not set, or had jumped.
    """
    return int(np.count_nonzero((taken_us < YEAR_2000_US) | (taken_us > committed_us + DAY_US)))


def ended(session: Session) -> Iterator[tuple[EpisodeRow, int]]:
    """Episodes that begin below the watermark, by first frame, each with its end.

    An unfinished one ends where the next begins or with the last frame, and none goes beyond it.
    """
    rows = sorted(session.episodes, key=lambda row: (row.first, row.index))
    rows = [row for row in rows if row.first < session.watermark]
    for row, following in zip_longest(rows, rows[1:]):
        limit = session.watermark if following is None else following.first
        yield row, limit if row.end is None else min(row.end, session.watermark)


def paces(session: Session, samples: SampleTimes, times: LoopTimes, which: Which) -> dict[int | None, Pace]:
    """Of each episode, by its index; of a session without any, under None.

    samples  all of the session's
    times    theirs
    which    of them become rows
    """
    if not session.episodes:
        return {None: measure(samples, times, which)}
    return {
        row.index: measure(*without(samples.within(row.first, end), times, session.pauses), which)
        for row, end in ended(session)
    }


def gaps_of(index: Integers, watermark: int, named: Sequence[Gap]) -> tuple[Gap, ...]:
    """Where `index` (ascending) leaves out frames below the watermark, with the reasons noted for them."""
    edges = np.concatenate([[-1], index, [watermark]])
    before = np.flatnonzero(np.diff(edges) > 1)
    found = zip((edges[before] + 1).tolist(), edges[before + 1].tolist(), strict=True)
    return tuple(name_gaps(found, named))


UNNAMED = "never stored, reason unknown"


def name_gaps(gaps: Iterable[tuple[int, int]], named: Sequence[Gap]) -> Iterator[Gap]:
    """`gaps` (first, end), cut where the reasons noted for them begin and end; ascending, both.

    named  gaps with their reasons; they may claim frames that are there after all
    """
    for first, end in gaps:
        reached = first
        for gap in named:
            begin, stop = max(gap.first, reached), min(gap.end, end)
            if begin >= stop:
                continue
            if begin > reached:
                yield Gap(reached, begin, UNNAMED)
            yield Gap(begin, stop, gap.reason)
            reached = stop
        if reached < end:
            yield Gap(reached, end, UNNAMED)
