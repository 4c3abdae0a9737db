"""What `meta/` of a dataset says of it: features, tasks, episodes, and where their video is."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from teleop_schema.columns import MAX_COLUMN_BYTES, MAX_COLUMNS, VALUE_BYTES, Column
from teleop_schema.decoding import DECODE_ERRORS
from teleop_schema.depth import DepthUnit
from teleop_schema.disk.opening import open_regular
from teleop_schema.errors import BadInput
from teleop_schema.identifiers import check_camera_key
from teleop_schema.limits import MAX_TEXT_LENGTH
from teleop_schema.session import Camera, SessionDescription
from teleop_schema.words import counted

from teleop_dataset.errors import BrokenFile, NotImportable
from teleop_dataset.folder import MAX_DOCUMENT_BYTES
from teleop_dataset.importing.columns import plain_numbers, read_batches
from teleop_dataset.readiness import CONVERT
from teleop_dataset.repair.source import read_tasks
from teleop_dataset.v3 import layout
from teleop_dataset.v3.depth import depth_info
from teleop_dataset.v3.info import (
    ACTION,
    CAPTURE_TIME,
    DEFAULT_FEATURES,
    IMAGES,
    OBSERVATION_AGE,
    PICTURE_AGE,
    STATE,
)
from teleop_dataset.v3.layout import FileNumber

# All are held in memory, with their tasks and the places of their video.
MAX_EPISODES = 100_000
# Of all episodes; a year at 60 Hz.
MAX_FRAMES = 2_000_000_000
UNKNOWN_ROBOT = "unknown"
# What this backend adds to the datasets that it makes, and knows again.
OWN = (CAPTURE_TIME, OBSERVATION_AGE, PICTURE_AGE)


class _Feature(msgspec.Struct):
    dtype: str
    shape: list[int]
    names: Any = None
    info: dict[str, Any] | None = None


class _Info(msgspec.Struct):
    codebase_version: str
    fps: float
    features: dict[str, _Feature]
    total_episodes: int
    total_frames: int
    robot_type: str | None = None
    data_path: str = layout.DATA_TEMPLATE
    video_path: str | None = layout.VIDEO_TEMPLATE


class ImportedCamera(msgspec.Struct, frozen=True):
    """A camera; `feature` is its name in the dataset."""

    feature: str
    height: int
    width: int
    channels: int
    depth_unit: DepthUnit | None = None


class ImportedVideo(msgspec.Struct, frozen=True):
    """A file of one camera, whose pictures are, one after the other, those of the frames of `runs`: (first,
    end), ascending, one each."""

    camera: str
    path: str
    runs: list[tuple[int, int]]


@dataclass(frozen=True)
class _Clip:
    """Where the pictures of an episode are: from `first_picture` of the file at `path` on."""

    camera: str
    path: str
    first_picture: int
    first_frame: int
    count: int


@dataclass(frozen=True)
class Described:
    """What a dataset says of itself, checked.

    columns      kept per frame beyond state and action, named as in the dataset
    own          columns of OWN that it has
    cameras      by the name that they have in a session
    lengths      frames of each episode
    videos       files of the cameras, by camera and path
    notes        what a session does not have of the dataset, in words
    """

    fps: float
    robot_type: str
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    columns: tuple[Column, ...]
    own: tuple[str, ...]
    cameras: Mapping[str, ImportedCamera]
    tasks: Sequence[str]
    lengths: Sequence[int]
    videos: Sequence[ImportedVideo]
    notes: Sequence[str]

    @property
    def frames(self) -> int:
        """Of all episodes."""
        return sum(self.lengths)

    @property
    def widths(self) -> tuple[int, int]:
        """How many values state and action have."""
        return len(self.state_names), len(self.action_names)


def describe(root: Path) -> Described:
    """What the dataset in a folder says of itself; needs what is in its `meta/`.

    Raises NotImportable, BrokenFile.
    """
    info = _read_info(root)
    notes: list[str] = []
    cameras = dict(_cameras(info))
    columns = tuple(_columns(info, notes))
    names = {key: _names_of(info, key) for key in (STATE, ACTION)}
    if PICTURE_AGE in info.features:
        notes.append(f"{PICTURE_AGE} is left out: exports measure it again")
    if not any(names.values()):
        raise NotImportable(f"it has neither {STATE} nor {ACTION}", field="features")
    lengths, clips = _read_episodes(root, info, cameras)
    described = Described(
        fps=info.fps,
        robot_type=info.robot_type or UNKNOWN_ROBOT,
        state_names=names[STATE],
        action_names=names[ACTION],
        columns=columns,
        own=tuple(key for key in OWN if key in info.features),
        cameras=cameras,
        tasks=_tasks(root),
        lengths=lengths,
        videos=_videos(clips),
        notes=notes,
    )
    _check_as_session(described)
    return described


def _read_info(root: Path) -> _Info:
    try:
        with open_regular(root / layout.INFO) as file:
            text = file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise NotImportable(f"{layout.INFO}: {error.strerror}", field=layout.INFO) from None
    if len(text) > MAX_DOCUMENT_BYTES:
        raise NotImportable(f"{layout.INFO} is too large", field=layout.INFO, limit=MAX_DOCUMENT_BYTES)
    try:
        info = msgspec.json.decode(text, type=_Info)
    except DECODE_ERRORS as error:
        raise NotImportable(f"{layout.INFO}: {error}", field=layout.INFO) from None
    if not info.codebase_version.startswith("v3."):
        what = f"format {info.codebase_version} can't be imported"
        raise NotImportable(what, field="codebase_version", hint=CONVERT)
    if not (math.isfinite(info.fps) and info.fps > 0):
        raise NotImportable(f"{layout.INFO}: fps is not a number above 0", field="fps")
    if info.data_path != layout.DATA_TEMPLATE or info.video_path not in (layout.VIDEO_TEMPLATE, None):
        raise NotImportable("its files are not where LeRobot puts them", field="data_path")
    for key in DEFAULT_FEATURES:
        if key not in info.features:
            raise NotImportable(f"{layout.INFO} has no feature {key}", field="features")
    return info


def _names_of(info: _Info, key: str) -> tuple[str, ...]:
    """Names of a vector's values, in order; numbered ones where the dataset has none."""
    feature = info.features.get(key)
    if feature is None:
        return ()
    if len(feature.shape) != 1 or feature.dtype not in ("float32", "float64"):
        told = f"{key} is {feature.dtype} {feature.shape}"
        raise NotImportable(f"{told}: only vectors of floats can be imported", field=key)
    names = feature.names
    if isinstance(names, dict) and len(names) == 1:
        names = next(iter(names.values()))
    width = feature.shape[0]
    if isinstance(names, list) and len(names) == width and all(isinstance(name, str) for name in names):
        return tuple(names)
    return tuple(f"{key.rpartition('.')[2]}_{number}" for number in range(max(0, width)))


