"""Checks what LeRobot assumes about a dataset's mp4 files, without decoding them.

LeRobot looks up a row's picture only by time, so a missing frame shifts the pictures of all rows after it,
and nobody notices.
"""

from collections.abc import Container
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from teleop_schema.words import counted

from teleop_dataset.errors import BrokenFile, VerificationFailed
from teleop_dataset.mp4_samples import samples_of
from teleop_dataset.v3.episodes import Clip
from teleop_dataset.v3.layout import FileNumber
from teleop_dataset.v3.numbering import TOLERANCE_S

Times = npt.NDArray[np.float64]


def check_videos(
    root: Path, info: dict[str, Any], episodes: pa.Table, short: Container[int] = frozenset()
) -> None:
    """Raise VerificationFailed unless each camera's files have the frames of the episodes, on time.

    episodes  all rows of meta/episodes, in order
    short     episodes (by index) that are known to have fewer frames than rows
    """
    for camera, feature in info["features"].items():
        if feature["dtype"] == "video":
            _check_camera(root, camera, info["fps"], episodes, short)


def clips_in_order(episodes: pa.Table, camera: str) -> list[Clip]:
    """Where the episodes' rows say that their video is."""
    columns = (
        episodes.column(f"videos/{camera}/{name}").to_pylist()
        for name in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
    )
    return [
        Clip(FileNumber(chunk, file), begin, end) for chunk, file, begin, end in zip(*columns, strict=True)
    ]


def _check_camera(root: Path, camera: str, fps: float, episodes: pa.Table, short: Container[int]) -> None:
    clips = clips_in_order(episodes, camera)
    lengths = episodes.column("length").to_pylist()
    places = [clip.place for clip in clips]
    # LeRobot appends, and its tools go from file to file as they go from episode to episode.
    require(places == sorted(places), f"the episodes are out of order in the videos of {camera}")
    for place in sorted(set(places)):
        path = place.video_path(camera)
        times, _ = read_times(root / path)
        reached_s = 0.0
        for number, clip in enumerate(clips):
            if clip.place != place:
                continue
            require(clip.from_s > reached_s - TOLERANCE_S, f"episodes overlap in {path}")
            reached_s = clip.to_s
            duration = clip.to_s - clip.from_s
            if number not in short:
                wrong = abs(duration - lengths[number] / fps) >= TOLERANCE_S
                require(not wrong, f"the duration of episode {number} in {path} is wrong")
        frames = round(reached_s * fps)
        require(len(times) >= frames, f"{path} has {counted(len(times), 'frame')} where {frames} should be")
        grid = np.arange(frames) / fps
        require(
            (np.abs(times[:frames] - grid) < TOLERANCE_S).all(), f"a frame of {path} is not shown on time"
        )


def read_times(path: Path) -> tuple[Times, npt.NDArray[np.bool_]]:
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


def require(holds: Any, rule: str) -> None:
    """Raise VerificationFailed unless it holds."""
    if not holds:
        raise VerificationFailed(f"the dataset breaks its format: {rule}")
