"""Checks a dataset: whatever LeRobot reads the files on disk for is there, row by row.

This holds for what LeRobot records, and for what its tools make of it (merged, with added features, without
episodes), whose columns and files are laid out a little differently. `verify_written` has what only
`v3.writer` promises on top.
"""

import json
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from teleop_schema.words import counted

from teleop_dataset.v3 import layout
from teleop_dataset.v3.data import data_schema
from teleop_dataset.v3.episodes import places_schema
from teleop_dataset.v3.info import DEFAULT_FEATURES
from teleop_dataset.v3.layout import FileNumber
from teleop_dataset.v3.numbering import TOLERANCE_S
from teleop_dataset.v3.recorded_stats import read_blocks
from teleop_dataset.v3.tasks import TASK_COLUMNS
from teleop_dataset.verify_video import check_videos, require

_NUMBERING = list(DEFAULT_FEATURES)


def verify(
    root: Path,
    *,
    frames: int,
    advance: Callable[[int, int], None],
    short: Container[int] = frozenset(),
) -> None:
    """Raise VerificationFailed, saying which rule is broken, unless LeRobot finds everything in `root`.

    frames   how many it must have
    advance  called with the frames read so far and their total; may raise to stop
    short    episodes (by index) that are known to have fewer video frames than rows
    """
    info = json.loads((root / layout.INFO).read_text("utf-8"))
    episodes = read_places(root, info)
    tasks = pq.read_table(root / layout.TASKS)
    _check_info(info, episodes, tasks, frames)
    _check_tasks(tasks)
    _check_episodes(root, info, episodes, tasks)
    _check_stats(info, json.loads((root / layout.STATS).read_text("utf-8")))
    _check_files(root, info, episodes)
    check_videos(root, info, episodes, short)
    _check_rows(root, info, episodes, len(tasks), advance)


def read_places(root: Path, info: dict[str, Any]) -> pa.Table:
    """The columns of all episodes' rows that LeRobot finds an episode by, in their own types."""
    schema = places_schema(info["features"])
    parts = []
    for path in sorted(root.glob("meta/episodes/*/*.parquet")):
        # The statistics of every feature are most of the file, and not needed here.
        with pq.ParquetFile(path) as table:
            missing = sorted(set(schema.names) - set(table.schema_arrow.names))
            require(not missing, f"{path.name} has no column {missing[0] if missing else ''}")
            parts.append(table.read(columns=schema.names).select(schema.names).cast(schema))
    return pa.concat_tables(parts)


def _check_info(info: dict[str, Any], episodes: pa.Table, tasks: pa.Table, frames: int) -> None:
    require(info["codebase_version"] == layout.CODEBASE_VERSION, "codebase_version is not v3.0")
    require(isinstance(info["fps"], int | float) and info["fps"] > 0, "fps is not a number above 0")
    total: int = info["total_frames"]
    require(total == frames, f"{counted(total, 'frame')} where {frames} should be")
    require(info["total_episodes"] == len(episodes), "total_episodes is not the number of episode rows")
    require(info["total_tasks"] == len(tasks), "total_tasks is not the number of task rows")
    for key, feature in DEFAULT_FEATURES.items():
        found = info["features"].get(key, {})
        same = all(found.get(name) == feature[name] for name in ("dtype", "shape"))
        require(same, f"{key} is not among the features as one of the five default features")
    slashed = [key for key in info["features"] if "/" in key]
    require(not slashed, f"the feature {slashed[0] if slashed else ''} has a slash")


def _check_tasks(tasks: pa.Table) -> None:
    pandas = json.loads((tasks.schema.metadata or {}).get(b"pandas", b"{}"))
    index = pandas.get("index_columns") or [None]
    require(len(index) == 1 and index[0] in TASK_COLUMNS, "the task is not the index of the tasks")
    names = tasks.column(index[0]).to_pylist()
    require(tasks.column("task_index").to_pylist() == list(range(len(names))), "tasks are out of order")
    require(len(set(names)) == len(names), "a task appears twice")


