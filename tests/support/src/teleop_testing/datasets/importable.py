"""Small closed datasets in LeRobot's format, written in milliseconds."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from teleop_dataset.v3.data import nested_lists
from teleop_dataset.v3.episodes import Clip
from teleop_dataset.v3.info import VideoFeature, recorded_features
from teleop_dataset.v3.layout import FIRST_PLACE, LEROBOTS_LIMITS
from teleop_dataset.v3.numbering import TaskRows
from teleop_dataset.v3.stats import QUANTILES, Stats
from teleop_dataset.v3.writer import DatasetWriter

from teleop_testing.datasets.files import VIDEO_FPS, encode_video

NAMES = ["shoulder.pos", "gripper.pos"]
HEIGHT, WIDTH = 48, 64
REWARD = {"next.reward": {"dtype": "float32", "shape": [1], "names": None}}


def write_dataset(
    folder: Path,
    lengths: Sequence[int] = (5, 3),
    *,
    names: Sequence[str] = NAMES,
    cameras: Sequence[str] = (),
    added: Mapping[str, Mapping[str, Any]] = REWARD,
    capture_us: Sequence[int] | None = None,
    seed: int = 0,
) -> Path:
    """A dataset with episodes of these lengths, each with a task of its own, at VIDEO_FPS.

    capture_us  of each frame, us since the Unix epoch; None: the dataset does not tell
    seed        of its values: each frame has those that it would have in a longer dataset
    """
    filmed = [VideoFeature(name, HEIGHT, WIDTH, "h264", "yuv420p") for name in cameras]
    features = recorded_features(
        names, names, filmed, fps=VIDEO_FPS, capture_time=capture_us is not None, added=added
    )
    features = {key: each for key, each in features.items() if key != "capture.picture_age_ms"}
    frames = sum(lengths)
    columns = {name: values_of(name, frames, [len(names)], "float32", seed) for name in ("state", "action")}
    table = {
        name: pa.FixedSizeListArray.from_arrays(each.ravel(), len(names)) for name, each in columns.items()
    }
    for name, feature in added.items():
        flat = pa.array(values_of(name, frames, feature["shape"], feature["dtype"], seed).ravel())
        if feature["shape"] == [1]:
            table[name] = flat
        elif len(feature["shape"]) == 1:
            table[name] = pa.FixedSizeListArray.from_arrays(flat, feature["shape"][0])
        else:
            table[name] = nested_lists(flat, feature["shape"])
    if capture_us is not None:
        table["timestamp"] = pa.array(capture_us, pa.timestamp("us", tz="UTC"))
    begins = np.cumsum([0, *lengths])
    clips = [Clip(FIRST_PLACE, begin / VIDEO_FPS, end / VIDEO_FPS) for begin, end in pairwise(begins)]
    tasks = [[TaskRows(f"task {number}", length)] for number, length in enumerate(lengths)]
    black = {camera.key: _no_colour(len(lengths)) for camera in filmed}
    with DatasetWriter(folder, features, fps=VIDEO_FPS, limits=LEROBOTS_LIMITS, finite=()) as writer:
        writer.add(pa.table(table), lengths, tasks, {camera.key: clips for camera in filmed}, black)
        writer.close_data()
        recorded = writer.recorded.finish(writer.root, lambda done, total: None)
        splits = {"train": (0, len(lengths))}
        black = {camera.key: _no_colour(1) for camera in filmed}
        writer.finish(recorded, black, robot_type="so101_follower", provenance={}, splits=splits)
    for camera in filmed:
        path = folder / FIRST_PLACE.video_path(camera.key)
        path.parent.mkdir(parents=True)
        path.write_bytes(encode_video(frames, width=WIDTH, height=HEIGHT))
    return folder


def values_of(name: str, frames: int, shape: Sequence[int], dtype: str, seed: int) -> Any:
    """(frames, …) that a column of the dataset has; of a longer one, the first ones are the same."""
    random = np.random.default_rng([seed, *name.encode()])
    drawn = random.normal(scale=100, size=(frames, *shape))
    return drawn > 0 if dtype == "bool" else drawn.astype(dtype)


def _no_colour(stretches: int) -> Stats:
    """Statistics that nobody looks at."""
    none = np.zeros((stretches, 3))
    return Stats(
        np.ones(stretches, np.int64), none, none, none, none, np.zeros((stretches, len(QUANTILES), 3))
    )
