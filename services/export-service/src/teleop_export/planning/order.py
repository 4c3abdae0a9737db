"""The order for a worker: everything is decided, only the frames must still be read. Pure."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct, structs
from teleop_dataset.v3.info import VideoFeature
from teleop_dataset.v3.layout import LEROBOTS_LIMITS, ONE_FILE, FileLimits
from teleop_schema.columns import Column

from teleop_export.errors import NothingToExport
from teleop_export.planning.added_columns import choose_columns
from teleop_export.planning.pieces import Piece, Plan, Source, bytes_of
from teleop_export.planning.plan import make_plan
from teleop_export.planning.report import Report, make_report
from teleop_export.planning.request import (
    ExportRequest,
    check_accounted,
    check_unfinished,
    choice_of,
)
from teleop_export.planning.splits import split_pieces
from teleop_export.planning.stages import Status
from teleop_export.sessions.recorded import Session
from teleop_export.sessions.spans import check_chosen, spans_of
from teleop_export.timing.loop_times import Which

# Raised whenever the same order would be written differently, so that nobody gets an older writer's export.
WRITER_VERSION = 10

# float32.
VALUE_BYTES = 4
# Of a row: index, episode, frame, task and time, each once, before they are compressed.
NUMBERING_BYTES = 48
# Its row with all statistics.
EPISODE_BYTES = 8192


class Order(Struct, frozen=True, kw_only=True, tag="dataset", tag_field="kind"):
    """A dataset to be made of `pieces`; `report` accounts for all frames of their sessions.

    sources      of each session
    video_bytes  about what the video takes on disk
    keep_not_finite
                 values of joints may be NaN or infinite
    refuse_not_finite
                 no value may, those of added columns neither
    columns      beyond state and action, that the dataset has; their positions are each session's own
    repeated     frames that repeat an earlier observation become rows, too
    splits       name, first of the pieces and the one after the last of each split, in order; (): all of them
                 are one
    """

    robot_type: str
    fps: int
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    capture_time: bool
    cameras: tuple[VideoFeature, ...]
    sources: tuple[Source, ...]
    video_bytes: int
    pieces: tuple[Piece, ...]
    report: Report
    splits: tuple[tuple[str, int, int], ...] = ()
    streaming_safe: bool = False
    repeated: bool = False
    keep_not_finite: bool = False
    refuse_not_finite: bool = False
    columns: tuple[Column, ...] = ()

    @property
    def which(self) -> Which:
        """Which frames of its pieces become rows."""
        return Which(repeated=self.repeated, unacted=self.keep_not_finite)

    @property
    def labelled(self) -> bool:
        """Whether what is known of the episodes leaves with them."""
        return any(piece.labels is not None for piece in self.pieces)

    @property
    def limits(self) -> FileLimits:
        """When another file begins."""
        return ONE_FILE if self.streaming_safe else LEROBOTS_LIMITS

    @property
    def frames(self) -> int:
        """How many frames become rows."""
        return self.report.exported

    @property
    def size_bytes(self) -> int:
        """About what the dataset takes on disk, rather more than less."""
        values = len(self.state_names) + len(self.action_names)
        row_bytes = values * VALUE_BYTES + NUMBERING_BYTES + bytes_of(self.columns)
        return self.frames * row_bytes + len(self.pieces) * EPISODE_BYTES + self.video_bytes


@dataclass(frozen=True)
class ComparedExport:
    """A dataset as far as it is compared."""

    id: int
    repo_id: str
    status: Status
    order: Order
    report: Report


def make_order(request: ExportRequest, sessions: Sequence[Session]) -> Order:
    """What `request` means for `sessions`, which are the ones it names, in its order.

    Of those that a filter was for, it leaves out the ones without any episode that passes.
    Raises EpisodeNotFound, EpisodeDiscarded, NothingToExport, SessionUnfinished, FramesUnaccounted, and what
    make_plan raises.
    """
    sessions = _chosen(request, sessions)
    check_unfinished(request, sessions)
    check_accounted(request, sessions)
    plan = make_plan(
        sessions,
        choice=choice_of(request),
        labelled=request.include_labels,
        on_gap=request.on_gap,
        on_not_finite=request.on_not_finite,
        fps=request.fps,
        cameras=request.cameras,
        video_unfinished=request.include_unfinished,
    )
    pieces, splits = split_pieces(plan.pieces, request.split or {}, request.split_seed)
    like, chosen = sessions[0], choose_columns(sessions, plan.pieces)
    return Order(
        robot_type=like.robot_type,
        fps=plan.fps,
        state_names=like.state_names,
        action_names=like.action_names,
        capture_time=request.include_capture_time,
        cameras=plan.cameras,
        sources=tuple(_source(session, plan.cameras) for session in sessions),
        video_bytes=_video_bytes(sessions, plan),
        pieces=pieces,
        splits=tuple((name, first, end) for name, (first, end) in splits.items()),
        streaming_safe=request.streaming_safe,
        repeated=request.include_repeated,
        keep_not_finite=request.on_not_finite == "keep",
        refuse_not_finite=request.on_not_finite == "refuse",
        columns=chosen.columns,
        report=make_report(sessions, plan, chosen),
    )


def _chosen(request: ExportRequest, sessions: Sequence[Session]) -> Sequence[Session]:
    choice = choice_of(request)
    check_chosen(choice, sessions)
    if request.filter is None:
        return sessions
    passing = [each for each in sessions if any(span.reason is None for span in spans_of(each, choice))]
    if not passing:
        raise NothingToExport(
            "no episode with frames passes the filter",
            field="filter",
            hint="leave a part of it out; GET /episodes with the same names lists what it finds",
        )
    return passing


def _source(session: Session, cameras: Sequence[VideoFeature]) -> Source:
    footage = [session.footage[camera.name] for camera in cameras]
    return Source(
        session_id=session.id,
        fps=session.loop_hz,
        chunks=tuple(each.chunks for each in footage),
        pictures=tuple(each.pictures for each in footage),
        columns=session.columns,
    )


def _video_bytes(sessions: Sequence[Session], plan: Plan) -> int:
    """As many pictures as there are rows, each as large as the recorded ones are on average."""
    found = 0.0
    for session in sessions:
        frames = sum(piece.frames for piece in plan.pieces if piece.session_id == session.id)
        for camera in plan.cameras:
            footage = session.footage[camera.name]
            found += frames * min(1.0, plan.fps / session.loop_hz) * footage.size_bytes / footage.pictures
    return int(found)


def fingerprint(request: ExportRequest, order: Struct) -> str:
    """Equal for requests that ask the same of sessions that hold the same: SHA-256, hexadecimal.

    A push makes no difference: it is about what becomes of the dataset, not about what it is. Nor does it
    make one how the sessions were chosen.
    """
    essence = structs.replace(request, session_ids=None, filter=None, episodes=None, push_to_hub=None)
    content = msgspec.json.encode((WRITER_VERSION, essence, order), order="deterministic")
    return hashlib.sha256(content).hexdigest()


def lineage(piece: Piece) -> dict[str, Any]:
    """What an episode of a dataset was made of, and what was known of it."""
    return {
        "session_id": piece.session_id,
        "recorded_episode": piece.episode_index,
        "first_frame": piece.first,
        "end_frame": piece.end,
        "pauses": piece.pauses,
        **({} if piece.labels is None else {"labels": msgspec.to_builtins(piece.labels)}),
    }


def provenance(order: Order, report: Report, name: str) -> dict[str, Any]:
    """`meta/backend.json`: which recorded frames each episode is. LeRobot ignores the file.

    name  fingerprint of the export
    """
    return {
        "made_by": "lerobot-backend export-service",
        "fingerprint": name,
        "episodes": [
            {"episode_index": number, **lineage(piece)} for number, piece in enumerate(order.pieces)
        ],
        "report": msgspec.to_builtins(report),
    }
