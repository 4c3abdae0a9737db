"""`meta/` of a repaired dataset: intact parts stay as they are, the rest is computed again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from teleop_dataset.repair.episode_stats import EpisodeStats, add_up
from teleop_dataset.repair.rows import Episode
from teleop_dataset.v3 import layout
from teleop_dataset.v3.episodes import (
    NO_LABELS,
    OWN_PLACE,
    STATISTICS,
    WITHOUT_STATISTICS,
    Clip,
    episodes_schema,
)
from teleop_dataset.v3.files import open_parquet, write_document
from teleop_dataset.v3.info import Features
from teleop_dataset.v3.labels import COLUMNS
from teleop_dataset.v3.layout import FIRST_PLACE, FileNumber

Row = dict[str, Any]


@dataclass(frozen=True)
class Shard:
    """An episodes file of the source; `finished` says that it had its footer."""

    place: FileNumber
    table: pa.Table
    finished: bool


def episode_row(
    episode: Episode, tasks: Sequence[str], clips: Mapping[str, Clip], stats: Mapping[str, EpisodeStats]
) -> Row:
    """The row of an episode, without its own place."""
    row: Row = {
        "episode_index": episode.index,
        "tasks": [tasks[number] for number in episode.tasks],
        "length": episode.length,
        "data/chunk_index": episode.place.chunk,
        "data/file_index": episode.place.file,
        "dataset_from_index": episode.first,
        "dataset_to_index": episode.first + episode.length,
    }
    for camera, clip in clips.items():
        row[f"videos/{camera}/chunk_index"], row[f"videos/{camera}/file_index"] = clip.place
        row[f"videos/{camera}/from_timestamp"], row[f"videos/{camera}/to_timestamp"] = clip.from_s, clip.to_s
    for key, found in stats.items():
        row |= {f"stats/{key}/{name}": values.tolist() for name, values in found.items()}
    return row


def row_stats(row: Row, features: Features) -> dict[str, EpisodeStats]:
    """The statistics in an episode's row, for features with all of their statistics."""
    found = {}
    for key, feature in features.items():
        if feature["dtype"] not in WITHOUT_STATISTICS:
            values = {name: row.get(f"stats/{key}/{name}") for name in STATISTICS}
            if all(value is not None for value in values.values()):
                found[key] = {name: np.array(value) for name, value in values.items()}
    return found


def not_finite(row: Row, key: str) -> bool:
    """The episode has values of this feature that are infinite or not numbers."""
    found = [row.get(f"stats/{key}/{name}") for name in ("min", "max", "mean")]
    return any(value is not None and not np.isfinite(np.array(value, float)).all() for value in found)


def write_episodes(
    root: Path, shards: Sequence[Shard], rows: Sequence[Row], trusted: set[int], features: Features
) -> tuple[list[str], str | None]:
    """Write the episodes files; returns which shards could stay, and the path of the file for the rest.

    The shards that may stay are already below `root`; the others are removed.
    """
    kept = _intact(shards, len(rows), trusted)
    for shard in shards[len(kept) :]:
        (root / shard.place.episodes_path()).unlink()
    begin = sum(len(shard.table) for shard in kept)
    paths = [shard.place.episodes_path() for shard in kept]
    if begin == len(rows):
        return paths, None
    place = kept[-1].place.following() if kept else FIRST_PLACE
    own = dict(zip((name for name, _ in OWN_PLACE), place, strict=True))
    written = [row | own for row in rows[begin:]]
    # All episodes files of a dataset must have the same columns.
    schema = kept[0].table.schema if kept else _columns_of(written, features)
    table = pa.Table.from_pylist(written, schema)
    with open_parquet(root / place.episodes_path(), schema) as writer:
        writer.write_table(table)
    return paths, place.episodes_path()


def _columns_of(rows: Sequence[Row], features: Features) -> pa.Schema:
    """Those that each row has values for: LeRobot's tools give no statistics to features that they add, and
    stop at columns with nulls."""
    known = [
        each for each in episodes_schema(features) if all(row.get(each.name) is not None for row in rows)
    ]
    labels = COLUMNS if any(COLUMNS.names[0] in row for row in rows) else NO_LABELS
    own = len(OWN_PLACE)
    return pa.schema([*known[:-own], *labels, *known[-own:]])


def _intact(shards: Sequence[Shard], episodes: int, trusted: set[int]) -> list[Shard]:
    """The first shards that are finished and contain only rows of recovered episodes."""
    kept = []
    expected, place = 0, FIRST_PLACE
    for shard in shards:
        numbers = shard.table.column("episode_index").to_pylist()
        follows = numbers == list(range(expected, expected + len(numbers))) and shard.place == place
        if not (
            shard.finished and follows and expected + len(numbers) <= episodes and trusted.issuperset(numbers)
        ):
            break
        kept.append(shard)
        expected, place = expected + len(numbers), place.following()
    return kept


def write_info(root: Path, info: Mapping[str, Any], *, episodes: int, frames: int, tasks: int) -> None:
    """`info` with these totals, as LeRobot writes it."""
    document = dict(info) | {
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "splits": {"train": f"0:{episodes}"},
    }
    write_document(root, layout.INFO, document)


def stats_are_current(encoded: bytes, features: Features, frames: int) -> bool:
    """Whether a stats.json covers these features and exactly this many frames."""
    try:
        stats = json.loads(encoded)
        described = {key for key, each in features.items() if each["dtype"] not in WITHOUT_STATISTICS}
        complete = set(stats) == described and all(set(each) >= set(STATISTICS) for each in stats.values())
        return complete and bool(stats["index"]["count"] == [frames])
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def write_stats(root: Path, rows: Sequence[Row], features: Features) -> None:
    """stats.json, summed up from the episodes."""
    total = add_up(row_stats(row, features) for row in rows)
    document = {
        key: {name: values.tolist() for name, values in total[key].items()}
        for key in features
        if key in total
    }
    write_document(root, layout.STATS, document)
