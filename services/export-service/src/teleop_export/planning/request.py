"""What a client may ask for, and what can be said about that without looking at frames. Pure."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct
from teleop_schema.errors import BadInput
from teleop_schema.identifiers import MAX_ID, check_repo_id
from teleop_schema.session import FeatureName
from teleop_schema.words import counted

from teleop_export.errors import FramesUnaccounted, SessionUnfinished
from teleop_export.planning.pieces import OnGap
from teleop_export.planning.push import PushRequest, check_push
from teleop_export.planning.selection import (
    ChosenEpisode,
    SessionFilter,
    SessionId,
    check_episodes,
    check_filter,
    sessions_of,
)
from teleop_export.planning.splits import Split, check_split
from teleop_export.sessions.finite import OnNotFinite
from teleop_export.sessions.recorded import ALL_LABELS, UNNAMED, Label, Session
from teleop_export.sessions.spans import Choice
from teleop_export.timing.loop_times import Which

# Their plan is held in memory; more of them are several exports.
MAX_SESSIONS = 1000
# Chosen one by one: they fit into the body of a request.
MAX_EPISODES = 20_000
# Far above any control loop; it keeps arithmetic in microseconds exact.
MAX_FPS = 10_000
# Far above any robot; each has a track, a thread and a file open.
MAX_CAMERAS = 64

LEROBOT: Final = "lerobot-v3.0"
Format = Literal["lerobot-v3.0", "parquet", "mcap"]

# Fields of a request that choose episodes.
CHOOSING = ("session_ids", "filter", "episodes")
SessionIds = Annotated[tuple[SessionId, ...], Meta(min_length=1, max_length=MAX_SESSIONS)]


class ExportRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a client may ask for.

    session_ids           merged into one dataset in this order; they must agree in robot_type, fps and names
    filter                all episodes that pass it now, of `session_ids`, or else of all sessions, oldest
                          first; of those still being recorded only with include_unfinished. Sessions without
                          any such episode are left out
    episodes              instead of both: exactly these episodes
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
    include_labels        add columns to meta/episodes that tell what is known of each episode: outcome,
                          reason, quality, tags, operator, robot, session, measured rate; LeRobot's
                          `episode_filter` sees them
    include_repeated      make rows, too, of frames that repeat the observation of an earlier one beside a
                          newer action; with capture times a column then tells how old it was
    fps                   rows per second; by default the rate of the fastest camera if that is lower than the
                          sessions', else theirs: as declared, or as measured if all were slower. Samples are
                          left out for it, and pictures repeated
    cameras               whose video to export; by default all that have any; [] exports the joints alone
    split                 share of the episodes by name, for example {"train": 0.9, "val": 0.1}: ranges in
                          info.json of episodes drawn at random, always the same ones for a `split_seed`
    split_seed            for that drawing
    streaming_safe        one file of rows and one of video per camera, whatever their size, as
                          StreamingLeRobotDataset needs them; of more than 17 minutes, LeRobotDataset finds
                          all pictures only with a tolerance_s of 1e-3, of more than four hours of 4e-3
    push_to_hub           push the finished dataset to the Hub; `push` of the export tells how far that is
    """

    repo_id: str
    session_ids: SessionIds | None = None
    filter: SessionFilter | None = None
    episodes: Annotated[tuple[ChosenEpisode, ...], Meta(min_length=1, max_length=MAX_EPISODES)] | None = None
    format: Format = LEROBOT
    on_gap: OnGap = "split"
    on_not_finite: OnNotFinite = "split"
    include_outcomes: frozenset[Label] | None = None
    include_unfinished: bool = False
    include_incomplete: bool = False
    include_capture_time: bool = True
    include_labels: bool = True
    include_repeated: bool = False
    fps: Annotated[int, Meta(ge=1, le=MAX_FPS)] | None = None
    cameras: Annotated[tuple[FeatureName, ...], Meta(max_length=MAX_CAMERAS)] | None = None
    split: Split | None = None
    split_seed: Annotated[int, Meta(ge=0, le=MAX_ID)] = 0
    streaming_safe: bool = False
    push_to_hub: PushRequest | None = None


def rows_of(request: ExportRequest) -> Which:
    """Which frames of its sessions become rows, if their episodes do."""
    return Which(repeated=request.include_repeated, unacted=request.on_not_finite == "keep")


def check_request(request: ExportRequest) -> None:
    """Raise BadInput for a repo_id or a choice of sessions that no export can have."""
    check_repo_id(request.repo_id)
    named = [each for each in CHOOSING if getattr(request, each) is not None]
    if not named or ("episodes" in named and len(named) > 1):
        raise BadInput(
            "choose episodes with `session_ids`, `filter` or both, or one by one with `episodes`",
            field=named[0] if named else "session_ids",
        )
    if request.filter is not None:
        check_filter(request.filter)
    if request.episodes is not None:
        check_episodes(request.episodes)
        if len(sessions_of(request.episodes)) > MAX_SESSIONS:
            raise BadInput(
                "the episodes are of too many sessions",
                field="episodes",
                limit=MAX_SESSIONS,
                hint="export them in parts",
            )
    twice = [each for each, count in Counter(request.session_ids or ()).items() if count > 1]
    if twice:
        raise BadInput(f"session {min(twice)} appears twice", field="session_ids")
    if request.split is not None:
        check_split(request.split)
    if request.push_to_hub is not None:
        check_push(request.push_to_hub)
    if request.cameras and len(set(request.cameras)) < len(request.cameras):
        raise BadInput("a camera appears twice", field="cameras")
    if not choice_of(request).outcomes:
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
            frames = sum(gap.end - gap.first for gap in lost)
            raise FramesUnaccounted(
                f"session {session.id} has {counted(frames, 'frame')} unaccounted for, the first is "
                f"{lost[0].first}",
                field="session_ids",
                hint=f"ask again later; POST /sessions/{session.id}/give-up-missing records them as "
                'gaps, `"include_incomplete": true` exports the rest',
            )


def choice_of(request: ExportRequest) -> Choice:
    """The episodes to export."""
    outcomes = ALL_LABELS if request.include_outcomes is None else request.include_outcomes
    if request.episodes is not None:
        return Choice(
            outcomes, episodes=frozenset((each.session_id, each.episode_index) for each in request.episodes)
        )
    if request.filter is None:
        return Choice(outcomes)
    chosen = request.filter
    return Choice(
        outcomes & ({chosen.outcome} if chosen.outcome else ALL_LABELS),
        task=chosen.task,
        operator=chosen.operator,
        reason=chosen.reason,
        tag=chosen.tag,
        min_quality=chosen.min_quality,
    )
