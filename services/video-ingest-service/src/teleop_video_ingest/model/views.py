"""Answers of the endpoints about videos and datasets."""

from datetime import datetime
from typing import Literal

from msgspec import Struct
from teleop_schema.depth import DepthUnit
from teleop_schema.files import DatasetVersion, DroppedFrames


class VideoView(Struct, kw_only=True):
    """One chunk of one camera's video of one session.

    file_path          path below the backup folder
    start_timestamp    capture time of the first picture, robot's clock; end_timestamp of the last,
                       or when its display time ended
    first_frame_index  frame of the session that first saw the first picture; null if the sender did not know
    frame_count        pictures in the file
    fps                pictures per second of the file's own timeline
    depth_unit         the unit of the camera, if the pictures are codes of depth; null: colour
    dropped            frames whose picture is missing within or right before this chunk
    quarantine         why it can't be used as video; null: it can
    look_after         when the server checks it again, because it could not yet, or not as well as now;
                       null: it is checked
    corrected_at       when a later check found other pictures in it than an earlier one; null: never
    content            address of the bytes
    """

    id: int
    session_id: int
    camera_key: str
    chunk_index: int
    file_path: str
    sha256: str
    size_bytes: int
    start_timestamp: datetime
    end_timestamp: datetime
    first_frame_index: int | None
    frame_count: int | None
    fps: float | None
    codec: str | None
    pix_fmt: str | None
    width: int | None
    height: int | None
    depth_unit: DepthUnit | None
    keyframes: int | None
    dropped: list[DroppedFrames]
    quarantine: str | None
    look_after: datetime | None
    corrected_at: datetime | None
    stored_at: datetime
    content: str


class VideoDetail(VideoView, kw_only=True):
    """One chunk with the time of each picture.

    frame_indices  for each picture in the file: the frame of the session that first saw it
    captured_us    for each picture: when the camera took it, us since the Unix epoch, robot's clock
    """

    robot_id: str
    frame_indices: list[int] | None
    captured_us: list[int] | None


class Uncovered(Struct, kw_only=True):
    """Frames [first, end) of the session without a picture, and why."""

    first: int
    end: int
    reason: str


class Overlap(Struct, kw_only=True):
    """A chunk whose time another chunk already shows, judged by the times of its pictures.

    shown_by  index of the other chunk
    pictures  how many repeat
    """

    chunk_index: int
    shown_by: int
    pictures: int


class CameraCoverage(Struct, kw_only=True):
    """How much of a session one camera's video shows.

    chunks          chunks that are stored
    quarantined     those of them that can't be used as video
    missing_chunks  [first, end) of chunk numbers that have not arrived though a later one has
    pictures        pictures in all usable chunks
    repeated        those of them whose time is already shown
    overlaps        the chunks that repeat pictures, and how many; at most the first 1000
    covered         frames of the session that show a picture, a new one or still the one before
    uncovered       the frames that do not; at most the first 1000 gaps
    known           false if a chunk came without the frame of each picture, so that nothing can be said
    """

    camera_key: str
    chunks: int
    quarantined: int
    missing_chunks: list[tuple[int, int]]
    pictures: int
    repeated: int
    overlaps: list[Overlap]
    known: bool
    frames: int
    covered: int
    uncovered: list[Uncovered]


class SessionVideos(Struct, kw_only=True):
    """The videos of a session; `next_cursor` asks for further chunks.

    frames  how many frames of the session are committed
    videos  of this page
    """

    session_id: int
    robot_id: str
    frames: int
    cameras: list[CameraCoverage]
    videos: list[VideoView]
    next_cursor: int | None


DatasetStatus = Literal["incoming", "unfinalised", "finalised", "repaired", "damaged"]


class DatasetView(Struct, kw_only=True):
    """One dataset of one robot.

    newest  its newest version; one that is finalised or repaired comes before one that is not
    status  incoming: no version is complete yet; unfinalised: the recorder has not closed it (yet);
            finalised; repaired; damaged: stored bytes of the newest version have changed
    """

    robot_id: str
    dataset: str
    created_at: datetime
    status: DatasetStatus
    versions: int
    newest: DatasetVersion | None


class DatasetPage(Struct, kw_only=True):
    """Datasets, newest first; `next_cursor` asks for the following page.

    datasets  of this page
    """

    datasets: list[DatasetView]
    next_cursor: int | None


class FileView(Struct, kw_only=True):
    """One file of a dataset; `damage` is what the last check of its bytes found wrong."""

    path: str
    size_bytes: int
    sha256: str
    damage: str | None


class DatasetDetail(DatasetView, kw_only=True):
    """One dataset with its files, by path; `next_after` asks for the following ones."""

    files: list[FileView]
    next_after: str | None


class VersionPage(Struct, kw_only=True):
    """Versions of a dataset, newest first; `next_cursor` asks for the following page."""

    versions: list[DatasetVersion]
    next_cursor: int | None


class DamagedFile(Struct, kw_only=True):
    """A file whose stored bytes have changed."""

    path: str
    sha256: str
    damage: str


class Verified(Struct, kw_only=True):
    """The result of reading all bytes again.

    checked     objects that were read; one that several files share is read once
    size_bytes  how many bytes were read
    damaged     files whose bytes have changed
    """

    robot_id: str
    dataset: str
    version: int | None
    checked: int
    size_bytes: int
    damaged: list[DamagedFile]


class Repaired(Struct, kw_only=True):
    """The version that a repair has made.

    version  the new one
    report   what was rebuilt and what was lost, in words
    """

    version: DatasetVersion
    report: str


class ImportProblem(Struct, kw_only=True):
    """Why an import has failed; as in an error.

    code    which error it is, as in the list of all errors
    detail  what is wrong, in words
    field   what of the dataset, or of the request, it is about
    hint    what to do
    """

    code: str
    detail: str
    field: str | None = None
    hint: str | None = None


class DatasetImport(Struct, kw_only=True):
    """A version of a dataset that becomes a session, or has become one.

    status         queued, reading (the dataset is read and checked), storing (frames), video, done or failed
    session_id     the session that it becomes; null: none has been created yet
    session_ids    all sessions that versions of the dataset have become
    episodes, frames
                   that it has; null: not known yet
    stored_frames  how many of them the session has
    videos, stored_videos
                   files of its cameras, and how many of them the session has
    notes          what the session does not have of the dataset, in words
    problem        why it has failed; null: it has not
    asked_by       who has asked for it
    asked_at       when somebody first asked for it
    finished_at    when it ended; null: it has not
    """

    robot_id: str
    dataset: str
    version: int
    status: Literal["queued", "reading", "storing", "video", "done", "failed"]
    session_id: int | None
    session_ids: list[int]
    episodes: int | None
    frames: int | None
    stored_frames: int
    videos: int
    stored_videos: int
    notes: list[str]
    problem: ImportProblem | None
    asked_by: str
    asked_at: datetime
    finished_at: datetime | None
