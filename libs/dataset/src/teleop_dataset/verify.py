"""Checks a dataset before anyone else sees it: the files on disk follow the format, row by row.

It reads the written files again, and takes nothing from the writer but the expected number of frames.
"""

import json
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from teleop_dataset.errors import VerificationFailed
from teleop_dataset.v3 import layout
from teleop_dataset.v3.data import data_schema
from teleop_dataset.v3.episodes import PICTURES, WITHOUT_STATISTICS, episodes_schema
from teleop_dataset.v3.info import ACTION, DEFAULT_FEATURES, STATE
from teleop_dataset.v3.layout import FIRST_PLACE
from teleop_dataset.v3.numbering import TOLERANCE_S
from teleop_dataset.v3.recorded_stats import read_blocks
from teleop_dataset.v3.stats import QUANTILES
from teleop_dataset.verify_video import check_videos

_NUMBERING = list(DEFAULT_FEATURES)


def verify(
    root: Path,
    *,
    frames: int,
    advance: Callable[[int, int], None],
    short: Container[int] = frozenset(),
    not_finite: Container[str] = frozenset(),
    single_precision: bool = False,
) -> None:
    """Raise VerificationFailed, saying which rule is broken, unless the dataset in `root` is sound.

    frames            how many it must have: committed minus excluded
    advance           called with the frames read so far and their total; may raise to stop
    short             episodes (by index) that are known to have fewer video frames than rows
    not_finite        features that are known to have values that are infinite or not numbers
    single_precision  LeRobotDataset must find all pictures with what it computes of times; it does not in all
                      datasets that it recorded
    """
    info = json.loads((root / layout.INFO).read_text("utf-8"))
    episodes = _read_series(root, "meta/episodes")
    tasks = pq.read_table(root / layout.TASKS)
    _check_info(info, episodes, tasks, frames)
    _check_tasks(tasks)
    _check_episodes(info, episodes, tasks)
    _check_stats(info, json.loads((root / layout.STATS).read_text("utf-8")), not_finite)
    _check_files(root, info, episodes)
    check_videos(root, info, episodes, short, single_precision=single_precision)
    _check_rows(root, info, episodes, len(tasks), advance)


def _require(holds: Any, rule: str) -> None:
    if not holds:
        raise VerificationFailed(f"the dataset breaks its format: {rule}")


def _check_info(info: dict[str, Any], episodes: pa.Table, tasks: pa.Table, frames: int) -> None:
    _require(info["codebase_version"] == layout.CODEBASE_VERSION, "codebase_version is not v3.0")
    _require(isinstance(info["fps"], int) and info["fps"] > 0, "fps is not a whole number above 0")
    _require(info["total_frames"] == frames, f"{info['total_frames']} frames where {frames} should be")
    _require(info["total_episodes"] == len(episodes), "total_episodes is not the number of episode rows")
    _require(info["total_tasks"] == len(tasks), "total_tasks is not the number of task rows")
    _require(_covered(info["splits"]) == len(episodes), "splits do not cover the episodes")
    features = info["features"]
    tail = dict(list(features.items())[-len(DEFAULT_FEATURES) :])
    _require(tail == DEFAULT_FEATURES, "the five default features are not at the end of the list")
    for key, feature in features.items():
        _require("/" not in key, f"the feature {key} has a slash")
        names = feature["names"]
        if feature["dtype"] in PICTURES:
            _require(
                names and len(names) == len(feature["shape"]),
                f"{key} does not have a name for each dimension",
            )
        elif key in (ACTION, STATE) and isinstance(names, list):
            _require(len(names) == feature["shape"][0], f"{key} does not have a name for each value")


def _covered(splits: dict[str, str]) -> int:
    """How many episodes the splits cover, each beginning where the one before ends; -1 if they do not."""
    reached = 0
    for each in splits.values():
        first, _, end = each.partition(":")
        if not (first.isdecimal() and end.isdecimal()) or not reached == int(first) < int(end):
            return -1
        reached = int(end)
    return reached


def _check_tasks(tasks: pa.Table) -> None:
    names = tasks.column("task").to_pylist()
    _require(tasks.column("task_index").to_pylist() == list(range(len(names))), "tasks are out of order")
    _require(len(set(names)) == len(names), "a task appears twice")
    pandas = json.loads((tasks.schema.metadata or {}).get(b"pandas", b"{}"))
    _require(pandas.get("index_columns") == ["task"], "the task is not the index of the tasks")


def _check_episodes(info: dict[str, Any], episodes: pa.Table, tasks: pa.Table) -> None:
    # In any order, because LeRobot's own depends on when it encodes the video.
    columns = {field.name: field.type for field in episodes_schema(info["features"])}
    _require(
        {field.name: field.type for field in episodes.schema} == columns, "the episodes have other columns"
    )
    _require(not any(column.null_count for column in episodes.columns), "an episode row has a null")
    lengths, begins, ends = (
        _numbers(episodes, name) for name in ("length", "dataset_from_index", "dataset_to_index")
    )
    _require(_counts_up(_numbers(episodes, "episode_index")), "episode_index is not the row's number")
    _require((lengths > 0).all(), "an episode is empty")
    _require((ends == np.cumsum(lengths)).all(), "dataset_to_index is inconsistent")
    _require((begins == ends - lengths).all(), "dataset_from_index is inconsistent")
    _require(ends[-1] == info["total_frames"], "the episodes do not cover all frames")
    known = set(tasks.column("task").to_pylist())
    named = set(episodes.column("tasks").combine_chunks().flatten().to_pylist())
    _require(named <= known, "an episode has a task that is not in the list")


