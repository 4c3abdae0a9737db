"""The forms of `/upload/*`, as descriptions tell them; `model.announced` reads their fields."""

from typing import Annotated

from msgspec import Meta, Struct
from teleop_runtime.serving.operations import Bytes
from teleop_schema.depth import DepthUnit
from teleop_schema.files import CameraKey, Index, Sha256
from teleop_schema.identifiers import DatasetName, FilePath, RobotId
from teleop_schema.session import Fps, PixelCount

Time = Annotated[str, Meta(examples=["2026-11-23T05:53:00.5Z"])]


class VideoForm(Struct, forbid_unknown_fields=True, kw_only=True):
    """One chunk of one camera's video of one session. The fields should come before the file.

    session          number of the session, or the UUID of its stream
    camera_key       name in the session's cameras
    chunk_index      from 0, without gaps, per camera
    start_timestamp  capture time of the first picture, robot's clock: ISO 8601 with a zone, or s since the
                     Unix epoch
    end_timestamp    capture time of the last picture, or the end of its display time
    file             the chunk: mp4, beginning with a keyframe
    sha256           of the file, in hexadecimal digits; the server checks it
    frames           JSON of FrameTimes: the frame and the capture time of each picture
    dropped          JSON of a list of DroppedFrames: frames whose picture is missing, and why
    fps              pictures per second that the camera was set to
    height, width    of a picture, pixels
    depth_unit       the camera's unit if the pictures are codes of depth; without it: colour
    """

    robot_id: RobotId
    session: Annotated[str, Meta(examples=["7"])]
    camera_key: Annotated[CameraKey, Meta(examples=["front"])]
    chunk_index: Index
    start_timestamp: Time
    end_timestamp: Time
    file: Bytes
    sha256: Sha256 | None = None
    frames: str | None = None
    dropped: str | None = None
    fps: Fps | None = None
    height: PixelCount | None = None
    width: PixelCount | None = None
    depth_unit: DepthUnit | None = None


class DatasetForm(Struct, forbid_unknown_fields=True, kw_only=True):
    """One file of one dataset. The fields should come before the file.

    file    its content
    sha256  of the file, in hexadecimal digits; the server checks it
    """

    robot_id: RobotId
    dataset: DatasetName
    path: FilePath
    file: Bytes
    sha256: Sha256 | None = None
