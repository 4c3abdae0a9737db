"""A session cut into its episodes and what lies between them, and which of these are exported. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from teleop_export.errors import EpisodeDiscarded, EpisodeNotFound, EpisodesOverlap
from teleop_export.sessions.recorded import ALL_LABELS, EpisodeRow, Judgement, Label, Outcome, Session, ended

DEFAULT_TASK = "teleoperation"


@dataclass(frozen=True)
class Choice:
    """Which episodes are exported: those that all of this is true of. Discarded ones never are.

    task         one of their tasks; None: any
    tag          one of the episode's tags
    min_quality  one whose quality nobody has judged has none
    episodes     session and index of those that were chosen one by one; None: any
    """

    outcomes: frozenset[Label] = ALL_LABELS
    task: str | None = None
    operator: str | None = None
    reason: str | None = None
    tag: str | None = None
    min_quality: int | None = None
    episodes: frozenset[tuple[int, int]] | None = None


@dataclass(frozen=True)
class Span:
    """A stretch of a session that is treated alike; `reason` says why it is left out, None that it is not.

    tasks            the frames that its tasks begin with, the first of them its own first one, and the tasks
    outcome, judged  what is known of the episode
    """

    first: int
    end: int
    index: int | None
    tasks: tuple[tuple[int, str], ...]
    reason: str | None
    outcome: Outcome | None = None
    judged: Judgement = field(default_factory=Judgement)


def spans_of(session: Session, choice: Choice, *, labelled: bool = True) -> Iterator[Span]:
    """The whole session below its watermark, in order, without overlap.

    labelled  reasons may tell what was judged of episodes that are left out
    """
    task = session.task or DEFAULT_TASK
    # Nobody has marked episodes: the session as a whole is one.
    if not session.episodes:
        whole = ((0, task),)
        span = Span(0, session.watermark, None, whole, None, None, session.judged)
        yield replace(span, reason=_reason(session, span, choice, labelled))
        return
    reached = 0
    for row, end in _ended(session):
        if row.first > reached:
            yield Span(reached, row.first, None, (), "outside all episodes")
        if end > row.first:
            told = [(row.first, row.task), *(change for change in row.changes if change[0] < end)]
            ours = tuple((frame, each or task) for frame, each in told)
            span = Span(row.first, end, row.index, ours, None, row.outcome, row.judged)
            yield replace(span, reason=_reason(session, span, choice, labelled))
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


def _reason(session: Session, span: Span, choice: Choice, labelled: bool) -> str | None:
    """Why an episode is left out; None: it is not."""
    judged = span.judged
    if span.outcome == "discarded":
        return "discarded"
    if choice.episodes is not None and (session.id, span.index) not in choice.episodes:
        return "not among the episodes that were chosen"
    label = span.outcome or "unlabelled"
    if label not in choice.outcomes:
        return f"outcome not requested: {label}"
    # Each task once, in the order of the episode; a set would change the text from run to run.
    names = dict.fromkeys(task for _, task in span.tasks)
    if choice.task is not None and choice.task not in names:
        return f"task not requested: {', '.join(names)}"
    for what in ("operator", "reason"):
        if getattr(choice, what) not in (None, told := getattr(judged, what)):
            return _not_requested(what, told or "nobody has told one", labelled)
    if choice.tag is not None and choice.tag not in judged.tags:
        return _not_requested("tags", ", ".join(judged.tags) or "it has none", labelled)
    if choice.min_quality is not None and (judged.quality or 0) < choice.min_quality:
        return _not_requested("quality", str(judged.quality or "nobody has judged it"), labelled)
    return None


def _not_requested(what: str, told: str, labelled: bool) -> str:
    """A dataset whose labels are to stay behind has none in its report either."""
    return f"{what} not requested: {told}" if labelled else f"{what} not requested"


def check_chosen(choice: Choice, sessions: Sequence[Session]) -> None:
    """Raise EpisodeNotFound or EpisodeDiscarded for one that was chosen by hand and can't be exported."""
    if choice.episodes is None:
        return
    known = {(session.id, row.index): row for session in sessions for row in session.episodes}
    for session_id, index in sorted(choice.episodes):
        if (session_id, index) not in known:
            raise EpisodeNotFound(
                f"session {session_id} has no episode {index}",
                field="episodes",
                hint=f"GET /sessions/{session_id}/episodes lists them",
            )
        if known[session_id, index].outcome == "discarded":
            raise EpisodeDiscarded(
                f"episode {index} of session {session_id} is discarded",
                field="episodes",
                hint="leave it out, or give it another outcome "
                f"(PATCH /sessions/{session_id}/episodes/{index})",
            )


def name_of(session: Session, span: Span) -> str:
    """What errors call an episode, or a session that has none."""
    return f"session {session.id}" if span.index is None else f"episode {span.index} of session {session.id}"
