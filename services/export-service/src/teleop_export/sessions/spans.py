"""A session cut into its episodes and what lies between them, and which of these are exported. Pure."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from teleop_export.errors import EpisodesOverlap
from teleop_export.sessions.recorded import EpisodeRow, Label, Session, ended

DEFAULT_TASK = "teleoperation"


@dataclass(frozen=True)
class Span:
    """A stretch of a session that is treated alike; `reason` says why it is left out, None that it is not.

    tasks  the frames that its tasks begin with, the first of them its own first one, and the tasks
    """

    first: int
    end: int
    index: int | None
    tasks: tuple[tuple[int, str], ...]
    reason: str | None


def spans_of(session: Session, labels: Collection[Label], wanted: str | None) -> Iterator[Span]:
    """The whole session below its watermark, in order, without overlap."""
    task = session.task or DEFAULT_TASK
    if not session.episodes:
        whole = ((0, task),)
        yield Span(0, session.watermark, None, whole, _reason(None, whole, labels, wanted))
        return
    reached = 0
    for row, end in _ended(session):
        if row.first > reached:
            yield Span(reached, row.first, None, (), "outside all episodes")
        if end > row.first:
            told = [(row.first, row.task), *(change for change in row.changes if change[0] < end)]
            ours = tuple((frame, each or task) for frame, each in told)
            yield Span(row.first, end, row.index, ours, _reason(row.outcome, ours, labels, wanted))
        reached = max(reached, end)
    if session.watermark > reached:
        yield Span(reached, session.watermark, None, (), "outside all episodes")


def _ended(session: Session) -> Iterator[tuple[EpisodeRow, int]]:
    """Episodes, each with its end; raises EpisodesOverlap."""
    rows = list(ended(session))
    for (row, end), following in zip_longest(rows, rows[1:]):
        if following is not None and end > following[0].first:
            raise EpisodesOverlap(
                f"episodes {row.index} and {following[0].index} of session {session.id} share the frames "
                f"{following[0].first} to {end - 1}",
                hint="correct the start or end of one of them",
            )
        yield row, end


def _reason(
    outcome: str | None, tasks: Sequence[tuple[int, str]], labels: Collection[Label], wanted: str | None
) -> str | None:
    """Why an episode is left out; None: it is not."""
    if outcome == "discarded":
        return "discarded"
    label = outcome or "unlabelled"
    if label not in labels:
        return f"outcome not requested: {label}"
    names = dict.fromkeys(task for _, task in tasks)
    return None if wanted is None or wanted in names else f"task not requested: {', '.join(names)}"


def name_of(session: Session, span: Span) -> str:
    """What errors call an episode, or a session that has none."""
    return f"session {session.id}" if span.index is None else f"episode {span.index} of session {session.id}"
