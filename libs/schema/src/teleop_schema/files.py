"""Files on their way from a robot to the store: descriptions, announcements and receipts.

`POST /files/plan` with a FilePlan is answered with Planned: the receipt, if the server has the file already;
otherwise a tus upload, and the byte ranges of the file to send as its body. Once everything is sent,
the same plan is answered with the receipt. `POST …/versions` makes a version of a dataset's state.
"""

import hashlib
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from teleop_schema.depth import DepthUnit
from teleop_schema.session import FeatureName, Fps, PixelCount, Text, TimestampUs

# LeRobot's own files end at 200 MB; this limit is for files that others put into a dataset.
MAX_FILE_BYTES = 50 * 1024**3
# Ours have ten seconds and some MB; this leaves space for an hour that somebody else recorded.
MAX_VIDEO_CHUNK_BYTES = 2 * 1024**3
# Each picture has an index and a time in the database's row; this is nearly an hour at 30 fps.
MAX_VIDEO_CHUNK_FRAMES = 100_000
# How long a camera may be silent at the end of a session, because it, or its reader, is slower than the loop.
SILENT_CAMERA_S = 1.0
# Enough for an hour of one camera in single picture files. A version's list is held in memory.
MAX_DATASET_FILES = 100_000
# Larger files are sent as a whole; LeRobot's own end at 200 MB.
MAX_DELTA_BYTES = 1024**3

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
Index = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
SizeBytes = Annotated[int, Meta(ge=0, le=MAX_FILE_BYTES)]
CameraKey = FeatureName


class FrameTimes(Struct, frozen=True, forbid_unknown_fields=True):
    """Each picture of a video chunk, in the order of the file.

    frame_index  the loop iteration that first saw the picture; ascending
    captured_us  when the camera took it, us since the Unix epoch, the robot's clock
    """

    frame_index: Annotated[tuple[Index, ...], Meta(max_length=MAX_VIDEO_CHUNK_FRAMES)]
    captured_us: Annotated[tuple[TimestampUs, ...], Meta(max_length=MAX_VIDEO_CHUNK_FRAMES)]

    def __post_init__(self) -> None:
        if len(self.frame_index) != len(self.captured_us):
            raise ValueError("frame_index and captured_us differ in length in field `frames`")
        if any(
            after <= before for before, after in zip(self.frame_index, self.frame_index[1:], strict=False)
        ):
            raise ValueError("frame_index does not ascend in field `frames`")


class DroppedFrames(Struct, frozen=True, forbid_unknown_fields=True):
    """Loop iterations [first, end) whose picture is missing in the video, and why."""

    first: Index
    end: Index
    reason: Text


class VideoFile(
    Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    kw_only=True,
    tag="video",
    tag_field="kind",
):
    """One chunk of one camera's video of one session: mp4, beginning with a keyframe.

    session      number of the session, or the uuid of its stream
    camera_key   name in the session's cameras ("front")
    chunk_index  from 0, without gaps, per camera
    start_us     capture time of the first frame, us since the Unix epoch, the robot's clock
    end_us       capture time of the last frame, or the end of its display time; both are allowed
    frames       None if the sender does not know them; pictures then have the file's times from start_us on,
                 or are spread evenly up to end_us if the file has another rate
    dropped      missing pictures within or right before this chunk
    depth_unit   the camera's unit if the pictures are depth, quantised as in `teleop_schema.depth`;
                 None: colour
    """

    robot_id: str
    session: int | UUID
    camera_key: CameraKey
    chunk_index: Index
    start_us: TimestampUs
    end_us: TimestampUs
    size_bytes: Annotated[int, Meta(ge=1, le=MAX_VIDEO_CHUNK_BYTES)]
    sha256: Sha256
    fps: Fps | None = None
    height: PixelCount | None = None
    width: PixelCount | None = None
    frames: FrameTimes | None = None
    dropped: tuple[DroppedFrames, ...] = ()
    depth_unit: DepthUnit | None = None

    def __post_init__(self) -> None:
        if self.end_us < self.start_us:
            raise ValueError("the chunk ends before it starts: field `end_us`")


