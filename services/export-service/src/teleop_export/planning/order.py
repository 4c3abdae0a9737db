"""The order for a worker: everything is decided, only the frames must still be read. Pure."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct, structs
from teleop_dataset.v3.info import VideoFeature
from teleop_dataset.v3.layout import LEROBOTS_LIMITS, ONE_FILE, FileLimits
from teleop_schema.columns import Column
from teleop_schema.errors import BadInput
from teleop_schema.identifiers import check_repo_id
from teleop_schema.session import FeatureName

from teleop_export.errors import FramesUnaccounted, SessionUnfinished
from teleop_export.planning.added_columns import bytes_of, choose_columns
from teleop_export.planning.plan import OnGap, Piece, Plan, make_plan
from teleop_export.planning.push import PushRequest, check_push
from teleop_export.planning.report import Report, make_report
from teleop_export.planning.selection import SessionFilter, check_filter
from teleop_export.planning.splits import Split, check_split, split_pieces
from teleop_export.sessions.finite import OnNotFinite
from teleop_export.sessions.recorded import UNNAMED, Session
from teleop_export.sessions.spans import ALL_LABELS, Label
from teleop_export.timing.pace import Which

# Their plan is held in memory; more of them are several exports.
MAX_SESSIONS = 1000
MAX_ID = 2**63 - 1
# Far above any control loop; it keeps arithmetic in microseconds exact.
MAX_FPS = 10_000
# Far above any robot; each has a track, a thread and a file open.
MAX_CAMERAS = 64

# Raised whenever the same order would be written differently, so that nobody gets an older writer's export.
WRITER_VERSION = 9

VALUE_BYTES = 4
# Of a row: index, episode, frame, task and time, each once, before they are compressed.
NUMBERING_BYTES = 48
# Its row with all statistics.
EPISODE_BYTES = 8192

LEROBOT: Final = "lerobot-v3.0"
Format = Literal["lerobot-v3.0", "parquet", "mcap"]

SessionId = Annotated[int, Meta(ge=1, le=MAX_ID)]
SessionIds = Annotated[tuple[SessionId, ...], Meta(min_length=1, max_length=MAX_SESSIONS)]


class ExportRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a client may ask for.

    session_ids           merged into one dataset in this order; they must agree in robot_type, fps and names
    filter                instead of session_ids: all sessions that pass it now, oldest first; those still
                          being recorded only with include_unfinished
    repo_id               name of the dataset, user/name
    format                a LeRobot dataset; or the sessions as they were recorded, one by one, of any robots:
                          "parquet" tables, or "mcap" files of joints and video
    on_gap                an episode that lacks frames is split there, or the export is refused
    on_not_finite         frames that hold a value which is NaN or infinite are cut out ("split"; pieces
                          shorter than a second, too; an episode that would lose more than 5 % is refused),
                          kept as they are (statistics are those of the finite values), or refused; values
                          of columns that a command added are only ever kept or, with "refuse", refused
    include_outcomes      episodes to export by their outcome, by default all; discarded ones never are
    include_unfinished    take a session that is still being recorded, or whose video has not all arrived, as
                          it is now
    include_incomplete    take a session although nobody knows what became of some of its frames
    include_capture_time  add the column `capture.time_ns`; without it, the features are those that
                          lerobot-record gives to such a robot, which merging with its datasets needs;
                          with video or a lower rate, also columns that tell how old pictures and samples are
    include_repeated      make rows, too, of frames that repeat the observation of an earlier one beside a
                          newer action; with capture times a column then tells how old it was
    fps                   rows per second; by default the rate of the fastest camera if that is lower than the
                          sessions', else theirs: as declared, or as measured if all were slower. Samples are
                          left out for it, and pictures repeated
    cameras               whose video to export; by default all that have any; [] exports the joints alone
    split                 share of the episodes by name, for example {"train": 0.9, "val": 0.1}: ranges in
                          info.json of episodes drawn at random, always the same ones for a `split_seed`
    streaming_safe        one file of rows and one of video per camera, whatever their size, as
                          StreamingLeRobotDataset needs them; of more than 17 minutes, LeRobotDataset finds
                          all pictures only with a tolerance_s of 1e-3, of more than four hours of 4e-3
    push_to_hub           push the finished dataset to the Hub; `push` of the export tells how far that is
    """

    repo_id: str
    session_ids: SessionIds | None = None
    filter: SessionFilter | None = None
    format: Format = LEROBOT
    on_gap: OnGap = "split"
    on_not_finite: OnNotFinite = "split"
    include_outcomes: frozenset[Label] | None = None
    include_unfinished: bool = False
    include_incomplete: bool = False
    include_capture_time: bool = True
    include_repeated: bool = False
    fps: Annotated[int, Meta(ge=1, le=MAX_FPS)] | None = None
    cameras: Annotated[tuple[FeatureName, ...], Meta(max_length=MAX_CAMERAS)] | None = None
    split: Split | None = None
    split_seed: Annotated[int, Meta(ge=0, le=MAX_ID)] = 0
    streaming_safe: bool = False
    push_to_hub: PushRequest | None = None


