"""The order for a worker that exports a recording as it is, and not as a LeRobot dataset. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from msgspec import Struct
from teleop_schema.errors import BadInput

from teleop_export.errors import CameraMissing, NothingToExport
from teleop_export.planning.pieces import Piece, bytes_of, frames_at_once
from teleop_export.planning.plan import stored_runs
from teleop_export.planning.raw_session import RawSession
from teleop_export.planning.report import (
    MissingFrames,
    Report,
    SessionReport,
    told_cut_off,
    told_not_recorded,
)
from teleop_export.planning.request import LEROBOT, ExportRequest, check_accounted, check_unfinished
from teleop_export.sessions.recorded import CameraVideo, Session
from teleop_export.sessions.spans import DEFAULT_TASK

RawFormat = Literal["parquet", "mcap"]

# float32.
VALUE_BYTES = 4
# A row's index and times, or a message's head.
FRAME_BYTES = 40
# A frame as JSON, on two topics.
MESSAGE_BYTES, JSON_VALUE_BYTES = 120, 40


class RawOrder(Struct, frozen=True, kw_only=True, tag="raw", tag_field="kind"):
    """Sessions to be written one by one; `report` accounts for all of their frames."""

    format: RawFormat
    sessions: tuple[RawSession, ...]
    report: Report

    @property
    def size_bytes(self) -> int:
        """About what it takes on disk, rather more than less."""
        return sum(self._size(session) for session in self.sessions)

    def _size(self, session: RawSession) -> int:
        values = len(session.state_names) + len(session.action_names)
        added_bytes = bytes_of(session.columns)
        if self.format == "parquet":
            return session.committed * (FRAME_BYTES + VALUE_BYTES * values + added_bytes)
        video_bytes = sum(footage.size_bytes for footage in session.footage.values())
        frame_bytes = MESSAGE_BYTES * (1 + len(session.columns)) + JSON_VALUE_BYTES * values + added_bytes
        return session.committed * frame_bytes + video_bytes


def make_raw_order(request: ExportRequest, sessions: Sequence[Session]) -> RawOrder:
    """What `request` means for `sessions`, which are the ones it names, in its order.

    Raises BadInput for what has a meaning for datasets only, SessionUnfinished,
    FramesUnaccounted, NothingToExport.
    """
    _check(request)
    check_unfinished(request, sessions)
    check_accounted(request, sessions)
    if not any(session.committed for session in sessions):
        raise NothingToExport("the sessions have no frames to export", field="session_ids")
    assert request.format != LEROBOT  # noqa: S101
    raw = tuple(_raw(session, request) for session in sessions)
    return RawOrder(
        format=request.format,
        sessions=raw,
        report=Report(
            committed=sum(session.committed for session in sessions),
            excluded=0,
            exported=sum(session.committed for session in sessions),
            sessions=[
                _report(session, written.footage) for session, written in zip(sessions, raw, strict=True)
            ],
        ),
    )


def _check(request: ExportRequest) -> None:
    given = {
        "on_gap": request.on_gap != "split",
        "on_not_finite": request.on_not_finite != "split",
        "include_outcomes": request.include_outcomes is not None,
        "include_capture_time": not request.include_capture_time,
        "include_labels": not request.include_labels,
        "fps": request.fps is not None,
        "cameras": request.format == "parquet" and bool(request.cameras),
        "split": request.split is not None,
        "streaming_safe": request.streaming_safe,
        "push_to_hub": request.push_to_hub is not None,
        "episodes": request.episodes is not None,
    }
    if request.filter is not None:
        chosen = request.filter
        given |= {
            f"filter.{name}": getattr(chosen, name) is not None
            for name in ("operator", "reason", "tag", "min_quality")
        }
    for name, is_given in given.items():
        if is_given:
            raise BadInput(
                f"`{name}` applies to datasets only; {request.format} exports sessions as they were recorded",
                field=name,
                hint=f'leave it out, or set `"format": "{LEROBOT}"`',
            )


def _raw(session: Session, request: ExportRequest) -> RawSession:
    return RawSession(
        session_id=session.id,
        robot_id=session.robot_id,
        robot_type=session.robot_type,
        fps=session.fps,
        task=session.task,
        state_names=session.state_names,
        action_names=session.action_names,
        committed=session.committed,
        pieces=tuple(_pieces(session)),
        episodes=session.episodes,
        gaps=session.gaps,
        footage=_footage(session, request) if request.format == "mcap" else {},
        columns=session.columns,
        pauses=session.pauses.spans,
    )


def _footage(session: Session, request: ExportRequest) -> dict[str, CameraVideo]:
    """Of the cameras asked for, by default all."""
    wanted = session.footage if request.cameras is None else request.cameras
    missing = [camera for camera in wanted if camera not in session.footage]
    if missing:
        raise CameraMissing(
            f"session {session.id} has no video of camera {missing[0]}",
            field="cameras",
            hint=f"it has video from: {', '.join(session.footage) or 'none'}",
        )
    return {camera: replace(session.footage[camera], gaps=()) for camera in wanted}


def _pieces(session: Session) -> Iterator[Piece]:
    most = frames_at_once(bytes_of(session.columns))
    for first, end in stored_runs(session.gaps, 0, session.watermark):
        for begin in range(first, end, most):
            stop = min(begin + most, end)
            yield Piece(session.id, begin, stop, session.task or DEFAULT_TASK, None)


def _report(session: Session, written: Mapping[str, CameraVideo]) -> SessionReport:
    return SessionReport(
        session_id=session.id,
        committed=session.committed,
        exported=session.committed,
        episodes=len(session.episodes),
        excluded=[],
        gaps=[
            MissingFrames(reason=gap.reason, episode_index=None, first_frame=gap.first, end_frame=gap.end)
            for gap in session.gaps
        ],
        not_recorded=told_not_recorded(session),
        times_not_told=session.times_not_told,
        implausible=session.implausible,
        refused=session.refused,
        pictures_left_out=sorted({*session.cameras, *session.footage} - set(written)),
        cut_off=told_cut_off(session, {row.index for row in session.episodes}),
    )
