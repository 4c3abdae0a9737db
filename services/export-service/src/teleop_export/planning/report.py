"""The account of an export: every committed frame is exported, or excluded for a reason. Pure."""

from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct, structs

from teleop_export.planning.added_columns import ChosenColumns, LeftOutColumn
from teleop_export.planning.pieces import Piece, Plan
from teleop_export.planning.played import (
    EpisodeTime,
    worth_telling,
)
from teleop_export.planning.stages import Content
from teleop_export.sessions.recorded import Session


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


class NotRecorded(Struct, frozen=True):
    """A feature that the robot or the dataset of the recording command had, and that the session has not, or
    has otherwise: no export can have it."""

    name: str
    reason: str


class SessionReport(Struct, frozen=True, kw_only=True):
    """What became of one session: committed = exported + the frames of `excluded`.

    committed     frames of it that were stored
    exported      frames of it that are in the dataset
    excluded      frames of it that were left out
    gaps          frames of it that were never stored
    episodes      how many of the dataset's episodes come from it
    declared_fps  loop rate, as its sender declared it
    measured_hz   and as it was; None if it is too short to tell
    times         once the export is done: of the episodes whose loop was not as fast as declared, or whose
                  time in the dataset is not that of the recording
    columns_left_out
                  that a command added to its frames, and that are not in the dataset
    not_recorded  what was there when it was recorded, and is not kept as it was
    times_not_told
                  of the committed frames, those that came without a time: theirs is when they arrived; None
                  if nobody counted them
    implausible   and those from before 2000, or from later than a day after the session's last commit: the
                  robot's clock was wrong
    refused       frames that the server refused when they were sent: they are stored nowhere, and not among
                  the committed ones
    pictures_left_out
                  cameras of the session whose pictures are not in a raw export: its format has none, or they
                  were not asked for. `GET /sessions/{id}/videos` has them
    cut_off       of the exported episodes of the session, by their index there, those whose recorder died
                  before it told the end: LeRobot has not saved them
    """

    session_id: int
    committed: int
    exported: int
    episodes: int
    excluded: list[Excluded]
    gaps: list[MissingFrames]
    declared_fps: float | None = None
    measured_hz: float | None = None
    times: list[EpisodeTime] = []
    columns_left_out: list[LeftOutColumn] = []
    not_recorded: list[NotRecorded] = []
    times_not_told: int | None = None
    implausible: int = 0
    refused: int = 0
    pictures_left_out: list[str] = []
    cut_off: list[int] = []


class EncodedEpisode(Struct, frozen=True, kw_only=True):
    """An episode of the dataset whose video had to be re-encoded, and why."""

    episode_index: int
    reason: str


