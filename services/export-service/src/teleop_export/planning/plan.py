"""Which frames become which episodes of the dataset, which are left out, and why. Pure."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from teleop_schema.words import counted

from teleop_export.errors import EpisodeHasGap, NothingToExport, VideoMisplaced, VideoUnfinished
from teleop_export.planning.pieces import UNACTED, EpisodeGap, Exclusion, Labels, OnGap, Piece, Plan
from teleop_export.sessions.alike import check_alike, choose_cameras
from teleop_export.sessions.finite import OnNotFinite, Run, check_left_out, cut_out
from teleop_export.sessions.rates import RecordedEpisode, choose_fps
from teleop_export.sessions.recorded import Gap, Session
from teleop_export.sessions.spans import Choice, Span, name_of, spans_of
from teleop_export.timing.pace import Pace
from teleop_export.timing.pauses import Pauses

# Reasons named at most where nothing is left.
MAX_REASONS = 5
PAUSED = "paused: recorded within the episode but not part of it; the rows before and after are consecutive"
# Of one episode, that are told one by one.
MAX_PAUSES = 100


def make_plan(
    sessions: Sequence[Session],
    *,
    choice: Choice,
    labelled: bool = True,
    on_gap: OnGap,
    on_not_finite: OnNotFinite = "split",
    fps: int | None = None,
    cameras: Sequence[str] | None = None,
    video_unfinished: bool = False,
) -> Plan:
    """Every stored frame of `sessions`, either in a piece or in an exclusion.

    choice            of the episodes to export
    labelled          pieces say what was judged of their episodes, and reasons what was judged of those that
                      are left out
    on_gap            what to do with an episode that has a gap, in its samples or in a camera's pictures:
                      split it there, or raise EpisodeHasGap
    on_not_finite     what to do with frames that hold a value which is NaN or infinite: cut them out, if not
                      much of the episode is lost by that, keep them, or raise NotFinite
    fps, cameras      as asked for; None: what the sessions have
    video_unfinished  take what has arrived of the video, even if more may come

    Raises BadFps, RatesDiffer, SessionsDiffer, CameraMissing, VideoDiffers, VideoUnfinished, EpisodesOverlap,
    EpisodeHasGap, NotFinite, NothingToExport.
    """
    chosen = choose_cameras(sessions, cameras, video_unfinished=video_unfinished)
    check_alike(sessions)
    names = [camera.name for camera in chosen]
    pieces: list[Piece] = []
    excluded: list[Exclusion] = []
    gaps: list[EpisodeGap] = []
    for session in sessions:
        unseen = _unseen(session, names)
        for span in spans_of(session, choice, labelled=labelled):
            if span.reason is None:
                missing = _outside(session.pauses, _gaps_in(session.gaps, span.first, span.end))
                blind = _outside(session.pauses, _gaps_in(unseen, span.first, span.end))
                _check_gaps(session, span, missing, blind, on_gap, video_unfinished=video_unfinished)
                runs, left_out = _finite_runs(session, span, missing, blind, on_not_finite)
                excluded += [*left_out, *_paused(session, span)]
                for piece in _pieces(session, span, runs, labelled=labelled):
                    rowless = _rowless(piece)
                    if sum(each.frames for each in rowless) < piece.frames:
                        pieces.append(piece)
                    else:
                        excluded += rowless
                excluded += _blind(session, span, blind)
                gaps += [
                    EpisodeGap(session.id, gap.first, gap.end, gap.reason, span.index) for gap in missing
                ]
            elif frames := _count(stored_runs(session.gaps, span.first, span.end)):
                excluded.append(Exclusion(session.id, span.first, span.end, frames, span.reason, span.index))
    if not pieces:
        raise _nothing(sessions, excluded)
    episodes = _recorded(sessions, pieces)
    rate = choose_fps(episodes, chosen, fps)
    return Plan(rate, chosen, tuple(pieces), tuple(excluded), tuple(gaps))


def _nothing(sessions: Sequence[Session], excluded: Sequence[Exclusion]) -> NothingToExport:
    named = f"sessions {', '.join(str(session.id) for session in sessions)}"
    if not excluded:
        return NothingToExport(
            f"{named} have no frames to export", hint="the ledger of a session shows what it holds"
        )
    frames: Counter[str] = Counter()
    for each in excluded:
        frames[each.reason] += each.frames
    left_out = "; ".join(
        f"{counted(count, 'frame')}: {reason}" for reason, count in frames.most_common(MAX_REASONS)
    )
    if UNACTED in frames:
        return NothingToExport(
            f"{named} have no frame with an action to export ({left_out})",
            hint='set `"on_not_finite": "keep"` to have rows without one (NaN), or `"format": "mcap"`',
        )
    return NothingToExport(
        f"{named} have no frames left to export ({left_out})",
        hint="change the request, or correct the episodes (PATCH /sessions/{id}/episodes/{index})",
    )


def _recorded(sessions: Sequence[Session], pieces: Sequence[Piece]) -> list[RecordedEpisode]:
    """The episodes that `pieces` come from."""
    numbered = {session.id: session for session in sessions}
    exported = dict.fromkeys((piece.session_id, piece.episode_index) for piece in pieces)
    return [
        RecordedEpisode(numbered[number], index, numbered[number].paces.get(index, Pace()))
        for number, index in exported
    ]


@dataclass(frozen=True)
class _Unseen:
    """Frames that one of the cameras has no picture for."""

    first: int
    end: int
    reason: str
    camera: str
    awaited: bool


def _unseen(session: Session, cameras: Sequence[str]) -> list[_Unseen]:
    """Where any of the cameras has no picture: ascending, disjoint."""
    named = [
        _Unseen(gap.first, gap.end, f"camera {camera}: {gap.reason}", camera, gap.awaited)
        for camera in cameras
        for gap in session.footage[camera].gaps
    ]
    found: list[_Unseen] = []
    reached = 0
    for gap in sorted(named, key=lambda each: (each.first, each.end)):
        if gap.end > max(gap.first, reached):
            found.append(replace(gap, first=max(gap.first, reached)))
            reached = gap.end
    return found


def _check_gaps(
    session: Session,
    span: Span,
    missing: Sequence[Gap],
    blind: Sequence[_Unseen],
    on_gap: OnGap,
    *,
    video_unfinished: bool,
) -> None:
    if not video_unfinished:
        _check_strays(session, span, blind)
    awaited = next((gap for gap in blind if gap.awaited), None)
    if awaited is not None and not video_unfinished:
        raise VideoUnfinished(
            f"{name_of(session, span)} has no video for the frames {awaited.first} to {awaited.end - 1}: "
            f"{awaited.reason}",
            field="session_ids",
            hint=f"wait until its video has arrived; if it has, look at its times (GET /sessions/{session.id}"
            '/videos); `"include_unfinished": true` exports what is there, `cameras` names those to export',
        )
    if on_gap == "refuse" and (missing or blind):
        gap: Gap | _Unseen = missing[0] if missing else blind[0]
        raise _refusal(session, span, gap)


def _check_strays(session: Session, span: Span, blind: Sequence[_Unseen]) -> None:
    """Raise VideoMisplaced if frames have no picture, and video that may be theirs has wrong times."""
    for gap in blind:
        for number, told in session.footage[gap.camera].strays:
            raise VideoMisplaced(
                f"{name_of(session, span)} has no video of camera {gap.camera} for the frames {gap.first} to "
                f"{gap.end - 1}, and some video of it lies outside the session: {told}",
                field="cameras",
                hint=f"remove it (DELETE /videos/{number}) and send it again with the times of its pictures; "
                'or leave the camera out by naming the others in `cameras` (`"cameras": []`: joints only)',
            )


def _finite_runs(
    session: Session,
    span: Span,
    missing: Sequence[Gap],
    blind: Sequence[_Unseen],
    on_not_finite: OnNotFinite,
) -> tuple[list[Run], list[Exclusion]]:
    """Frames that can become rows; and those that can't, for they or their neighbours are not finite."""
    pauses = session.pauses
    runs = [
        run
        for begin, stop in stored_runs(missing, span.first, span.end)
        for run in pauses.trimmed(stored_runs(blind, begin, stop))
    ]
    unfit = _outside(pauses, _gaps_in(session.not_finite, span.first, span.end))
    if on_not_finite == "keep" or not unfit:
        return runs, []
    kept, left_out = cut_out(runs, unfit, pauses, loop_hz=session.loop_hz)
    check_left_out(name_of(session, span), on_not_finite, runs, left_out, pauses)
    return kept, [
        Exclusion(session.id, first, end, pauses.others(first, end), reason, span.index)
        for first, end, reason in left_out
    ]


