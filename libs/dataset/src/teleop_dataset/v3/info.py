"""`meta/info.json`: what the dataset consists of."""

from collections.abc import Mapping
from typing import Any

from teleop_dataset.v3 import layout

ACTION = "action"
STATE = "observation.state"
CAPTURE_TIME = "capture.time_ns"

Features = Mapping[str, Mapping[str, Any]]

# Every dataset ends with these, in this order (lerobot.utils.constants.DEFAULT_FEATURES).
DEFAULT_FEATURES: dict[str, dict[str, Any]] = {
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "frame_index": {"dtype": "int64", "shape": [1], "names": None},
    "episode_index": {"dtype": "int64", "shape": [1], "names": None},
    "index": {"dtype": "int64", "shape": [1], "names": None},
    "task_index": {"dtype": "int64", "shape": [1], "names": None},
}


def joint_features(
    state_names: tuple[str, ...], action_names: tuple[str, ...], *, capture_time: bool
) -> Features:
    """Features of a dataset without video, in LeRobot's order; their order is that of the data's columns.

    A session that recorded no actions (or no state) has no such feature, because LeRobot takes no empty ones.
    capture_time  adds `capture.time_ns`: when the sample was taken, ns since the Unix epoch, robot's clock
    """
    features: dict[str, dict[str, Any]] = {}
    for key, names in ((ACTION, action_names), (STATE, state_names)):
        if names:
            features[key] = {"dtype": "float32", "shape": [len(names)], "names": list(names)}
    if capture_time:
        features[CAPTURE_TIME] = {"dtype": "int64", "shape": [1], "names": None}
    return features | DEFAULT_FEATURES


def info_document(
    features: Features, *, fps: int, robot_type: str, episodes: int, frames: int, tasks: int
) -> dict[str, Any]:
    """The document, its keys in LeRobot's order (lerobot.datasets.utils.DatasetInfo)."""
    return {
        "codebase_version": layout.CODEBASE_VERSION,
        "fps": fps,
        "features": features,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": layout.CHUNK_FILES,
        "data_files_size_in_mb": layout.DATA_FILE_MB,
        "video_files_size_in_mb": layout.VIDEO_FILE_MB,
        "data_path": layout.DATA_TEMPLATE,
        "video_path": None,
        "robot_type": robot_type,
        "splits": {"train": f"0:{episodes}"},
    }
