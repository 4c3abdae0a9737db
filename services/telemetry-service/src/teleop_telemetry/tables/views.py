"""What the reading endpoints answer."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from teleop_schema.columns import Column
from teleop_schema.messages import Index
from teleop_schema.plain import Value
from teleop_schema.session import Operator, Text

# They are shown side by side.
MAX_TAGS = 100
# Of an episode; a reviewer reads them at a glance.
MAX_EPISODE_TAGS = 50
Tag = Annotated[str, Meta(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]
# Of one episode: a command that adds every third step to its dataset pauses at each.
MAX_PAUSES = 100

Outcome = Literal["success", "failure", "discarded"]
Status = Literal["recording", "complete", "interrupted"]


class RobotView(Struct, kw_only=True):
    """One robot.

    first_seen_at, last_seen_at
                when its first and its newest session began
    online      whether frames of it were committed in the last 15 s
    session_id  its newest session
    rate_hz     measured over its newest frames
    lag_s       age of its newest committed frame while it is online
    clashing_sessions
                sessions that two computers have recorded under this name at the same time, within the last
                week: give each a robot_id of its own; empty: there are none
    clashed_at  when they last did
    """

    robot_id: str
    robot_type: str
    first_seen_at: datetime
    last_seen_at: datetime
    online: bool
    session_id: int | None
    rate_hz: float | None
    lag_s: float | None
    clashing_sessions: list[int]
    clashed_at: datetime | None


class ImportedFrom(Struct, kw_only=True):
    """The backed-up dataset that a session was made of.

    dataset  its name; its robot is that of the session
    version  the newest that the session has all of
    clock    recorded: the dataset tells when its frames were taken; unknown: it does not, so the session's
             times only tell how far apart they were, from the moment on at which somebody imported it
    """

    dataset: str
    version: int
    clock: Literal["recorded", "unknown"]


class SessionView(Struct, kw_only=True):
    """One session; frames = its watermark: every frame below it is committed or a named gap. If it was found
    (`found_at`), as many as its robot logged.

    delivery     acknowledged: what its robot has recorded comes, or is named as missing; best_effort: what
                 never arrived, nobody knows of
    logged       frames the robot says it logged; null: it has not said so
    episodes     how many there are
    operator     who drove; null: nobody has said
    archived_at  when its frames left the database for the archive; null: they are in the database
    archive_damage
                 what is wrong with its frames in the archive, which are lost unless the archive's files come
                 back or its robot sends them again; null: nothing that anybody knows of
    found_at     when a new database, in place of one that was lost, learned of it from the store alone, or
                 since when it is recorded again in place of frames that the archive has lost: its frames are
                 those that a robot has brought since; null: it was recorded with this database
    imported_from
                 the dataset that it was made of; null: it was recorded live
    """

    id: int
    robot_id: str
    robot_type: str
    status: Status
    delivery: Literal["acknowledged", "best_effort"]
    start_time: datetime
    end_time: datetime | None
    fps: float
    task: str | None
    frames: int
    logged: int | None
    missing: int
    episodes: int
    tags: list[str]
    note: str | None
    operator: str | None
    archived_at: datetime | None
    archive_damage: str | None
    found_at: datetime | None
    imported_from: ImportedFrom | None


class TaskView(Struct, kw_only=True):
    """The task of an episode's frames from first_frame on; null: that of the session."""

    first_frame: int
    task: str | None


class PauseView(Struct, kw_only=True):
    """Frames first_frame to end_frame - 1."""

    first_frame: int
    end_frame: int


class EpisodeView(Struct, kw_only=True):
    """One episode, frames start_frame to end_frame - 1; end_frame is null while it is being recorded.

    task    of its first frame
    tasks   one after the other, at least that one
    pauses  frames within it that do not belong to it, for LeRobot's dataset did not take them: the first
            MAX_PAUSES
    pause_count, paused_frames
            of all of them
    paused_from
            while it is being recorded: from this frame on none belongs to it so far, and if no other follows
            that does, it ended there; null: the latest frame belongs to it
    cut_off
            its recorder died, or was given up, before it told the end: LeRobot has not saved it
    outcome
            as its robot told, or as somebody has judged since; null: nobody has said
    reason  why it is that, a name of GET /outcome-reasons
    quality
            1 (poor) to 5 (as it should be)
    tags    of the episode; its session has others
    operator
            who drove, as told of the episode, or else of its session
    revision
            how often it was changed: by people, and by its robot, which tells a task, an outcome or a note
    """

    episode_index: int
    start_frame: int
    end_frame: int | None
    task: str | None
    tasks: list[TaskView]
    pauses: list[PauseView]
    pause_count: int
    paused_frames: int
    paused_from: int | None
    cut_off: bool
    outcome: Outcome | None
    reason: str | None
    quality: int | None
    note: str | None
    tags: list[str]
    operator: str | None
    revision: int


