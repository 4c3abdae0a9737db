"""What the torn dataset still says about itself: info.json, tasks, and its episodes' rows."""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from teleop_schema.disk.opening import open_regular
from teleop_schema.words import counted

from teleop_dataset.errors import NotRepairable
from teleop_dataset.folder import MAX_DOCUMENT_BYTES, DatasetSeen
from teleop_dataset.readiness import CONVERT
from teleop_dataset.repair.report import RepairReport
from teleop_dataset.repair.rows import Episode
from teleop_dataset.v3 import layout
from teleop_dataset.v3.episodes import NO_LABELS, Clip
from teleop_dataset.v3.files import write_document
from teleop_dataset.v3.info import DEFAULT_FEATURES
from teleop_dataset.v3.labels import COLUMNS, label_row
from teleop_dataset.v3.layout import FileNumber
from teleop_dataset.v3.tasks import TASK_COLUMNS

# LeRobot's features have no more.
MAX_DIMENSIONS = 5
# A limit, because all are held in memory, by name.
MAX_TASKS = 100_000


class _InfoFeature(msgspec.Struct):
    dtype: str
    shape: list[object]


class _Info(msgspec.Struct):
    """The parts of info.json that a repair needs and can't get from anywhere else."""

    codebase_version: str
    fps: float
    features: dict[str, _InfoFeature]


def read_info(source: Path, earlier: Path | None, report: RepairReport) -> dict[str, Any]:
    """`meta/info.json` of the dataset; if it is torn, an earlier one, or what is left of it.

    Raises NotRepairable if neither is enough, or the format is another.
    """
    # LeRobot rewrites it in place after each episode, so a kill may leave the first half of it.
    torn = _read_text(source / layout.INFO)
    info = _parsed(torn)
    if info is None and earlier is not None:
        info = _parsed(_read_text(earlier))
        report.flags.append(f"{layout.INFO} was torn: taken from {earlier.name}, as it was earlier")
    if info is None and (info := _salvaged(torn)) is not None:
        lost = "what followed the features (robot_type, file sizes)"
        report.lose(f"{lost} in {layout.INFO}", "the file is cut off; defaults are used instead")
    if info is None and not any((source / name).is_dir() for name in ("meta", "data")):
        raise NotRepairable(
            "there are no folders meta and data in it, so this is not a dataset",
            hint="name the folder of one dataset",
        )
    if info is None:
        raise NotRepairable(
            f"{layout.INFO} is missing or torn, and nothing else describes the columns",
            field=layout.INFO,
            hint="give one of the same recording, from an earlier backup: --info FILE",
        )
    check_info(info)
    return info


def check_info(info: dict[str, Any]) -> None:
    """Raise NotRepairable unless it describes the columns of a dataset."""
    try:
        known = msgspec.convert(info, _Info)
    except msgspec.ValidationError as error:
        raise NotRepairable(f"{layout.INFO}: {error}", field=layout.INFO) from error
    if not known.codebase_version.startswith("v3."):
        raise NotRepairable(
            f"format {known.codebase_version} is not supported", field="codebase_version", hint=CONVERT
        )
    if not (math.isfinite(known.fps) and known.fps > 0):
        raise NotRepairable(f"{layout.INFO}: fps is not a number above 0", field="fps")
    features = info["features"]
    if missing := [key for key in DEFAULT_FEATURES if key not in features]:
        raise NotRepairable(f"{layout.INFO} has no feature {missing[0]}", field="features")
    for key, feature in features.items():
        shape = feature["shape"]
        if len(shape) > MAX_DIMENSIONS:
            raise NotRepairable(f"{layout.INFO}: {key} has {len(shape)} dimensions", limit=MAX_DIMENSIONS)
        if not shape or not all(isinstance(length, int) and 0 < length < 2**31 for length in shape):
            raise NotRepairable(f"{layout.INFO}: the shape of {key} is {shape}", field="features")
        # Keys become folders of video.
        if "/" in key or feature["dtype"] == "language":
            raise NotRepairable(f"{layout.INFO}: the feature {key} is of an unknown kind", field="features")


def _read_text(path: Path) -> str:
    try:
        with open_regular(path) as file:
            # What is damaged shows when it is parsed; the keys before it can still be used.
            return file.read(MAX_DOCUMENT_BYTES).decode(errors="replace")
    except OSError:
        return ""


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _salvaged(text: str) -> dict[str, Any] | None:
    """The first keys of a document that is cut off, if they include the features."""
    decoder = json.JSONDecoder()
    found: dict[str, Any] = {}
    try:
        for key in ("codebase_version", "fps", "features"):
            position = text.index(f'"{key}":') + len(key) + 3
            found[key] = decoder.raw_decode(
                text, position + text[position:].index(text[position:].strip()[0])
            )[0]
    except (ValueError, IndexError, RecursionError):
        return None
    return found | {
        "chunks_size": layout.CHUNK_FILES,
        "data_files_size_in_mb": layout.DATA_FILE_MB,
        "video_files_size_in_mb": layout.VIDEO_FILE_MB,
        "data_path": layout.DATA_TEMPLATE,
        "video_path": layout.VIDEO_TEMPLATE,
        "robot_type": None,
    }


