"""The pieces of sessions that a dataset is made of, and how many of their frames are read at a time. Pure."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from msgspec import Struct
from teleop_dataset.v3.info import VideoFeature
from teleop_schema.columns import Column

from teleop_export.timing.loop_times import Flags, Integers
from teleop_export.timing.pauses import Spans, in_spans

OnGap = Literal["split", "refuse"]
REPEATING = "repeats the observation of an earlier frame with a newer action"
UNACTED = "no action: the robot was observed only"
# Read at a time: as many as one block of statistics takes.
READ_FRAMES = 65_536
# Of values beyond state and action; where frames have more of them, fewer are read at a time.
READ_COLUMN_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Labels:
    """What leaves with an episode of the dataset, of what is known about the recorded one.

    outcome      success or failure; None: nobody has said
    quality      1 (poor) to 5
    operator     who drove
    measured_hz  at which its loop really ran
    """

    robot_id: str
    outcome: str | None = None
    reason: str | None = None
    quality: int | None = None
    tags: tuple[str, ...] = ()
    operator: str | None = None
    measured_hz: float | None = None


@dataclass(frozen=True)
class Piece:
    """Frames `first` to `end - 1` of a session without `pauses`, all stored: one episode of the dataset.

    task           of its first frame
    episode_index  the episode it comes from, None where the session has none
    repeating      how many of its frames do not become rows, for they repeat an earlier observation
    unacted        how many others do not, for they have no action
    changes        of the task, within the piece: the frame that another one begins with, and this task;
                   ascending
    pauses         frames in between that do not belong to it; ascending, disjoint
    labels         of the episode it comes from; None: they do not leave with it
    """

    session_id: int
    first: int
    end: int
    task: str
    episode_index: int | None
    repeating: int = 0
    changes: tuple[tuple[int, str], ...] = ()
    pauses: Spans = ()
    unacted: int = 0
    labels: Labels | None = None

    @property
    def left_out(self) -> tuple[tuple[str, int], ...]:
        """Why frames of it become no rows, whatever the dataset's rate is, and how many."""
        return (REPEATING, self.repeating), (UNACTED, self.unacted)

    @property
    def frames(self) -> int:
        """How many frames it has, without those in pauses."""
        return self.end - self.first - sum(end - first for first, end in self.pauses)

    def holds(self, index: Integers) -> Flags:
        """(N,) whether each of these frames, ascending, belongs to it."""
        flags: Flags = (index >= self.first) & (index < self.end) & ~in_spans(self.pauses, index)
        return flags


@dataclass(frozen=True)
class Exclusion:
    """`frames` stored frames between `first` and `end - 1` that do not go into the dataset."""

    session_id: int
    first: int
    end: int
    frames: int
    reason: str
    episode_index: int | None


@dataclass(frozen=True)
class EpisodeGap:
    """A gap inside an exported episode: it is missing in the recording, so the episode was split there."""

    session_id: int
    first: int
    end: int
    reason: str
    episode_index: int | None


@dataclass(frozen=True)
class Plan:
    """An export before anything is read.

    fps      of the dataset
    cameras  whose video the dataset has
    pieces   in the order of the dataset's episodes
    """

    fps: int
    cameras: tuple[VideoFeature, ...]
    pieces: tuple[Piece, ...]
    excluded: tuple[Exclusion, ...]
    gaps: tuple[EpisodeGap, ...]

    @cached_property
    def frames(self) -> int:
        """How many frames all pieces have."""
        return sum(piece.frames for piece in self.pieces)


class Source(Struct, frozen=True, kw_only=True):
    """What the pieces of one session are made of.

    fps       the loop rate, as it was measured
    chunks    of each of the order's cameras, in their order: its video chunks that can be used
    pictures  of each camera: how many these hold
    columns   all that the session has beyond state and action
    """

    session_id: int
    fps: float
    chunks: tuple[tuple[int, ...], ...]
    pictures: tuple[int, ...]
    columns: tuple[Column, ...] = ()


def bytes_of(columns: Collection[Column]) -> int:
    """What is reckoned for one frame's values of all of them."""
    return sum(column.room_bytes for column in columns)


def frames_at_once(column_bytes: int) -> int:
    """How many frames are read at a time that have so many bytes beyond state and action."""
    return max(1, min(READ_FRAMES, READ_COLUMN_BYTES // max(1, column_bytes)))