class GapView(Struct, kw_only=True):
    """Frames first_frame to end_frame - 1 are missing, and why."""

    first_frame: int
    end_frame: int
    reason: str


class RefusalView(Struct, kw_only=True):
    """Frames of plain messages that could not be taken, and why; field is "" where none can be named."""

    field: str
    reason: str
    frames: int


class MarkView(Struct, kw_only=True):
    """A moment that somebody marked."""

    frame_index: int
    note: str


class SessionDetail(SessionView, kw_only=True):
    """One session with all that belongs to it but its frames.

    state_names, action_names
             names of a frame's values, in their order
    cameras  as the robot has described them, by name
    host     where it was recorded, as the robot has described it
    episode_list
             its episodes
    marks    moments that somebody marked
    columns  that some of its frames have beyond state and action, for example "next.reward"
    """

    stream_id: str
    state_names: list[str]
    action_names: list[str]
    cameras: dict[str, Any]
    host: dict[str, Any]
    columns: list[Column]
    episode_list: list[EpisodeView]
    marks: list[MarkView]


class FrameView(Struct, kw_only=True):
    """One frame.

    frame_index         its index in the session, from 0
    timestamp           when it was taken, robot's clock
    observation, action  values by name, as the robot names them; NaN is null, an infinity a text
    observation_age_us  how much older than the frame its observation is, us, if it repeats that of an earlier
                        frame
    extra               what the robot sent beyond its names
    columns             values of the session's columns, by their names
    """

    frame_index: int
    timestamp: datetime
    observation: dict[str, Value]
    action: dict[str, Value]
    observation_age_us: int | UnsetType = UNSET
    extra: dict[str, Any] | UnsetType = UNSET
    columns: dict[str, Any] | UnsetType = UNSET


class Frames(Struct, kw_only=True):
    """Frames of a session, ascending."""

    frames: list[FrameView]


class SessionPage(Struct, kw_only=True):
    """Sessions, newest first; `next_cursor` asks for the following page.

    sessions  of this page
    """

    sessions: list[SessionView]
    next_cursor: int | None


class SessionChange(Struct, forbid_unknown_fields=True):
    """What a person may change of a session; what is left out stays.

    operator  who drove, in all of its episodes that do not tell another; null: nobody knows
    """

    task: Text | UnsetType | None = UNSET
    tags: Annotated[list[Text], Meta(max_length=MAX_TAGS)] | UnsetType = UNSET
    note: Text | UnsetType | None = UNSET
    operator: Operator | UnsetType | None = UNSET


class EpisodeChange(Struct, forbid_unknown_fields=True):
    """What a person may change of an episode; what is left out stays.

    task      of all of its frames, whatever their tasks were
    reason    why it has its outcome: a name of GET /outcome-reasons that is for this outcome. Another outcome
              takes a reason away that is not for it
    quality   1 (poor) to 5 (as it should be)
    operator  who drove; null: as told of the session
    revision  of the episode as it was read: if somebody has changed it since, this change is refused (409
              `episode_changed`); without it, the later change holds
    """

    task: Text | UnsetType | None = UNSET
    outcome: Outcome | UnsetType | None = UNSET
    reason: Text | UnsetType | None = UNSET
    quality: Annotated[int, Meta(ge=1, le=5)] | UnsetType | None = UNSET
    note: Text | UnsetType | None = UNSET
    tags: Annotated[list[Tag], Meta(max_length=MAX_EPISODE_TAGS)] | UnsetType = UNSET
    operator: Operator | UnsetType | None = UNSET
    revision: Index | UnsetType = UNSET
    start_frame: Index | UnsetType = UNSET
    end_frame: Index | UnsetType = UNSET


