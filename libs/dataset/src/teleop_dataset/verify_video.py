"""Checks what LeRobot assumes about a dataset's mp4 files, without decoding them.

LeRobot looks up a row's picture only by time,
so a missing frame shifts the pictures of all rows after it, and nobody notices.
"""

from collections.abc import Container
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from teleop_dataset.errors import BrokenFile, VerificationFailed
from teleop_dataset.mp4_samples import samples_of
from teleop_dataset.v3.layout import FIRST_PLACE, FileNumber
from teleop_dataset.v3.numbering import TOLERANCE_S, pictures_are_found

Times = npt.NDArray[np.float64]


def check_videos(
    root: Path,
    info: dict[str, Any],
    episodes: pa.Table,
    short: Container[int] = frozenset(),
    *,
    single_precision: bool = False,
) -> None:
    """Raise VerificationFailed unless each camera's files have exactly the frames of the episodes.

    episodes          all rows of meta/episodes, in order
    short             episodes (by index) that are known to have fewer frames than rows
    single_precision  LeRobotDataset must find them with what it computes of times
    """
    for camera, feature in info["features"].items():
        if feature["dtype"] == "video":
            _check_camera(root, camera, info["fps"], episodes, short, single_precision=single_precision)


def _check_camera(
    root: Path,
    camera: str,
    fps: float,
    episodes: pa.Table,
    short: Container[int],
    *,
    single_precision: bool,
) -> None:
    chunks, files, begins, ends = (
        episodes.column(f"videos/{camera}/{name}").to_pylist()
        for name in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
    )
    lengths = episodes.column("length").to_pylist()
    places = [FileNumber(chunk, file) for chunk, file in zip(chunks, files, strict=True)]
    named = sorted(set(places))
    # LeRobot appends, and its tools go from file to file as they go from episode to episode.
    _require(places == sorted(places), f"the episodes are out of order in the videos of {camera}")
    expected = FIRST_PLACE
    for place in named:
        path = place.video_path(camera)
        _require(place == expected, f"{path} breaks the numbering of the video files")
        expected = place.following()
        times, keyframes = _read_times(root / path)
        within = [episode for episode, each in enumerate(places) if each == place]
        _require(not begins[within[0]], f"the first episode in {path} does not begin at 0")
        for before, after in pairwise(within):
            _require(
                abs(begins[after] - ends[before]) < TOLERANCE_S, f"there is a gap between episodes in {path}"
            )
        for episode in within:
            what = f"of episode {episode} in {path}"
            duration = ends[episode] - begins[episode]
            if episode not in short:
                _require(
                    abs(duration - lengths[episode] / fps) < TOLERANCE_S, f"the duration {what} is wrong"
                )
            first = round(begins[episode] * fps)
            # Else what is shown there builds upon pictures of another episode, and can't be cut out without
            # them.
            _require(first < len(times) and keyframes[first], f"the beginning {what} is not a keyframe")
            found = not single_precision or pictures_are_found(first, lengths[episode], fps)
            _require(found, f"the time {what} is too late for LeRobot to tell its pictures apart")
        frames = round(ends[within[-1]] * fps)
        _require(len(times) == frames, f"{path} has {len(times)} frames where {frames} should be")
        grid = np.arange(frames) / fps
        _require((np.abs(times - grid) < TOLERANCE_S).all(), f"a frame of {path} is not shown on time")
    present = {path.relative_to(root).as_posix() for path in root.glob(f"videos/{camera}/*/*.mp4")}
    foreign = sorted(present - {place.video_path(camera) for place in named})
    _require(not foreign, f"no episode names {foreign[0] if foreign else ''}")


def _read_times(path: Path) -> tuple[Times, npt.NDArray[np.bool_]]:
    """When each frame is shown, in seconds, ascending, and whether it is a keyframe; without decoding."""
    try:
        samples = samples_of(path)
    except (OSError, IndexError, av.FFmpegError, BrokenFile) as error:
        raise VerificationFailed(
            f"the dataset breaks its format: {path.name} can't be played: {error}"
        ) from error
    order = np.argsort(samples.pts)
    order = order[samples.shown[order]]
    keyframes = samples.keyframe[order]
    # Hidden pictures, upon which the first shown one builds, may be before it.
    keyframes[:1] |= samples.keyframe[:1] & ~samples.shown[:1]
    return samples.pts[order] / samples.ticks_per_s, keyframes


def _require(holds: Any, rule: str) -> None:
    if not holds:
        raise VerificationFailed(f"the dataset breaks its format: {rule}")
