"""Statistics of recovered episodes whose own row is lost: from their rows, and from their decoded video."""

from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from teleop_dataset.repair.decoding import Decoding, Problems, Stretch, stretches_by_file
from teleop_dataset.repair.episode_stats import EpisodeStats, describe_values
from teleop_dataset.repair.pictures import PictureStats
from teleop_dataset.repair.rows import Episode, read_values
from teleop_dataset.v3.episodes import WITHOUT_STATISTICS, Clip
from teleop_dataset.v3.image_stats import sampled_rows
from teleop_dataset.v3.info import Features


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


def describe_films(
    decoding: Decoding,
    root: Path,
    features: Features,
    fps: float,
    clips: Mapping[int, Mapping[str, Clip]],
    *,
    streamed: Container[str],
) -> tuple[dict[int, dict[str, EpisodeStats]], Problems]:
    """Statistics of some episodes' video, camera by camera, and why those left out can't be decoded.

    clips     by the episode's position
    streamed  cameras to describe as LeRobot's streaming encoder does: over all frames
    """
    films: dict[int, dict[str, EpisodeStats]] = {}
    problems: Problems = {}
    for camera, feature in features.items():
        if feature["dtype"] != "video":
            continue
        for place, stretches in stretches_by_file(clips, camera, fps).items():
            path = root / place.video_path(camera)
            stats, broken = _describe_film(decoding, path, feature, stretches, streamed=camera in streamed)
            problems |= broken
            for number, each in stats.items():
                films.setdefault(number, {})[camera] = each
    return films, problems


def _describe_film(
    decoding: Decoding,
    path: Path,
    feature: Mapping[str, Any],
    stretches: Mapping[int, Stretch],
    *,
    streamed: bool,
) -> tuple[dict[int, EpisodeStats], Problems]:
    found: dict[int, EpisodeStats] = {}

    def describe(number: int, frames: Iterator[av.VideoFrame]) -> None:
        _, length = stretches[number]
        chosen = range(length) if streamed else frozenset(sampled_rows(length).tolist())
        stats = PictureStats(feature, streamed=streamed)
        for position, frame in enumerate(frames):
            if position in chosen:
                stats.add_frame(frame)
        found[number] = stats.finish()

    return found, decoding.read(path, feature["shape"], stretches, describe)
