"""The account of an export: every committed frame is exported, or excluded for a reason. Pure."""

from collections.abc import Mapping, Sequence

from msgspec import Struct, structs

from teleop_export.planning.added_columns import ChosenColumns, LeftOutColumn
from teleop_export.planning.plan import Piece, Plan
from teleop_export.sessions.recorded import Session
from teleop_export.timing.loop_times import US_PER_S, Integers
from teleop_export.timing.pace import SLOWER, Chosen

# Of one episode.
MAX_STALLS = 100


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


class StallTime(Struct, frozen=True, kw_only=True):
    """For `seconds` there are no rows: `after_frame` is followed by `next_frame` as if no time had passed."""

    after_frame: int
    next_frame: int
    seconds: float


class SlowTime(Struct, frozen=True, kw_only=True):
    """From `first_frame` to `last_frame` the loop ran at `measured_hz` only: that plays too fast."""

    first_frame: int
    last_frame: int
    measured_hz: float


class EpisodeTime(Struct, frozen=True, kw_only=True):
    """How an exported episode plays, against how it was recorded.

    episode_index    of the recorded one
    first_frame, end_frame  the frames that it is made of lie between them
    measured_hz      loop rate, without its stalls; None if it is too short to tell
    recorded_s       how long it took, stalls and all
    dataset_s        how long it takes in the dataset
    stalls           the first MAX_STALLS
    slow             the first MAX_STALLS stretches, of two seconds or more, in which the loop was slower than
                     the dataset by more than a twentieth
    shared_times     of so many frames the time is that of another one, too: they count as evenly spread
    """

    episode_index: int | None
    first_frame: int
    end_frame: int
    measured_hz: float | None
    recorded_s: float
    dataset_s: float
    stalls: list[StallTime] = []
    slow: list[SlowTime] = []
    shared_times: int = 0


class NotRecorded(Struct, frozen=True):
    """A feature that the robot or the dataset of the recording command had, and that the session has not, or
    has otherwise: no export can have it."""

    name: str
    reason: str


class SessionReport(Struct, frozen=True, kw_only=True):
    """What became of one session: committed = exported + the frames of `excluded`.

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


class EncodedEpisode(Struct, frozen=True, kw_only=True):
    """An episode of the dataset whose video had to be re-encoded, and why."""

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


def told_time(piece: Piece, chosen: Chosen, index: Integers, *, fps: int) -> EpisodeTime:
    """How `piece` plays in a dataset of `fps` rows per second.

    chosen  of its samples with this `index`
    """
    return EpisodeTime(
        episode_index=piece.episode_index,
        first_frame=piece.first,
        end_frame=piece.end,
        measured_hz=chosen.pace.hz,
        recorded_s=chosen.recorded_us / US_PER_S,
        dataset_s=len(chosen.positions) / fps,
        stalls=[
            StallTime(
                after_frame=int(index[stall.before]),
                next_frame=int(index[stall.after]),
                seconds=stall.us / US_PER_S,
            )
            for stall in chosen.stalls[:MAX_STALLS]
        ],
        slow=[
            SlowTime(
                first_frame=int(index[each.first]), last_frame=int(index[each.last]), measured_hz=each.hz
            )
            for each in chosen.slow[:MAX_STALLS]
        ],
        shared_times=chosen.shared,
    )


def _worth_telling(time: EpisodeTime, declared_fps: float | None, fps: int) -> bool:
    if declared_fps and not declared_fps.is_integer():
        return True
    off = time.measured_hz is not None and declared_fps and abs(time.measured_hz / declared_fps - 1) > SLOWER
    named = time.stalls or time.slow or time.shared_times
    return bool(off or named or abs(time.recorded_s - time.dataset_s) > 1 / fps)


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
    )


def told_not_recorded(session: Session) -> list[NotRecorded]:
    """What a report says of it."""
    return [NotRecorded(name, reason) for name, reason in session.not_recorded.items()]


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
    sessions = []
    for session in planned.sessions:
        left_out = [
            Excluded(
                reason=reason,
                episode_index=piece.episode_index,
                first_frame=piece.first,
                end_frame=piece.end,
                frames=frames,
            )
            for piece, count in zip(pieces, rows, strict=True)
            if piece.session_id == session.session_id
            for reason, frames in (
                *piece.left_out,
                (
                    f"the loop was faster than the {fps} rows per second of the dataset",
                    piece.frames - sum(frames for _, frames in piece.left_out) - count,
                ),
            )
            if frames
        ]
        frames = sum(each.frames for each in left_out)
        sessions.append(
            structs.replace(
                session,
                exported=session.exported - frames,
                excluded=[*session.excluded, *left_out],
                times=[
                    time
                    for piece, time in zip(pieces, times, strict=True)
                    if piece.session_id == session.session_id
                    and _worth_telling(time, session.declared_fps, fps)
                ],
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