class StrayVideo(Struct, kw_only=True):
    """A video chunk whose times lie outside its session, so that no frame has a picture of it.

    `DELETE /videos/{id}` removes it, so that it can be sent again with the times of its pictures.
    """

    id: int
    chunk_index: int
    start_timestamp: datetime
    end_timestamp: datetime


class QuarantinedVideo(Struct, kw_only=True):
    """A video chunk that is kept but not used, so that no frame has a picture of it.

    `DELETE /videos/{id}` removes it, so that it can be sent again.

    reason  why; it begins with "not checked yet" while the check is still to be completed
    """

    id: int
    chunk_index: int
    reason: str


class CameraAccount(Struct, kw_only=True):
    """What has arrived of one of the session's cameras.

    chunks          of its video that are stored
    missing_chunks  numbers below the highest that are not
    pictures        in those that can be used as video
    awaited_from    from this frame on nothing of it has arrived, no picture and no reason why there is none,
                    though the session goes on for more than a second; null: it reaches to the end
    strays          chunks whose times lie outside the session; those that come before its samples do not
    quarantined     chunks whose pictures can't be used
    """

    camera_key: str
    chunks: int
    missing_chunks: int
    pictures: int
    awaited_from: int | None
    strays: list[StrayVideo]
    quarantined: list[QuarantinedVideo]


class Ledger(Struct, kw_only=True):
    """Account of a session, sample by sample.

    delivery       acknowledged: what its robot has recorded comes, or is named as missing; best_effort: what
                   never arrived, nobody knows of
    logged         frames the robot says it logged; null while the session goes on, and where the line of a
                   plain client was cut, for then nobody knows
    committed      frames in the database, or in the archive if they have left it
    archived_at    when the frames left the database; null: they are in it
    archive_damage
                   what is wrong with the frames in the archive: they count as unaccounted for until its files
                   are back, its robot sends them again, or they are given up; null: nothing that is known
    found_at       when a new database learned of the session from the store alone, its frames being lost with
                   the one before, or since when frames that the archive has lost are sent again: those that
                   its robot still has come back, no others; null: nothing was lost
    missing        frames lost, each in `gaps` with its reason
    refused        frames of plain messages that could not be taken, each in `refusals` with its reason; they
                   have no index
    exported       frames of it in its newest published dataset; null before there is one
    unaccounted    frames below the watermark that are neither; anything but 0 is a defect or, in a session
                   with `found_at`, what its robot logged and has not brought or, with `archive_damage`, all
    duplicates     frames stored twice; anything but 0 is a defect
    cameras        video of each camera that the robot has told of, or of which video came without frames
    complete       logged = committed, nothing is missing, nothing was refused, and the video of every camera
                   has arrived
    gaps           the frames that are missing
    refusals       the frames that could not be taken
    declared_hz    rate of its loop, as its robot says
    measured_hz    from the first to the last frame
    jitter_ms      standard deviation of the period
    longest_stall_ms, stall_at_frame   longest period, and the frame it ended with
    backwards      frames older than the one before
    times_not_told
                   frames that came without a time, as plain ones may: theirs is when they arrived, so what is
                   told of rate, stalls and jitter is that of their way here; null: nobody counted them, for
                   they came to a server of an older version
    implausible    frames from before 2000, or from later than a day after the session's last commit
    repeated_observations
                   frames without an observation of their own: an action that followed, beside the observation
                   of an earlier frame
    not_finite     name of a value ("observation.gripper.pos") -> in how many frames it is NaN or infinite, of
                   values of which there is any; a value that a frame lacks is NaN
    """

    session_id: int
    status: Status
    delivery: Literal["acknowledged", "best_effort"]
    logged: int | None
    committed: int
    archived_at: datetime | None
    archive_damage: str | None
    found_at: datetime | None
    exported: int | None
    missing: int
    refused: int
    unaccounted: int
    duplicates: int
    cameras: list[CameraAccount]
    complete: bool
    gaps: list[GapView]
    refusals: list[RefusalView]
    declared_hz: float
    measured_hz: float | None
    jitter_ms: float | None
    longest_stall_ms: float | None
    stall_at_frame: int | None
    backwards: int
    times_not_told: int | None
    implausible: int
    repeated_observations: int
    not_finite: dict[str, int]