def read_tasks(source: Path) -> list[str]:
    """The tasks in their order; none if the file is torn."""
    try:
        with open_regular(source / layout.TASKS) as file:
            if pq.read_metadata(file).num_rows > MAX_TASKS:
                return []
            table = pq.read_table(file)
        name = next((each for each in TASK_COLUMNS if each in table.column_names), "task")
        numbers, tasks = table.column("task_index").to_pylist(), table.column(name).to_pylist()
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return []
    # Rows name a task by its number only, so one wrong number makes all others doubtful.
    sound = numbers == list(range(len(tasks))) and all(isinstance(task, str) for task in tasks)
    return tasks if sound and len(set(tasks)) == len(tasks) else []


class Lineage:
    """`meta/backend.json` of an exported dataset: what its episodes were made of, and their labels."""

    def __init__(self, source: Path) -> None:
        self._document = _parsed(_read_text(source / layout.PROVENANCE)) or {}
        told = self._document.get("episodes")
        self._episodes = {
            each["episode_index"]: each
            for each in (told if isinstance(told, list) else [])
            if isinstance(each, dict) and isinstance(each.get("episode_index"), int)
        }

    @property
    def columns(self) -> pa.Schema:
        """The labels that the rows of its episodes have."""
        return COLUMNS if any(map(label_row, self._episodes.values())) else NO_LABELS

    def labels(self, index: int) -> dict[str, Any]:
        """The columns of an episode's row; none if it has no labels."""
        return label_row(self._episodes.get(index, {}))

    def write(self, root: Path, numbers: Mapping[int, int]) -> bool:
        """Write it below `root` for episodes with other numbers; False if nothing is known of them.

        numbers  of the episodes in the repaired dataset, by those that they had
        """
        if not self._episodes:
            return False
        kept = [
            self._episodes[before] | {"episode_index": now}
            for before, now in sorted(numbers.items(), key=lambda each: each[1])
            if before in self._episodes
        ]
        write_document(root, layout.PROVENANCE, self._document | {"episodes": kept})
        return True


def complete_tasks(
    tasks: list[str],
    episodes: Sequence[tuple[Episode, Mapping[str, Any] | None]],
    report: RepairReport,
) -> list[str]:
    """`tasks` with a name for each that the rows use; lost names come from the episodes, or are invented.

    episodes  each with its own row, if there is one
    """
    used = max((number for episode, _ in episodes for number in episode.tasks), default=-1) + 1
    if used > MAX_TASKS:
        raise NotRepairable(f"the rows name {counted(used, 'task')}", field="task_index", limit=MAX_TASKS)
    told = {
        episode.tasks[0]: row["tasks"][0]
        for episode, row in episodes
        if row is not None and len(episode.tasks) == len(row["tasks"]) == 1
    }
    for number in range(len(tasks), used):
        name = told.get(number)
        if name is None or name in tasks:
            name = f"task {number}"
            report.lose(f"the text of task {number}", f"{layout.TASKS} is torn")
        tasks.append(name)
    return tasks


def trusted_rows(
    tables: Iterable[pa.Table], episodes: Sequence[Episode], cameras: Sequence[str]
) -> dict[int, dict[str, Any]]:
    """The episodes' own rows, where they agree with the data; by position in `episodes`."""
    numbers: dict[int, list[int]] = {}
    for number, episode in enumerate(episodes):
        numbers.setdefault(episode.index, []).append(number)
    return {
        number: row
        for table in tables
        for row in table.to_pylist()
        for number in numbers.get(row.get("episode_index"), ())
        if _agrees(row, episodes[number], cameras)
    }


def _agrees(row: Mapping[str, Any], episode: Episode, cameras: Sequence[str]) -> bool:
    told = [
        row.get(name)
        for name in (
            "length",
            "dataset_from_index",
            "dataset_to_index",
            "data/chunk_index",
            "data/file_index",
        )
    ]
    first, length = episode.first, episode.length
    if told != [length, first, first + length, *episode.place] or not row.get("tasks"):
        return False
    return all(_sound_clip(row, camera) for camera in cameras)


def _sound_clip(row: Mapping[str, Any], camera: str) -> bool:
    numbers = [row.get(f"videos/{camera}/{name}") for name in ("chunk_index", "file_index")]
    times = [row.get(f"videos/{camera}/{name}") for name in ("from_timestamp", "to_timestamp")]
    return all(isinstance(number, int) and number >= 0 for number in numbers) and all(
        isinstance(time, float) and 0 <= time < math.inf for time in times
    )


def clips_of(row: Mapping[str, Any], cameras: Sequence[str]) -> dict[str, Clip]:
    """The places of the episode's video according to its row, camera by camera."""
    return {
        camera: Clip(
            FileNumber(row[f"videos/{camera}/chunk_index"], row[f"videos/{camera}/file_index"]),
            row[f"videos/{camera}/from_timestamp"],
            row[f"videos/{camera}/to_timestamp"],
        )
        for camera in cameras
    }


def unsaved_folders(source: Path, seen: DatasetSeen) -> list[str]:
    """Temporary folders with pictures of an episode that was not saved; LeRobot leaves empty ones as well."""
    return [path for path in seen.temporary if any(files for *_, files in os.walk(source / path))]
