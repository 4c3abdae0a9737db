"""Checks what only `v3.writer` promises about a dataset, beyond what LeRobot needs to read it.

It reads the written files again, and takes nothing from the writer.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from teleop_schema.words import counted

from teleop_dataset.errors import VerificationFailed
from teleop_dataset.v3 import layout
from teleop_dataset.v3.data import data_schema
from teleop_dataset.v3.episodes import NO_LABELS, PICTURES, WITHOUT_STATISTICS, Clip, episodes_schema
from teleop_dataset.v3.info import ACTION, DEFAULT_FEATURES, STATE
from teleop_dataset.v3.layout import FIRST_PLACE
from teleop_dataset.v3.numbering import TOLERANCE_S, pictures_are_found
from teleop_dataset.v3.stats import QUANTILES
from teleop_dataset.verify import read_places, stored_type
from teleop_dataset.verify_video import clips_in_order, read_times, require


def verify_written(root: Path, *, labels: pa.Schema = NO_LABELS, single_precision: bool = False) -> None:
    """Raise VerificationFailed, saying which rule is broken, unless the dataset is as the writer leaves it.

    It must be one that `verify` has nothing against.

    labels            further columns of the episodes
    single_precision  LeRobotDataset must find all pictures with what it computes of times; it does not in all
                      datasets that it recorded
    """
    info = json.loads((root / layout.INFO).read_text("utf-8"))
    _check_info(info)
    _check_stats(info, json.loads((root / layout.STATS).read_text("utf-8")))
    _check_tables(root, info, labels)
    episodes = read_places(root, info)
    for camera, feature in info["features"].items():
        if feature["dtype"] == "video":
            _check_camera(root, camera, info["fps"], episodes, single_precision=single_precision)


def _check_info(info: dict[str, Any]) -> None:
    require(isinstance(info["fps"], int), "fps is not a whole number above 0")
    require(_covered(info["splits"]) == info["total_episodes"], "splits do not cover the episodes")
    features = info["features"]
    tail = dict(list(features.items())[-len(DEFAULT_FEATURES) :])
    require(tail == DEFAULT_FEATURES, "the five default features are not at the end of the list")
    for key, feature in features.items():
        names = feature["names"]
        if feature["dtype"] in PICTURES:
            require(
                names and len(names) == len(feature["shape"]),
                f"{key} does not have a name for each dimension",
            )
        elif key in (ACTION, STATE) and isinstance(names, list):
            require(len(names) == feature["shape"][0], f"{key} does not have a name for each value")


def _covered(splits: dict[str, str]) -> int:
    """How many episodes the splits cover, each beginning where the one before ends; -1 if they do not."""
    reached = 0
    for each in splits.values():
        first, _, end = each.partition(":")
        if not (first.isdecimal() and end.isdecimal()) or not reached == int(first) < int(end):
            return -1
        reached = int(end)
    return reached


def _check_stats(info: dict[str, Any], stats: dict[str, Any]) -> None:
    described = {
        key: feature
        for key, feature in info["features"].items()
        if feature["dtype"] not in WITHOUT_STATISTICS
    }
    require(set(stats) == set(described), "stats.json does not cover exactly the features")
    for key, feature in described.items():
        found = stats[key]
        # Statistics of pictures use only some of them.
        pictures = feature["dtype"] in PICTURES
        counted = pictures or found["count"] == [info["total_frames"]]
        require(counted, f"the count of {key} is not that of the frames")
        shape = (feature["shape"][-1], 1, 1) if pictures else (feature["shape"][-1],)
        for name in ("min", "max", "mean", "std", *QUANTILES):
            values = np.array(found[name])
            require(values.shape == shape, f"{name} of {key} has the wrong shape")
            require(np.isfinite(values).all(), f"{name} of {key} is NaN or infinite")


def _check_tables(root: Path, info: dict[str, Any], labels: pa.Schema) -> None:
    """Files that are numbered without gaps, with the writer's own columns."""
    columns = {field.name: field.type for field in episodes_schema(info["features"], labels)}
    for path in sorted(root.glob("meta/episodes/*/*.parquet")):
        table = pq.read_table(path)
        found = {field.name: field.type for field in table.schema}
        require(found == columns, "the episodes have other columns")
        table = table.drop_columns(labels.names)
        require(not any(column.null_count for column in table.columns), "an episode row has a null")
    schema = data_schema(info["features"])
    place = FIRST_PLACE
    for path in sorted(root.glob("data/*/*.parquet")):
        require(path == root / place.data_path(), f"{path.name} breaks the numbering of the data files")
        table_schema = pq.read_schema(path)
        require(_stored(table_schema) == _stored(schema), f"{path.name} has other columns")
        described = _described(table_schema)
        require(described in (None, _described(schema)), f"{path.name} describes other features")
        place = place.following()


def _stored(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    return [(field.name, stored_type(field.type)) for field in schema]


def _described(schema: pa.Schema) -> Any:
    """The features that a data file gives to `datasets`; None if it gives none."""
    described = (schema.metadata or {}).get(b"huggingface")
    try:
        return described and json.loads(described)["info"]["features"]
    except (ValueError, KeyError, TypeError) as error:
        raise VerificationFailed(f"a data file describes its features wrongly: {error}") from error


def _check_camera(root: Path, camera: str, fps: float, episodes: pa.Table, *, single_precision: bool) -> None:
    """Files that are numbered without gaps, and hold nothing but the episodes, each from a keyframe on."""
    clips = clips_in_order(episodes, camera)
    lengths = episodes.column("length").to_pylist()
    expected = FIRST_PLACE
    for place in sorted({clip.place for clip in clips}):
        path = place.video_path(camera)
        require(place == expected, f"{path} breaks the numbering of the video files")
        expected = place.following()
        within = [number for number, clip in enumerate(clips) if clip.place == place]
        require(not clips[within[0]].from_s, f"the first episode in {path} does not begin at 0")
        for before, after in pairwise(within):
            apart = clips[after].from_s - clips[before].to_s
            require(abs(apart) < TOLERANCE_S, f"there is a gap between episodes in {path}")
        times, keyframes = read_times(root / path)
        frames = round(clips[within[-1]].to_s * fps)
        require(len(times) == frames, f"{path} has {counted(len(times), 'frame')} where {frames} should be")
        for number in within:
            what = f"of episode {number} in {path}"
            first = round(clips[number].from_s * fps)
            # Else what is shown there builds upon pictures of another episode, and can't be cut out without
            # them.
            require(keyframes[first], f"the beginning {what} is not a keyframe")
            found = not single_precision or pictures_are_found(first, lengths[number], fps)
            require(found, f"the time {what} is too late for LeRobot to tell its pictures apart")
    _check_foreign(root, camera, clips)


def _check_foreign(root: Path, camera: str, clips: list[Clip]) -> None:
    present = {path.relative_to(root).as_posix() for path in root.glob(f"videos/{camera}/*/*.mp4")}
    foreign = sorted(present - {clip.place.video_path(camera) for clip in clips})
    require(not foreign, f"no episode names {foreign[0] if foreign else ''}")