def _check_episodes(root: Path, info: dict[str, Any], episodes: pa.Table, tasks: pa.Table) -> None:
    require(not any(column.null_count for column in episodes.columns), "an episode row has a null")
    lengths, begins, ends = (
        numbers_of(episodes, name) for name in ("length", "dataset_from_index", "dataset_to_index")
    )
    require(_counts_up(numbers_of(episodes, "episode_index")), "episode_index is not the row's number")
    require((lengths > 0).all(), "an episode is empty")
    require((ends == np.cumsum(lengths)).all(), "dataset_to_index is inconsistent")
    require((begins == ends - lengths).all(), "dataset_from_index is inconsistent")
    require(ends[-1] == info["total_frames"], "the episodes do not cover all frames")
    known = {task for name in TASK_COLUMNS if name in tasks.column_names for task in tasks[name].to_pylist()}
    for path in sorted(root.glob("meta/episodes/*/*.parquet")):
        # LeRobot's conversion of pictures to video leaves the column out.
        if "tasks" in pq.read_schema(path).names:
            named = set(
                pq.read_table(path, columns=["tasks"]).column("tasks").combine_chunks().flatten().to_pylist()
            )
            require(named <= known, "an episode has a task that is not in the list")


def _check_stats(info: dict[str, Any], stats: dict[str, Any]) -> None:
    # LeRobot's tools compute none of the features that they add.
    counted = stats.get("index", {}).get("count", [info["total_frames"]])
    require(counted == [info["total_frames"]], "the count of index in stats.json is not that of the frames")


def _check_files(root: Path, info: dict[str, Any], episodes: pa.Table) -> None:
    """Whole episodes, in the files that the episode rows name, and no other Parquet file."""
    schema = data_schema(info["features"])
    chunks, files = numbers_of(episodes, "data/chunk_index"), numbers_of(episodes, "data/file_index")
    ends = np.cumsum(numbers_of(episodes, "length"))
    begin = rows = 0
    for path in sorted(root.glob("data/*/*.parquet")):
        place = FileNumber.of(path.as_posix())
        found = pq.read_schema(path)
        same = sorted(found.names) == sorted(schema.names)
        require(
            same and all(_alike(found.field(each.name).type, each.type) for each in schema),
            f"{path.name} has other columns",
        )
        rows += pq.read_metadata(path).num_rows
        end = int(np.searchsorted(ends, rows)) + 1
        require(end <= len(ends) and ends[end - 1] == rows, f"{path.name} does not end with an episode")
        require(
            (chunks[begin:end] == place.chunk).all() and (files[begin:end] == place.file).all(),
            f"the episodes in {path.name} name another file",
        )
        begin = end
    require(begin == len(episodes), "there are more rows of episodes than episodes in the data files")


def stored_type(kind: pa.DataType) -> pa.DataType:
    """The type in the file, whichever extensions of Arrow are loaded."""
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _alike(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether `datasets` reads both as the same feature; pandas knows no lists of a fixed size."""
    found, wanted = stored_type(found), stored_type(wanted)
    if _is_list(found) and _is_list(wanted):
        return _alike(found.value_type, wanted.value_type)
    if pa.types.is_struct(found) and pa.types.is_struct(wanted):
        return {each.name for each in found} == {each.name for each in wanted}
    return bool(found == wanted)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind))


def _check_rows(
    root: Path, info: dict[str, Any], episodes: pa.Table, tasks: int, advance: Callable[[int, int], None]
) -> None:
    """Checks what LeRobot assumes about the numbers of every row."""
    begins = numbers_of(episodes, "dataset_from_index")
    row = 0
    for block in read_blocks(root, _NUMBERING):
        require(not any(column.null_count for column in block.columns), "a row has a null")
        numbers = {name: numbers_of(block, name) for name in _NUMBERING}
        index = np.arange(row, row + len(block))
        episode = np.searchsorted(begins, index, side="right") - 1
        frame = index - begins[episode]
        require((numbers["index"] == index).all(), "index is not the row's number")
        require((numbers["episode_index"] == episode).all(), "a row has another episode's index")
        require((numbers["frame_index"] == frame).all(), "frame_index does not count the episode's rows")
        late = np.abs(numbers["timestamp"] - (frame / info["fps"]).astype(np.float32))
        require((late < TOLERANCE_S).all(), "a timestamp is not frame_index / fps")
        task = numbers["task_index"]
        require(((task >= 0) & (task < tasks)).all(), "a task_index is not in the list")
        row += len(block)
        advance(row, info["total_frames"])
    require(row == info["total_frames"], f"{counted(row, 'row')} where {info['total_frames']} should be")


def numbers_of(table: pa.Table, name: str) -> npt.NDArray[Any]:
    """A column of numbers."""
    numbers: npt.NDArray[Any] = table.column(name).to_numpy()
    return numbers


def _counts_up(numbers: npt.NDArray[Any]) -> bool:
    return bool((numbers == np.arange(len(numbers))).all())
