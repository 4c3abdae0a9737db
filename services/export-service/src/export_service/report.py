"""The account of an export: every committed frame is exported, or excluded for a reason. Pure."""

from collections.abc import Sequence

from msgspec import Struct, structs

from export_service.plan import Piece, Plan
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


class EncodedEpisode(Struct, frozen=True, kw_only=True):
    """An episode of the dataset whose video had to be encoded anew, and why."""

    episode_index: int
    reason: str


class CameraReport(Struct, frozen=True, kw_only=True):
    """What became of one camera's pictures: recorded = used + unused; used + repeated = rows.

    recorded  in the video of all sessions
    stood_in  rows whose own picture is missing, so that they have the one before
    copied    episodes whose pictures are those that were recorded, bit for bit
    encoded   the others
    """

    camera: str
    recorded: int
    used: int
    unused: int
    repeated: int
    stood_in: int
    copied: int
    encoded: list[EncodedEpisode]


class Report(Struct, frozen=True, kw_only=True):
    """The whole account: committed - excluded = exported.

    cameras  once the export is done; where samples are left out for a lower rate, they too are accounted for
             only then
    """

    committed: int
    excluded: int
    exported: int
    sessions: list[SessionReport]
    cameras: list[CameraReport] = []


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


def finish_report(
    planned: Report, pieces: Sequence[Piece], rows: Sequence[int], fps: int, cameras: list[CameraReport]
) -> Report:
    """The account of an export that has been made.

    pieces, rows  its episodes, and how many rows each has; the other frames were left out for `fps`
    """
    sessions = []
    for session in planned.sessions:
        left_out = [
            Excluded(
                reason=f"left out for {fps} rows per second",
                episode_index=piece.episode_index,
                first_frame=piece.first,
                end_frame=piece.end,
                frames=piece.frames - count,
            )
            for piece, count in zip(pieces, rows, strict=True)
            if piece.session_id == session.session_id and count < piece.frames
        ]
        frames = sum(each.frames for each in left_out)
        sessions.append(
            structs.replace(
                session, exported=session.exported - frames, excluded=[*session.excluded, *left_out]
            )
        )
    exported = sum(session.exported for session in sessions)
    return Report(
        committed=planned.committed,
        excluded=planned.committed - exported,
        exported=exported,
        sessions=sessions,
        cameras=cameras,
    )