def _paused(session: Session, span: Span) -> Iterator[Exclusion]:
    """The stored frames of its pauses, one by one unless there are very many."""
    pauses = session.pauses.within(span.first, span.end)
    frames = [_count(stored_runs(session.gaps, first, end)) for first, end in pauses]
    if len(pauses) > MAX_PAUSES:
        pauses, frames = ((pauses[0][0], pauses[-1][1]),), [sum(frames)]
    for (first, end), count in zip(pauses, frames, strict=True):
        if count:
            yield Exclusion(session.id, first, end, count, PAUSED, span.index)


def _pieces(session: Session, span: Span, runs: Sequence[Run], *, labelled: bool) -> list[Piece]:
    labels = _labels(session, span) if labelled else None
    return [_piece(session, span, first, end, labels) for first, end in runs]


def _rowless(piece: Piece) -> list[Exclusion]:
    """Its frames that become no rows, whatever the rate of the dataset is."""
    return [
        Exclusion(piece.session_id, piece.first, piece.end, frames, reason, piece.episode_index)
        for reason, frames in piece.left_out
        if frames
    ]


def _piece(session: Session, span: Span, first: int, end: int, labels: Labels | None) -> Piece:
    begun = bisect_right(span.tasks, first, key=_frame) - 1
    return Piece(
        session.id,
        first,
        end,
        span.tasks[begun][1],
        span.index,
        _between(session.repeating, first, end),
        span.tasks[begun + 1 : bisect_left(span.tasks, end, key=_frame)],
        session.pauses.within(first, end),
        _between(session.unacted, first, end),
        labels,
    )