def _columns(info: _Info, notes: list[str]) -> Iterator[Column]:
    """The features that are kept as columns."""
    taken = {STATE, ACTION, *OWN, *DEFAULT_FEATURES}
    left = {key: each for key, each in info.features.items() if key not in taken and each.dtype != "video"}
    position = 0
    for key, feature in left.items():
        if feature.dtype == "image":
            raise NotImportable(
                f"the pictures of {key} are in the tables, not in videos",
                field=key,
                hint="lerobot-edit-dataset --operation.type convert_image_to_video makes videos of them",
            )
        if feature.dtype not in VALUE_BYTES and feature.dtype != "string":
            notes.append(f"{key} is left out: a session keeps no {feature.dtype}")
            continue
        if position == MAX_COLUMNS:
            raise NotImportable(f"it has more than {MAX_COLUMNS} further features", limit=MAX_COLUMNS)
        named = feature.names if _plain_names(feature.names) else None
        told = {"position": position, "name": key, "dtype": feature.dtype, "shape": feature.shape}
        try:
            column = msgspec.convert({**told, "names": named}, Column)
        except (msgspec.ValidationError, ValueError) as error:
            raise NotImportable(f"{key} can't be kept: {error}", field=key, limit=MAX_COLUMN_BYTES) from None
        position += 1
        yield column


