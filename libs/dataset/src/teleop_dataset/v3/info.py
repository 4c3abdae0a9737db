"""`meta/info.json`: the description of the dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from teleop_schema.depth import DepthUnit

from teleop_dataset.v3 import layout
from teleop_dataset.v3.depth import depth_info
from teleop_dataset.v3.layout import FileLimits

ACTION = "action"
STATE = "observation.state"
IMAGES = "observation.images."
CAPTURE_TIME = "capture.time_ns"
OBSERVATION_AGE = "capture.observation_age_ms"
PICTURE_AGE = "capture.picture_age_ms"

COLOURS, DEPTH = 3, 1

Features = Mapping[str, Mapping[str, Any]]
NOTHING_ADDED: Features = {}

# Every dataset ends with these, in this order (lerobot.utils.constants.DEFAULT_FEATURES).
DEFAULT_FEATURES: dict[str, dict[str, Any]] = {
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "frame_index": {"dtype": "int64", "shape": [1], "names": None},
    "episode_index": {"dtype": "int64", "shape": [1], "names": None},
    "index": {"dtype": "int64", "shape": [1], "names": None},
    "task_index": {"dtype": "int64", "shape": [1], "names": None},
}


@dataclass(frozen=True)
class VideoFeature:
    """The properties of one camera's video, the same in all of its files.

    codec       "h264", "hevc" or "av1"
    depth_unit  the camera's unit if the pictures are codes of depth (`teleop_schema.depth`); None: colour
    """

    name: str
    height: int
    width: int
    codec: str
    pix_fmt: str
    depth_unit: DepthUnit | None = None

    @property
    def channels(self) -> int:
        """Values per pixel."""
        return DEPTH if self.depth_unit else COLOURS

    @property
    def key(self) -> str:
        """The feature's name."""
        return IMAGES + self.name


def recorded_features(
    state_names: Sequence[str],
    action_names: Sequence[str],
    cameras: Sequence[VideoFeature] = (),
    *,
    fps: int,
    capture_time: bool,
    observation_age: bool = False,
    added: Features = NOTHING_ADDED,
) -> Features:
    """Features of a dataset, in LeRobot's order; their order is that of the data's columns.

    A session that recorded no actions (or no state) lacks that feature, because LeRobot allows no empty ones.

    capture_time  adds `capture.time_ns`: when the row's sample was taken, ns since the Unix epoch, robot's
                  clock; and, if there are cameras, `capture.picture_age_ms`: how long before that each
                  camera's picture was taken
    observation_age
                  adds `capture.observation_age_ms`: how long before that its observation was, 0 unless the
                  sample repeats an earlier one
    added         what the recording command added, under names that none of these have
    """
    features: dict[str, dict[str, Any]] = {}
    for key, names in ((ACTION, action_names), (STATE, state_names)):
        if names:
            features[key] = {"dtype": "float32", "shape": [len(names)], "names": list(names)}
    for camera in cameras:
        features[camera.key] = _video_feature(camera, fps)
    features |= {key: dict(feature) for key, feature in added.items()}
    if capture_time:
        features[CAPTURE_TIME] = {"dtype": "int64", "shape": [1], "names": None}
    if observation_age:
        features[OBSERVATION_AGE] = {"dtype": "float32", "shape": [1], "names": None}
    if capture_time and cameras:
        names = [camera.name for camera in cameras]
        features[PICTURE_AGE] = {"dtype": "float32", "shape": [len(names)], "names": names}
    return features | DEFAULT_FEATURES


def _video_feature(camera: VideoFeature, fps: int) -> dict[str, Any]:
    """As lerobot.datasets.video_utils.get_video_info has it, but for an encoder's settings,
    which merging does not compare."""
    return {
        "dtype": "video",
        "shape": [camera.height, camera.width, camera.channels],
        "names": ["height", "width", "channels"],
        "info": {
            "video.height": camera.height,
            "video.width": camera.width,
            "video.codec": camera.codec,
            "video.pix_fmt": camera.pix_fmt,
            "video.fps": fps,
            "video.channels": camera.channels,
            "has_audio": False,
            **(depth_info(camera.depth_unit) if camera.depth_unit else {"is_depth_map": False}),
        },
    }


def info_document(
    features: Features,
    *,
    fps: int,
    robot_type: str,
    episodes: int,
    frames: int,
    tasks: int,
    limits: FileLimits,
    splits: Mapping[str, tuple[int, int]],
) -> dict[str, Any]:
    """The document, its keys in LeRobot's order (lerobot.datasets.utils.DatasetInfo).

    splits  first episode and the one after the last of each
    """
    any_video = any(feature["dtype"] == "video" for feature in features.values())
    return {
        "codebase_version": layout.CODEBASE_VERSION,
        "fps": fps,
        "features": features,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": layout.CHUNK_FILES,
        "data_files_size_in_mb": limits.data_mb,
        "video_files_size_in_mb": limits.video_mb,
        "data_path": layout.DATA_TEMPLATE,
        "video_path": layout.VIDEO_TEMPLATE if any_video else None,
        "robot_type": robot_type,
        "splits": {name: f"{first}:{end}" for name, (first, end) in splits.items()},
    }
