"""Statistics of recovered episodes whose own row is lost: from their rows, and from their decoded video."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from teleop_dataset.errors import BrokenFile
from teleop_dataset.repair.episode_stats import EpisodeStats, describe_values
from teleop_dataset.repair.pictures import PictureStats, decode_frames
from teleop_dataset.repair.rows import Episode, read_values
from teleop_dataset.v3.episodes import WITHOUT_STATISTICS, Clip
from teleop_dataset.v3.image_stats import sampled_rows
from teleop_dataset.v3.info import Features
from teleop_dataset.v3.layout import Place


def describe_rows(root: Path, episode: Episode, features: Features, fps: float) -> dict[str, EpisodeStats]:
    """Statistics of everything that is kept in the episode's rows, feature by feature."""
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
                # A damaged picture is no reason to lose the others.
                with suppress(av.FFmpegError, StopIteration, TypeError):
                    pictures.add_file(column[frame]["bytes"].as_py())
            found[key] = pictures.finish()
        elif key == "timestamp":
            # The recorder describes the times before they are stored in single precision.
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
) -> tuple[dict[int, EpisodeStats], str]:
    """Statistics of some episodes' frames in one mp4 file, and why those left out can't be decoded.

    clips     by episode_index, in the order of the file: where each is, and its frames
    streamed  as LeRobot's streaming encoder does: over all frames
    """
    wanted = {
        round(clip.from_s * fps) + frame: index
        for index, (clip, length) in clips.items()
        for frame in (range(length) if streamed else sampled_rows(length).tolist())
    }
    counts: dict[int, PictureStats] = {}
    problem = ""
    last = -1
    try:
        frames = decode_frames(path, list(wanted), feature["shape"])
        for number, frame in zip(wanted, frames, strict=True):
            index = wanted[number]
            if index not in counts:
                counts[index] = PictureStats(feature, streamed=streamed)
            counts[index].add_frame(frame)
            last = number
    except (BrokenFile, av.FFmpegError) as error:
        problem = f"{path.name} can't be decoded: {error}"
    whole = {
        index for index, (clip, length) in clips.items() if round(clip.from_s * fps) + length - 1 <= last
    }
    return {index: stats.finish() for index, stats in counts.items() if index in whole}, problem


def by_file(
    clips: list[dict[str, Clip]], camera: str, indexes: list[int], lengths: list[int]
) -> dict[Place, dict[int, tuple[Clip, int]]]:
    """Some episodes' clips of one camera and their frames, file by file."""
    files: dict[Place, dict[int, tuple[Clip, int]]] = {}
    for index in indexes:
        clip = clips[index][camera]
        files.setdefault(clip.place, {})[index] = (clip, lengths[index])
    return files
