"""Statistics of recovered episodes whose own row is lost: from their rows, and from their decoded video."""

from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from teleop_dataset.errors import BrokenFile
from teleop_dataset.repair.episode_stats import EpisodeStats, describe_values
from teleop_dataset.repair.pictures import ClipReader, PictureStats
from teleop_dataset.repair.rows import Episode, read_values
from teleop_dataset.v3.episodes import WITHOUT_STATISTICS, Clip
from teleop_dataset.v3.image_stats import sampled_rows
from teleop_dataset.v3.info import Features
from teleop_dataset.v3.layout import FileNumber


def describe_rows(root: Path, episode: Episode, features: Features, fps: float) -> dict[str, EpisodeStats]:
    """Statistics of everything in the episode's rows, feature by feature."""
    kept = {
        key: feature
        for key, feature in features.items()
        if feature["dtype"] != "video" and feature["dtype"] not in WITHOUT_STATISTICS
    }
    found = {}
    for key, feature in kept.items():
        column = read_values(root, episode, [key]).column(key).combine_chunks()
        if feature["dtype"] == "image":
            pictures = PictureStats(feature)
            for frame in sampled_rows(episode.length).tolist():
                # One damaged picture must not cost the others.
                with suppress(av.FFmpegError, StopIteration, TypeError):
                    pictures.add_file(column[frame]["bytes"].as_py())
            found[key] = pictures.finish()
        elif key == "timestamp":
            # The recorder computes these statistics before times are stored in single precision.
            found[key] = describe_values(np.arange(episode.length) / fps)
        else:
            found[key] = describe_values(_numbers(column, feature["shape"]))
    return found


def _numbers(column: Any, shape: list[int]) -> npt.NDArray[Any]:
    values = column
    while pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
        values = values.flatten()
    numbers: npt.NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return numbers.reshape(len(column), *(shape if shape != [1] else []))


def describe_film(
    path: Path,
    feature: Mapping[str, Any],
    clips: Mapping[int, tuple[Clip, int]],
    fps: float,
    *,
    streamed: bool,
) -> tuple[dict[int, EpisodeStats], dict[int, str]]:
    """Statistics of some episodes' frames in one mp4 file, and why the missing ones can't be decoded.

    clips     by the episode's position, in the order of the file: where each is, and its frames
    streamed  as LeRobot's streaming encoder does: over all frames
    """
    found: dict[int, EpisodeStats] = {}
    problems: dict[int, str] = {}
    try:
        reader = ClipReader(path, feature["shape"])
    except (av.FFmpegError, IndexError) as error:
        return {}, dict.fromkeys(clips, f"{path.name} can't be decoded: {error}")
    with closing(reader):
        for number, (clip, length) in clips.items():
            chosen = range(length) if streamed else frozenset(sampled_rows(length).tolist())
            stats = PictureStats(feature, streamed=streamed)
            try:
                for position, frame in enumerate(reader.frames(round(clip.from_s * fps), length)):
                    if position in chosen:
                        stats.add_frame(frame)
                found[number] = stats.finish()
            except (BrokenFile, av.FFmpegError) as error:
                problems[number] = f"{path.name} can't be decoded: {error}"
    return found, problems


def by_file(
    clips: Mapping[int, Mapping[str, Clip]], camera: str, lengths: Mapping[int, int]
) -> dict[FileNumber, dict[int, tuple[Clip, int]]]:
    """One camera's clips of the episodes that `lengths` names, and their frames, file by file."""
    files: dict[FileNumber, dict[int, tuple[Clip, int]]] = {}
    for number, length in lengths.items():
        clip = clips[number][camera]
        files.setdefault(clip.place, {})[number] = (clip, length)
    return files
