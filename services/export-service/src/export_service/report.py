"""The account of an export: every committed frame is exported, or excluded for a reason. Pure."""

from collections.abc import Sequence

from msgspec import Struct

from export_service.plan import Plan
from export_service.recorded import Session


class Excluded(Struct, frozen=True, kw_only=True):
    """`frames` stored frames between `first_frame` and `end_frame - 1` that were left out."""

    reason: str
    episode_index: int | None
    first_frame: int
    end_frame: int
    frames: int


class MissingFrames(Struct, frozen=True, kw_only=True):
    """Frames `first_frame` to `end_frame - 1` were never stored; the episode was split there."""

    reason: str
    episode_index: int | None
    first_frame: int
    end_frame: int


class SessionReport(Struct, frozen=True, kw_only=True):
    """What became of one session: committed = exported + the frames of `excluded`.

    episodes  how many of the dataset's episodes come from it
    """

    session_id: int
    committed: int
    exported: int
    episodes: int
    excluded: list[Excluded]
    gaps: list[MissingFrames]


class Report(Struct, frozen=True, kw_only=True):
    """The whole account: committed - excluded = exported."""

    committed: int
    excluded: int
    exported: int
    sessions: list[SessionReport]


def make_report(sessions: Sequence[Session], plan: Plan) -> Report:
    """The account of `plan`, which covers `sessions`."""
    return Report(
        committed=sum(session.committed for session in sessions),
        excluded=sum(excluded.frames for excluded in plan.excluded),
        exported=plan.frames,
        sessions=[_report(session, plan) for session in sessions],
    )


def _report(session: Session, plan: Plan) -> SessionReport:
    pieces = [piece for piece in plan.pieces if piece.session_id == session.id]
    return SessionReport(
        session_id=session.id,
        committed=session.committed,
        exported=sum(piece.frames for piece in pieces),
        episodes=len(pieces),
        excluded=[
            Excluded(
                reason=each.reason,
                episode_index=each.episode_index,
                first_frame=each.first,
                end_frame=each.end,
                frames=each.frames,
            )
            for each in plan.excluded
            if each.session_id == session.id
        ],
        gaps=[
            MissingFrames(
                reason=each.reason,
                episode_index=each.episode_index,
                first_frame=each.first,
                end_frame=each.end,
            )
            for each in plan.gaps
            if each.session_id == session.id
        ],
    )