def _plain_names(names: Any) -> bool:
    try:
        msgspec.convert(names, list[str] | dict[str, list[str]])
    except msgspec.ValidationError:
        return False
    return True


def _cameras(info: _Info) -> Iterator[tuple[str, ImportedCamera]]:
    for key, feature in info.features.items():
        if feature.dtype != "video":
            continue
        name = key.removeprefix(IMAGES)
        if name == key:
            hint = "lerobot-edit-dataset, or a rename of the feature, gives it another name"
            raise NotImportable(f"the camera {key} is not called {IMAGES}…", field=key, hint=hint)
        try:
            check_camera_key(name)
        except BadInput as error:
            raise NotImportable(f"{key}: {error.detail}", field=key) from None
        yield name, _camera(key, feature)


def _camera(key: str, feature: _Feature) -> ImportedCamera:
    if len(feature.shape) != 3:
        raise NotImportable(f"the shape of {key} is {feature.shape}", field=key)
    sides = dict(zip(("height", "width", "channels"), feature.shape, strict=True))
    if isinstance(feature.names, list) and sorted(feature.names, key=str) == ["channels", "height", "width"]:
        sides = dict(zip(feature.names, feature.shape, strict=True))
    height, width, channels = (sides[each] for each in ("height", "width", "channels"))
    about = feature.info or {}
    if not about.get("is_depth_map", about.get("video.is_depth_map", False)):
        return ImportedCamera(key, height, width, channels)
    unit: DepthUnit = "m" if about.get("depth_unit") == "m" else "mm"
    for name, value in depth_info(unit).items():
        if about.get(name, value) != value and name.startswith("video."):
            raise NotImportable(f"{key}: {name} is {about[name]}, this backend reads {value}", field=key)
    return ImportedCamera(key, height, width, channels, unit)


def _tasks(root: Path) -> list[str]:
    tasks = read_tasks(root)
    if not tasks:
        raise NotImportable(f"{layout.TASKS} is missing, or its tasks are not in order", field=layout.TASKS)
    for task in tasks:
        if len(task) > MAX_TEXT_LENGTH or "\0" in task:
            raise NotImportable("a task is too long, or no text", field=layout.TASKS, limit=MAX_TEXT_LENGTH)
    return tasks


def _read_episodes(
    root: Path, info: _Info, cameras: Mapping[str, ImportedCamera]
) -> tuple[list[int], list[_Clip]]:
    """Frames of each episode, and where its pictures are."""
    if not 0 < info.total_episodes <= MAX_EPISODES:
        what = f"it has {counted(info.total_episodes, 'episode')}"
        raise NotImportable(what, field="total_episodes", limit=MAX_EPISODES)
    lengths: list[int] = []
    clips: list[_Clip] = []
    first = 0
    wanted = ["episode_index", "length"]
    for camera in cameras.values():
        wanted += [
            f"videos/{camera.feature}/{each}" for each in ("chunk_index", "file_index", "from_timestamp")
        ]
    for batch in _batches(root, wanted):
        numbers = {name: plain_numbers(batch, name) for name in wanted}
        for row in range(batch.num_rows):
            index, length = int(numbers["episode_index"][row]), int(numbers["length"][row])
            if index != len(lengths) or length < 1 or first + length > info.total_frames:
                raise NotImportable(f"the table of episodes is out of order at episode {len(lengths)}")
            for name, camera in cameras.items():
                told = [
                    numbers[f"videos/{camera.feature}/{each}"][row] for each in ("chunk_index", "file_index")
                ]
                since_s = float(numbers[f"videos/{camera.feature}/from_timestamp"][row])
                clips.append(_clip(name, camera, told, since_s, info.fps, (first, length)))
            lengths.append(length)
            first += length
            if len(lengths) > info.total_episodes:
                break
    if len(lengths) != info.total_episodes or first != info.total_frames or first > MAX_FRAMES:
        raise NotImportable(
            f"{layout.INFO} tells of {counted(info.total_episodes, 'episode')} and "
            f"{counted(info.total_frames, 'frame')}, the table of episodes of {len(lengths)} and {first}",
            field="total_episodes",
        )
    return lengths, clips