class Source(Struct, frozen=True, kw_only=True):
    """What the pieces of one session are made of.

    fps       the loop rate, as it was measured
    chunks    of each of the order's cameras, in their order: its video chunks that can be used
    pictures  of each camera: how many these hold
    columns   all that the session has beyond state and action
    """

    session_id: int
    fps: float
    chunks: tuple[tuple[int, ...], ...]
    pictures: tuple[int, ...]
    columns: tuple[Column, ...] = ()


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
    def limits(self) -> FileLimits:
        return ONE_FILE if self.streaming_safe else LEROBOTS_LIMITS

    @property
    def frames(self) -> int:
        return self.report.exported

    @property
    def size_bytes(self) -> int:
        """About what the dataset takes on disk, rather more than less."""
        values = len(self.state_names) + len(self.action_names)
        row_bytes = values * VALUE_BYTES + NUMBERING_BYTES + bytes_of(self.columns)
        return self.frames * row_bytes + len(self.pieces) * EPISODE_BYTES + self.video_bytes


def rows_of(request: ExportRequest) -> Which:
    """Which frames of its sessions become rows, if their episodes do."""
    return Which(repeated=request.include_repeated, unacted=request.on_not_finite == "keep")


def check_request(request: ExportRequest) -> None:
    """Raise BadInput for a repo_id or a choice of sessions that no export can have."""
    check_repo_id(request.repo_id)
    if (request.session_ids is None) == (request.filter is None):
        raise BadInput(
            "choose sessions with either `session_ids` or `filter`, and only one of them",
            field="session_ids",
        )
    if request.filter is not None:
        check_filter(request.filter)
    twice = [each for each, count in Counter(request.session_ids or ()).items() if count > 1]
    if twice:
        raise BadInput(f"session {min(twice)} appears twice", field="session_ids")
    if request.split is not None:
        check_split(request.split)
    if request.push_to_hub is not None:
        check_push(request.push_to_hub)
    if request.cameras and len(set(request.cameras)) < len(request.cameras):
        raise BadInput("a camera appears twice", field="cameras")
    if not _labels(request):
        raise BadInput("no episode can have both outcomes", field="include_outcomes")


def check_unfinished(request: ExportRequest, sessions: Sequence[Session]) -> None:
    """Raise SessionUnfinished for a session that is still being recorded, unless that was asked for."""
    for session in sessions:
        if session.status == "recording" and not request.include_unfinished:
            raise SessionUnfinished(
                f"session {session.id} is still being recorded",
                field="session_ids",
                hint='end it first, or set `"include_unfinished": true` to export what has been committed',
            )


def check_accounted(request: ExportRequest, sessions: Sequence[Session]) -> None:
    """Raise FramesUnaccounted for a session with frames that may still turn up, unless that was asked for."""
    for session in sessions:
        lost = [gap for gap in session.gaps if gap.reason == UNNAMED]
        if lost and not request.include_incomplete:
            raise FramesUnaccounted(
                f"{sum(gap.end - gap.first for gap in lost)} frames of session {session.id} are "
                f"unaccounted for, the first is {lost[0].first}",
                field="session_ids",
                hint=f"ask again later; POST /sessions/{session.id}/give-up-missing records them as "
                'gaps, `"include_incomplete": true` exports the rest',
            )


def make_order(request: ExportRequest, sessions: Sequence[Session]) -> Order:
    """What `request` means for `sessions`, which are the ones it names, in its order.

    Raises SessionUnfinished, FramesUnaccounted, and what make_plan raises.
    """
    check_unfinished(request, sessions)
    check_accounted(request, sessions)
    plan = make_plan(
        sessions,
        labels=_labels(request),
        task=None if request.filter is None else request.filter.task,
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


def _labels(request: ExportRequest) -> frozenset[Label]:
    """The outcomes to export."""
    outcome = None if request.filter is None else request.filter.outcome
    wanted = ALL_LABELS if request.include_outcomes is None else request.include_outcomes
    return wanted & ({outcome} if outcome else ALL_LABELS)


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
    essence = structs.replace(request, session_ids=None, filter=None, push_to_hub=None)
    content = msgspec.json.encode((WRITER_VERSION, essence, order), order="deterministic")
    return hashlib.sha256(content).hexdigest()


def provenance(order: Order, report: Report) -> dict[str, Any]:
    """`meta/backend.json`: which recorded frames each episode is. LeRobot ignores the file."""
    return {
        "made_by": "lerobot-backend export-service",
        "episodes": [
            {
                "episode_index": number,
                "session_id": piece.session_id,
                "recorded_episode": piece.episode_index,
                "first_frame": piece.first,
                "end_frame": piece.end,
                "pauses": piece.pauses,
            }
            for number, piece in enumerate(order.pieces)
        ],
        "report": msgspec.to_builtins(report),
    }