def _labels(session: Session, span: Span) -> Labels:
    judged = span.judged
    return Labels(
        robot_id=session.robot_id,
        outcome=span.outcome,
        reason=judged.reason,
        quality=judged.quality,
        tags=judged.tags,
        operator=judged.operator,
        measured_hz=session.paces.get(span.index, Pace()).hz,
    )


def _frame(task: tuple[int, str]) -> int:
    return task[0]


def _between(numbers: Sequence[int], first: int, end: int) -> int:
    """How many of `numbers` (ascending) lie between `first` and `end - 1`."""
    return bisect_left(numbers, end) - bisect_left(numbers, first)


def _blind(session: Session, span: Span, blind: Sequence[_Unseen]) -> Iterator[Exclusion]:
    for gap in blind:
        frames = _count(stored_runs(session.gaps, gap.first, gap.end))
        if frames:
            yield Exclusion(session.id, gap.first, gap.end, frames, gap.reason, span.index)


def _count(runs: Iterable[tuple[int, int]]) -> int:
    return sum(end - first for first, end in runs)


def stored_runs(gaps: Sequence[Gap | _Unseen], first: int, end: int) -> Iterator[tuple[int, int]]:
    """Runs of stored frames between `first` and `end`."""
    for gap in _gaps_in(gaps, first, end):
        if gap.first > first:
            yield first, gap.first
        first = gap.end
    if end > first:
        yield first, end


def _gaps_in[H: Gap | _Unseen](gaps: Sequence[H], first: int, end: int) -> list[H]:
    """The parts of `gaps` (ascending, disjoint) that lie between `first` and `end`."""
    begin = bisect_right(gaps, first, key=lambda gap: gap.end)
    found = []
    for gap in gaps[begin:]:
        if gap.first >= end:
            break
        found.append(replace(gap, first=max(gap.first, first), end=min(gap.end, end)))
    return found


def _outside[H: Gap | _Unseen](pauses: Pauses, gaps: Sequence[H]) -> list[H]:
    """The parts of `gaps` that lie in no pause: in one, nothing of the episode is missing."""
    found = []
    for gap in gaps:
        reached = gap.first
        for first, end in (*pauses.within(gap.first, gap.end), (gap.end, gap.end)):
            if first > reached:
                found.append(replace(gap, first=reached, end=first))
            reached = end
    return found


def _refusal(session: Session, span: Span, gap: Gap | _Unseen) -> EpisodeHasGap:
    return EpisodeHasGap(
        f"{name_of(session, span)} is missing the frames {gap.first} to {gap.end - 1}: {gap.reason}",
        field="on_gap",
        hint='set `"on_gap": "split"`, or give the episode the outcome "discarded"',
    )