def _batches(root: Path, wanted: list[str]) -> Iterator[pa.RecordBatch]:
    for path in sorted(root.glob("meta/episodes/*/*.parquet")):
        try:
            yield from read_batches(path, wanted)
        except (pa.ArrowException, BrokenFile, OSError, ValueError) as error:
            told = path.relative_to(root).as_posix()
            raise NotImportable(f"{told}: {getattr(error, 'detail', error)}", field=told) from None


def _clip(
    name: str,
    camera: ImportedCamera,
    file: Sequence[Any],
    since_s: float,
    fps: float,
    frames: tuple[int, int],
) -> _Clip:
    chunk, number = (int(each) for each in file)
    # An int64 is no number of a file, and a time before the file or after a year of it no place in it.
    if not (0 <= chunk < 10**6 and 0 <= number < 10**6 and 0 <= since_s < 1e8):
        raise NotImportable(f"the place of the video of {camera.feature} is not one", field=camera.feature)
    path = FileNumber(chunk, number).video_path(camera.feature)
    return _Clip(name, path, round(since_s * fps), *frames)


def _videos(clips: Sequence[_Clip]) -> list[ImportedVideo]:
    """The files, by camera in the order of their frames; raises NotImportable for one with other pictures."""
    runs: dict[tuple[str, str], list[tuple[int, int]]] = {}
    reached: dict[tuple[str, str], int] = {}
    for clip in clips:
        file = clip.camera, clip.path
        if clip.first_picture != reached.get(file, 0):
            raise NotImportable(
                f"{clip.path}: the pictures of the frames from {clip.first_frame} on begin with number "
                f"{clip.first_picture} of it, those before them end with {reached.get(file, 0)}",
                field=clip.path,
                hint="lerobot-edit-dataset writes its videos again",
            )
        reached[file] = clip.first_picture + clip.count
        known = runs.setdefault(file, [])
        end = clip.first_frame + clip.count
        if known and known[-1][1] == clip.first_frame:
            known[-1] = known[-1][0], end
        else:
            known.append((clip.first_frame, end))
    return [ImportedVideo(camera, path, each) for (camera, path), each in sorted(runs.items())]


def _check_as_session(described: Described) -> None:
    """Raise NotImportable unless a session may have these names, cameras and rate."""
    cameras = {
        name: {"height": each.height, "width": each.width, "fps": described.fps, "channels": each.channels}
        for name, each in described.cameras.items()
    }
    told = {
        "robot_type": described.robot_type,
        "fps": described.fps,
        "state_names": list(described.state_names),
        "action_names": list(described.action_names),
        "started_at_us": 0,
        "cameras": cameras,
    }
    try:
        msgspec.convert(told, SessionDescription)
        msgspec.convert(cameras, dict[str, Camera])
    except (msgspec.ValidationError, ValueError) as error:
        raise NotImportable(f"a session can't be described so: {error}", field="features") from None
    if sum(each.size_bytes for each in described.columns) > MAX_COLUMN_BYTES:
        raise NotImportable("a frame's further features take too much", limit=MAX_COLUMN_BYTES)