def _check_stats(info: dict[str, Any], stats: dict[str, Any], not_finite: Container[str]) -> None:
    described = {
        key: feature
        for key, feature in info["features"].items()
        if feature["dtype"] not in WITHOUT_STATISTICS
    }
    _require(set(stats) == set(described), "stats.json does not cover exactly the features")
    for key, feature in described.items():
        found = stats[key]
        # Statistics of pictures use only some of them.
        pictures = feature["dtype"] in PICTURES
        counted = pictures or found["count"] == [info["total_frames"]]
        _require(counted, f"the count of {key} is not that of the frames")
        shape = (feature["shape"][-1], 1, 1) if pictures else (feature["shape"][-1],)
        for name in ("min", "max", "mean", "std", *QUANTILES):
            values = np.array(found[name])
            _require(values.shape == shape, f"{name} of {key} has the wrong shape")
            _require(key in not_finite or np.isfinite(values).all(), f"{name} of {key} is NaN or infinite")


def _check_files(root: Path, info: dict[str, Any], episodes: pa.Table) -> None:
    """Whole episodes, in the files that the episode rows name, and no other Parquet file."""
    schema = data_schema(info["features"])
    chunks, files = _numbers(episodes, "data/chunk_index"), _numbers(episodes, "data/file_index")
    ends = np.cumsum(_numbers(episodes, "length"))
    begin = rows = 0
    place = FIRST_PLACE
    for path in sorted(root.glob("data/*/*.parquet")):
        _require(path == root / place.data_path(), f"{path.name} breaks the numbering of the data files")
        found = pq.read_schema(path)
        _require(_stored(found) == _stored(schema), f"{path.name} has other columns")
        described = _described(found)
        _require(described in (None, _described(schema)), f"{path.name} describes other features")
        rows += pq.read_metadata(path).num_rows
        end = int(np.searchsorted(ends, rows)) + 1
        _require(end <= len(ends) and ends[end - 1] == rows, f"{path.name} does not end with an episode")
        _require(
            (chunks[begin:end] == place.chunk).all() and (files[begin:end] == place.file).all(),
            f"the episodes in {path.name} name another file",
        )
        begin = end
        place = place.following()
    _require(begin == len(episodes), "there are more rows of episodes than episodes in the data files")


def _stored(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    """Names and types of the columns in the file, whichever extensions of Arrow are loaded."""
    return [
        (field.name, field.type.storage_type if isinstance(field.type, pa.BaseExtensionType) else field.type)
        for field in schema
    ]


def _described(schema: pa.Schema) -> Any:
    """The features that a data file gives to `datasets`; None if it gives none."""
    described = (schema.metadata or {}).get(b"huggingface")
    try:
        return described and json.loads(described)["info"]["features"]
    except (ValueError, KeyError, TypeError) as error:
        raise VerificationFailed(f"a data file describes its features wrongly: {error}") from error


def _check_rows(
    root: Path, info: dict[str, Any], episodes: pa.Table, tasks: int, advance: Callable[[int, int], None]
) -> None:
    """Checks what LeRobot assumes about the numbers of every row."""
    begins = _numbers(episodes, "dataset_from_index")
    row = 0
    for block in read_blocks(root, _NUMBERING):
        _require(not any(column.null_count for column in block.columns), "a row has a null")
        numbers = {name: _numbers(block, name) for name in _NUMBERING}
        index = np.arange(row, row + len(block))
        episode = np.searchsorted(begins, index, side="right") - 1
        frame = index - begins[episode]
        _require((numbers["index"] == index).all(), "index is not the row's number")
        _require((numbers["episode_index"] == episode).all(), "a row has another episode's index")
        _require((numbers["frame_index"] == frame).all(), "frame_index does not count the episode's rows")
        late = np.abs(numbers["timestamp"] - (frame / info["fps"]).astype(np.float32))
        _require((late < TOLERANCE_S).all(), "a timestamp is not frame_index / fps")
        task = numbers["task_index"]
        _require(((task >= 0) & (task < tasks)).all(), "a task_index is not in the list")
        row += len(block)
        advance(row, info["total_frames"])
    _require(row == info["total_frames"], f"{row} rows where {info['total_frames']} should be")


def _read_series(root: Path, folder: str) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in sorted(root.glob(f"{folder}/*/*.parquet")))


def _numbers(table: pa.Table, name: str) -> npt.NDArray[Any]:
    numbers: npt.NDArray[Any] = table.column(name).to_numpy()
    return numbers


def _counts_up(numbers: npt.NDArray[Any]) -> bool:
    return bool((numbers == np.arange(len(numbers))).all())
