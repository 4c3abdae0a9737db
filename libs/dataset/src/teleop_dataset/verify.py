"""The last look at a dataset before anyone else sees it: what is on disk follows the format, row by row.

Reads back what was written and trusts nothing that the writer knew but how many frames there should be.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from teleop_dataset.errors import VerificationFailed
from teleop_dataset.recorded_stats import read_blocks
from teleop_dataset.v3 import layout
from teleop_dataset.v3.data import data_schema
from teleop_dataset.v3.episodes import episodes_schema
from teleop_dataset.v3.info import DEFAULT_FEATURES
from teleop_dataset.v3.layout import FIRST_PLACE
from teleop_dataset.v3.stats import QUANTILES

_NUMBERING = list(DEFAULT_FEATURES)


def verify(root: Path, *, frames: int, advance: Callable[[int, int], None]) -> None:
    """Raise VerificationFailed, saying which rule is broken, unless the dataset in `root` is sound.

    frames   how many it must hold: committed minus excluded
    advance  told the frames looked at and those to look at in all; may raise to stop
    """
    info = json.loads((root / layout.INFO).read_text("utf-8"))
    episodes = _read_series(root, "meta/episodes")
    tasks = pq.read_table(root / layout.TASKS)
    _check_info(info, episodes, tasks, frames)
    _check_tasks(tasks)
    _check_episodes(info, episodes, tasks)
    _check_stats(info, json.loads((root / layout.STATS).read_text("utf-8")))
    _check_files(root, info, episodes)
    _check_rows(root, info, episodes, len(tasks), advance)


def _require(holds: Any, rule: str) -> None:
    if not holds:
        raise VerificationFailed(f"the dataset breaks its format: {rule}")


def _check_info(info: dict[str, Any], episodes: pa.Table, tasks: pa.Table, frames: int) -> None:
    _require(info["codebase_version"] == layout.CODEBASE_VERSION, "codebase_version is not v3.0")
    _require(isinstance(info["fps"], int) and info["fps"] > 0, "fps is no whole number above 0")
    _require(info["total_frames"] == frames, f"{info['total_frames']} frames where {frames} should be")
    _require(info["total_episodes"] == len(episodes), "total_episodes is not the number of episode rows")
    _require(info["total_tasks"] == len(tasks), "total_tasks is not the number of task rows")
    _require(info["splits"] == {"train": f"0:{len(episodes)}"}, "splits do not cover the episodes")
    features = info["features"]
    tail = dict(list(features.items())[-len(DEFAULT_FEATURES) :])
    _require(tail == DEFAULT_FEATURES, "the five default features do not end the list")
    for key, feature in features.items():
        _require("/" not in key, f"the feature {key} has a slash")
        names = feature["names"]
        _require(names is None or len(names) == feature["shape"][0], f"{key} has not a name per value")


def _check_tasks(tasks: pa.Table) -> None:
    names = tasks.column("task").to_pylist()
    _require(tasks.column("task_index").to_pylist() == list(range(len(names))), "tasks are out of order")
    _require(len(set(names)) == len(names), "a task stands twice")
    pandas = json.loads((tasks.schema.metadata or {}).get(b"pandas", b"{}"))
    _require(pandas.get("index_columns") == ["task"], "the task is not the index of the tasks")


def _check_episodes(info: dict[str, Any], episodes: pa.Table, tasks: pa.Table) -> None:
    _require(episodes.schema.equals(episodes_schema(info["features"])), "the episodes have other columns")
    _require(not any(column.null_count for column in episodes.columns), "an episode row has a null")
    lengths, begins, ends = (
        _numbers(episodes, name) for name in ("length", "dataset_from_index", "dataset_to_index")
    )
    _require(_counts_up(_numbers(episodes, "episode_index")), "episode_index is not the row's number")
    _require((lengths > 0).all(), "an episode is empty")
    _require((ends == np.cumsum(lengths)).all(), "dataset_to_index does not add up")
    _require((begins == ends - lengths).all(), "dataset_from_index does not add up")
    _require(ends[-1] == info["total_frames"], "the episodes are not all of the frames")
    known = set(tasks.column("task").to_pylist())
    named = set(episodes.column("tasks").combine_chunks().flatten().to_pylist())
    _require(named <= known, "an episode has a task that is not in the list")


def _check_stats(info: dict[str, Any], stats: dict[str, Any]) -> None:
    _require(set(stats) == set(info["features"]), "stats.json does not cover exactly the features")
    for key, feature in info["features"].items():
        found = stats[key]
        _require(found["count"] == [info["total_frames"]], f"the count of {key} is not that of the frames")
        for name in ("min", "max", "mean", "std", *QUANTILES):
            values = np.array(found[name])
            _require(values.shape == tuple(feature["shape"]), f"{name} of {key} has the wrong shape")
            _require(np.isfinite(values).all(), f"{name} of {key} is not finite")


def _check_files(root: Path, info: dict[str, Any], episodes: pa.Table) -> None:
    """One row group per episode, in the files that the episode rows name, and no other Parquet file."""
    schema = data_schema(info["features"])
    chunks, files = _numbers(episodes, "data/chunk_index"), _numbers(episodes, "data/file_index")
    lengths = _numbers(episodes, "length")
    seen = 0
    place = FIRST_PLACE
    for path in sorted(root.glob("data/*/*.parquet")):
        _require(path == root / place.data_path(), f"{path.name} breaks the numbering of the data files")
        with pq.ParquetFile(path) as file:
            _require(file.schema_arrow.equals(schema, check_metadata=True), f"{path.name} has other columns")
            rows = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        part = slice(seen, seen + len(rows))
        _require(lengths[part].tolist() == rows, f"the row groups of {path.name} are not the episodes")
        _require(
            (chunks[part] == place.chunk).all() and (files[part] == place.file).all(),
            f"the episodes in {path.name} name another file",
        )
        seen += len(rows)
        place = place.following()
    _require(seen == len(episodes), "there are more episode rows than row groups")


def _check_rows(
    root: Path, info: dict[str, Any], episodes: pa.Table, tasks: int, advance: Callable[[int, int], None]
) -> None:
    """What LeRobot takes for granted about every row's numbers."""
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
        on_grid = (frame / info["fps"]).astype(np.float32)
        _require((numbers["timestamp"] == on_grid).all(), "a timestamp is not frame_index / fps")
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