class DatasetFile(
    Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="dataset", tag_field="kind"
):
    """One file of one dataset, at one moment.

    dataset  name of the dataset: its path below the watched folder ("my-user/my-dataset")
    path     the file within the dataset ("meta/info.json")
    """

    robot_id: str
    dataset: str
    path: str
    size_bytes: SizeBytes
    sha256: Sha256


class FilePlan(Struct, frozen=True, forbid_unknown_fields=True):
    """The announcement of a file.

    file    its name, size and hash
    chunks  its content-defined chunks one after the other, CHUNK_RECORD bytes each: length (uint32, little
            endian) and the first 16 bytes of the chunk's SHA-256; empty if the file is not to be compared
            with what the server has
    """

    file: VideoFile | DatasetFile
    chunks: bytes = b""


# Of the SHA-256 of a chunk: 128 bits tell apart more chunks than there are, and the whole file's hash is
# checked at the end.
CHUNK_HASH_BYTES = 16
CHUNK_RECORD_BYTES = 4 + CHUNK_HASH_BYTES


class Receipt(Struct, frozen=True, kw_only=True):
    """The server has the file for good.

    path        its path below the backup folder, `<robot_id>/…`
    id          for a video chunk: its number
    warning     for a video chunk: what makes it useless although the file is sound, such as times outside its
                session, and what to do; None: nothing, as far as is known by now
    quarantine  for a video chunk: why it is kept but not used, for example because it is not a video; None:
                nothing is wrong with it, as far as it has been checked
    """

    kind: str
    robot_id: str
    path: str
    size_bytes: int
    sha256: str
    stored_at: datetime
    id: int | None = None
    quarantine: str | None = None
    warning: str | None = None


class Quota(Struct, frozen=True):
    """What the files of a robot take on the server, and what they may take; beyond that, they are refused.

    used_bytes   those that several of its files share counted once
    limit_bytes  of all of them
    """

    used_bytes: int
    limit_bytes: int


class Planned(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer to a FilePlan: either the receipt, or which bytes to send where.

    receipt  if the server has the file already
    upload   address of a tus upload, made for this file; its length is the sum of `missing`
    missing  (offset, length) in the file: these bytes, in this order, are the upload's body
    quota    if the robot has nearly used what it may take, or all of it
    """

    receipt: Receipt | None = None
    upload: str | None = None
    missing: tuple[tuple[int, int], ...] = ()
    quota: Quota | None = None


class ManifestFile(Struct, frozen=True, forbid_unknown_fields=True, order=True):
    """One file of a dataset's version."""

    path: str
    size_bytes: SizeBytes
    sha256: Sha256


class Manifest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A dataset's state: all of its files as they were when that many episodes had been saved.

    finalised  the recorder has closed it: every Parquet file has its footer
    """

    files: Annotated[tuple[ManifestFile, ...], Meta(min_length=1, max_length=MAX_DATASET_FILES)]
    total_episodes: Count
    total_frames: Count
    finalised: bool


def digest_of(manifest: Manifest) -> str:
    """SHA-256 over the whole manifest, independent of the order of its files."""
    content = msgspec.structs.replace(manifest, files=tuple(sorted(manifest.files)))
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()


class DatasetVersion(Struct, frozen=True, kw_only=True):
    """One version of a dataset; numbers ascend from 1, and some may have been thinned out.

    source         "robot": as it was on the robot; "repair": rebuilt from another version
    repaired_from  number of that version
    """

    robot_id: str
    dataset: str
    version: int
    source: str
    created_at: datetime
    total_episodes: int
    total_frames: int
    finalised: bool
    files: int
    size_bytes: int
    repaired_from: int | None = None