class CameraReport(Struct, frozen=True, kw_only=True):
    """What became of one camera's pictures: recorded = used + unused; used + repeated = rows.

    recorded  in the video of all sessions
    used      of these, in the dataset
    unused    of these, not in the dataset
    repeated  rows that have the picture of the row before
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


class ColumnReport(Struct, frozen=True, kw_only=True):
    """A column that the recording command added, and that the dataset has.

    not_finite  rows with a value that is NaN or infinite, once the export is done
    """

    name: str
    dtype: str
    shape: list[int]
    not_finite: int = 0


class Report(Struct, frozen=True, kw_only=True):
    """The whole account: committed - excluded = exported.

    committed
             frames that were stored
    excluded
             frames that were left out
    exported
             frames that are in the dataset
    sessions
             what became of each
    fps      rows per second
    columns  of the dataset, beyond state and action, that every row has
    cameras  once the export is done; where samples are left out for a lower rate, they too are accounted for
             only then
    """

    committed: int
    excluded: int
    exported: int
    sessions: list[SessionReport]
    cameras: list[CameraReport] = []
    fps: int | None = None
    columns: list[ColumnReport] = []


def make_report(sessions: Sequence[Session], plan: Plan, chosen: ChosenColumns) -> Report:
    """The account of `plan`, which covers `sessions`."""
    return Report(
        committed=sum(session.committed for session in sessions),
        excluded=sum(excluded.frames for excluded in plan.excluded),
        exported=plan.frames,
        sessions=[_report(session, plan, chosen) for session in sessions],
        fps=plan.fps,
        columns=[
            ColumnReport(name=column.name, dtype=column.dtype, shape=list(column.shape))
            for column in chosen.columns
        ],
    )


def _report(session: Session, plan: Plan, chosen: ChosenColumns) -> SessionReport:
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
        declared_fps=session.fps,
        measured_hz=session.pace.hz,
        columns_left_out=list(chosen.left_out.get(session.id, ())),
        not_recorded=told_not_recorded(session),
        times_not_told=session.times_not_told,
        implausible=session.implausible,
        refused=session.refused,
        cut_off=told_cut_off(session, {piece.episode_index for piece in pieces}),
    )


def told_cut_off(session: Session, exported: Collection[int | None]) -> list[int]:
    """Which of these episodes of a session were cut off."""
    return [row.index for row in session.episodes if row.cut_off and row.index in exported]


def told_not_recorded(session: Session) -> list[NotRecorded]:
    """What a report says of it."""
    return [NotRecorded(name, reason) for name, reason in session.not_recorded.items()]


def _thinned_out(session: SessionReport, fps: int, slowest: str | None) -> str:
    """Why frames have no row at that rate: the loop was faster all through, or, if one was slow and gave the
    dataset its rate, some frames are closer together.

    slowest  the episode that was slow, in words; None if none of them was
    """
    hz, declared = session.measured_hz, session.declared_fps
    if slowest is not None and hz is not None and declared is not None and fps < declared:
        return (
            f"closer together than the {fps} rows per second of the dataset: all of a dataset has one rate, "
            f"in whole fps, for which its slowest episode has enough frames ({slowest})"
        )
    return f"the loop was faster than the {fps} rows per second of the dataset"


def _slowest(pieces: Sequence[Piece], times: Sequence[EpisodeTime], fps: int) -> str | None:
    """The slowest episode, if it is why the dataset has no higher rate."""
    found = [
        (time.measured_hz, piece.session_id, time.episode_index)
        for piece, time in zip(pieces, times, strict=True)
        if time.measured_hz is not None
    ]
    if not found:
        return None
    hz, session_id, index = min(found, key=lambda each: each[0])
    if hz >= fps + 1:
        return None
    episode = "" if index is None else f"episode {index} of "
    return f"{episode}session {session_id}, recorded at {hz:.2f} Hz"


def finish_report(
    planned: Report,
    pieces: Sequence[Piece],
    rows: Sequence[int],
    times: Sequence[EpisodeTime],
    fps: int,
    cameras: list[CameraReport],
    not_finite: Mapping[str, int],
) -> Report:
    """The account of an export that has been made.

    pieces, rows  its episodes, and how many rows each has; the other frames were left out for `fps`
    times         of each
    not_finite    rows with such a value, by feature
    """
    slowest = _slowest(pieces, times, fps)
    made = list(zip(pieces, rows, times, strict=True))
    sessions = []
    for session in planned.sessions:
        own = [each for each in made if each[0].session_id == session.session_id]
        left_out = [
            excluded
            for piece, count, _ in own
            for excluded in _left_out(piece, count, _thinned_out(session, fps, slowest))
        ]
        sessions.append(
            structs.replace(
                session,
                exported=session.exported - sum(each.frames for each in left_out),
                excluded=[*session.excluded, *left_out],
                times=[time for _, _, time in own if worth_telling(time, session.declared_fps, fps)],
            )
        )
    exported = sum(session.exported for session in sessions)
    return Report(
        committed=planned.committed,
        excluded=planned.committed - exported,
        exported=exported,
        sessions=sessions,
        cameras=cameras,
        fps=fps,
        columns=[
            structs.replace(column, not_finite=not_finite.get(column.name, 0)) for column in planned.columns
        ],
    )


def _left_out(piece: Piece, rows: int, thinned_out: str) -> list[Excluded]:
    """The frames of a piece that are in none of its rows, by reason.

    thinned_out  the reason for those that only the dataset's fps left out
    """
    named = sum(frames for _, frames in piece.left_out)
    return [
        Excluded(
            reason=reason,
            episode_index=piece.episode_index,
            first_frame=piece.first,
            end_frame=piece.end,
            frames=frames,
        )
        for reason, frames in (*piece.left_out, (thinned_out, piece.frames - named - rows))
        if frames
    ]


class Built(Struct, frozen=True, kw_only=True):
    """What lies in the folder, and the account of it."""

    content: Content
    report: Report
