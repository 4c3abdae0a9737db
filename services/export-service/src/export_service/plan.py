"""Which frames become which episodes of the dataset, which are left out, and why. Pure."""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Literal

from export_service.errors import BadFps, EpisodeHasGap, EpisodesOverlap, NothingToExport, SessionsDiffer
from export_service.recorded import EpisodeRow, Hole, Session

OnGap = Literal["split", "refuse"]
Label = Literal["success", "failure", "unlabelled"]
ALL_LABELS: frozenset[Label] = frozenset({"success", "failure", "unlabelled"})
DEFAULT_TASK = "teleoperation"


@dataclass(frozen=True)
class Piece:
    """Frames `first` to `end - 1` of a session, all of them stored: one episode of the dataset.

    episode_index  the episode it comes from, None where the session has none
    """

    session_id: int
    first: int
    end: int
    task: str
    episode_index: int | None

    @property
    def frames(self) -> int:
        return self.end - self.first


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
class Gap:
    """A hole inside an exported episode: it is missing in the recording, so the episode was split there."""

    session_id: int
    first: int
    end: int
    reason: str
    episode_index: int | None


@dataclass(frozen=True)
class Plan:
    """An export before anything is read.

    pieces  in the order of the dataset's episodes
    """

    fps: int
    pieces: tuple[Piece, ...]
    excluded: tuple[Exclusion, ...]
    gaps: tuple[Gap, ...]

    @cached_property
    def frames(self) -> int:
        return sum(piece.frames for piece in self.pieces)


def check_alike(sessions: Sequence[Session]) -> int:
    """The whole number of frames per second that all sessions share.

    Raises BadFps where it is not whole, SessionsDiffer naming what keeps them from being one dataset.
    """
    first = sessions[0]
    for other in sessions[1:]:
        for name in ("robot_type", "fps", "state_names", "action_names"):
            ours, theirs = getattr(first, name), getattr(other, name)
            if ours != theirs:
                raise SessionsDiffer(
                    f"sessions {first.id} and {other.id} differ in {name}: {_told(ours)} and {_told(theirs)}",
                    field=name,
                    hint="export them as two datasets",
                )
    if not first.fps.is_integer():
        raise BadFps(
            f"session {first.id} has fps {first.fps:g}; LeRobot datasets take whole numbers only", field="fps"
        )
    return int(first.fps)


def make_plan(sessions: Sequence[Session], *, labels: Collection[Label], on_gap: OnGap) -> Plan:
    """Every stored frame of `sessions`, either in a piece or in an exclusion.

    labels  outcomes to export; discarded episodes never are
    on_gap  what to do with an episode that has a hole: split it there, or raise EpisodeHasGap

    Raises BadFps, SessionsDiffer, EpisodesOverlap, EpisodeHasGap, NothingToExport.
    """
    fps = check_alike(sessions)
    pieces: list[Piece] = []
    excluded: list[Exclusion] = []
    gaps: list[Gap] = []
    for session in sessions:
        for span in _spans(session, labels):
            if span.reason is None:
                found = _pieces(session, span)
                holes = _holes_in(session.holes, span.first, span.end)
                if holes and on_gap == "refuse":
                    raise _refusal(session, span, holes[0])
                pieces += found
                gaps += [Gap(session.id, hole.first, hole.end, hole.reason, span.index) for hole in holes]
            elif frames := sum(end - first for first, end in _stored(session.holes, span.first, span.end)):
                excluded.append(Exclusion(session.id, span.first, span.end, frames, span.reason, span.index))
    if not pieces:
        raise NothingToExport(
            f"sessions {', '.join(str(session.id) for session in sessions)} hold no frame to export",
            hint="the ledger of a session tells what it holds",
        )
    return Plan(fps, tuple(pieces), tuple(excluded), tuple(gaps))


@dataclass(frozen=True)
class _Span:
    """A stretch of a session that is treated alike; `reason` says why it is left out, None that it is not."""

    first: int
    end: int
    index: int | None
    task: str
    reason: str | None


def _spans(session: Session, labels: Collection[Label]) -> Iterator[_Span]:
    """The whole session below its watermark, in order, without overlap."""
    task = session.task or DEFAULT_TASK
    if not session.episodes:
        reason = None if "unlabelled" in labels else "outcome not asked for: unlabelled"
        yield _Span(0, session.watermark, None, task, reason)
        return
    reached = 0
    for row, end in _ended(session):
        if row.first > reached:
            yield _Span(reached, row.first, None, task, "outside of every episode")
        if end > row.first:
            yield _Span(row.first, end, row.index, row.task or task, _reason(row, labels))
        reached = max(reached, end)
    if session.watermark > reached:
        yield _Span(reached, session.watermark, None, task, "outside of every episode")


def _ended(session: Session) -> Iterator[tuple[EpisodeRow, int]]:
    """Episodes by first frame, each with its end: an unfinished one ends where the next begins or with the
    last frame, and none goes beyond it."""
    rows = sorted(session.episodes, key=lambda row: (row.first, row.index))
    rows = [row for row in rows if row.first < session.watermark]
    for row, following in zip_longest(rows, rows[1:]):
        limit = session.watermark if following is None else following.first
        end = limit if row.end is None else min(row.end, session.watermark)
        if following is not None and end > following.first:
            raise EpisodesOverlap(
                f"episodes {row.index} and {following.index} of session {session.id} share the frames "
                f"{following.first} to {end - 1}",
                hint="correct where one of them begins or ends",
            )
        yield row, end


def _reason(row: EpisodeRow, labels: Collection[Label]) -> str | None:
    if row.outcome == "discarded":
        return "discarded"
    label = row.outcome or "unlabelled"
    return None if label in labels else f"outcome not asked for: {label}"


def _pieces(session: Session, span: _Span) -> list[Piece]:
    return [
        Piece(session.id, first, end, span.task, span.index)
        for first, end in _stored(session.holes, span.first, span.end)
    ]


def _stored(holes: Sequence[Hole], first: int, end: int) -> Iterator[tuple[int, int]]:
    """Runs of stored frames between `first` and `end`."""
    for hole in _holes_in(holes, first, end):
        if hole.first > first:
            yield first, hole.first
        first = hole.end
    if end > first:
        yield first, end


def _holes_in(holes: Sequence[Hole], first: int, end: int) -> list[Hole]:
    """The parts of `holes` (ascending, disjoint) that lie between `first` and `end`."""
    begin = bisect_right(holes, first, key=lambda hole: hole.end)
    found = []
    for hole in holes[begin:]:
        if hole.first >= end:
            break
        found.append(Hole(max(hole.first, first), min(hole.end, end), hole.reason))
    return found


def _refusal(session: Session, span: _Span, hole: Hole) -> EpisodeHasGap:
    name = f"session {session.id}" if span.index is None else f"episode {span.index} of session {session.id}"
    return EpisodeHasGap(
        f"{name} lacks the frames {hole.first} to {hole.end - 1}: {hole.reason}",
        field="on_gap",
        hint='ask for on_gap "split", or give the episode the outcome "discarded"',
    )


def _told(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
