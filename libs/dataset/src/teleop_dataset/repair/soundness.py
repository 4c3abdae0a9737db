"""Finds out whether there is anything to repair, so that a closed dataset is left alone."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import pyarrow as pa
import pyarrow.parquet as pq
from teleop_schema.errors import BackendError
from teleop_schema.words import counted

from teleop_dataset.flags import flag_episodes
from teleop_dataset.folder import MAX_DOCUMENT_BYTES, look
from teleop_dataset.readiness import what_is_unfinished
from teleop_dataset.repair.decoding import Decoding, find_broken_rows, find_broken_video
from teleop_dataset.repair.metadata import Row
from teleop_dataset.repair.own_stats import COMPARED, compare_rows
from teleop_dataset.repair.rows import Episode, RowReader
from teleop_dataset.repair.source import check_info, clips_of, unsaved_folders
from teleop_dataset.v3 import layout
from teleop_dataset.v3.episodes import PICTURES
from teleop_dataset.v3.info import Features
from teleop_dataset.v3.layout import FileNumber
from teleop_dataset.verify import verify


@dataclass(frozen=True)
class Soundness:
    """A dataset that lacks nothing.

    flags  faults that no repair would change
    """

    episodes: int
    frames: int
    flags: tuple[str, ...]

    def as_text(self) -> str:
        """The same as lines for people."""
        episodes, frames = counted(self.episodes, "episode"), counted(self.frames, "frame")
        first = f"nothing is wrong: {episodes}, {frames}; nothing was written"
        return "\n".join([first, *(f"note: {flag}" for flag in self.flags)])


def find_sound(source: Path, decoding: Decoding | None = None) -> Soundness | None:
    """The contents of the dataset if LeRobot can read all of it as it is; None if it needs a repair.

    Reads every row and decodes every picture, until something is wrong.

    decoding  learns what can be decoded, for a repair
    """
    seen = look(source)
    if seen.info is None or what_is_unfinished(seen) is not None:
        return None
    if seen.files[layout.STATS].size_bytes > MAX_DOCUMENT_BYTES:
        return None
    try:
        info = json.loads((source / layout.INFO).read_bytes())
        check_info(info)
        rows = RowReader(info["features"], info["fps"])
        for path, _ in seen.tables("data"):
            if rows.read(source / path, FileNumber.of(path)):
                return None
        dropped = flag_episodes(source, seen)
        verify(
            source,
            frames=seen.info.total_frames,
            advance=lambda _seen, _total: None,
            short={flag.episode for flag in dropped},
        )
        told = [row for path, _ in seen.tables("meta/episodes") for row in _told_rows(source / path)]
        own = dict(enumerate(zip(rows.episodes, told, strict=True)))
        other_rows, doubts = compare_rows(source, info["features"], own)
        if other_rows or _is_broken(source, info, own, decoding or Decoding()):
            return None
    except (
        BackendError,
        OSError,
        LookupError,
        TypeError,
        ValueError,
        RecursionError,
        MemoryError,
        pa.ArrowException,
        av.FFmpegError,
    ):
        # The repair reports what exactly is wrong.
        return None
    left = [
        f"{folder}/ holds pictures of an episode that was not saved"
        for folder in unsaved_folders(source, seen)
    ]
    return Soundness(seen.info.total_episodes, seen.info.total_frames, (*map(str, dropped), *doubts, *left))


def _told_rows(path: Path) -> list[Row]:
    """What the rows of an episodes file say of videos, and of values."""
    names = [
        name
        for name in pq.read_schema(path).names
        if name.startswith("videos/") or name.rpartition("/")[2] in COMPARED
    ]
    rows: list[Row] = pq.read_table(path, columns=names).to_pylist()
    return rows


def _is_broken(
    source: Path, info: dict[str, Any], own: dict[int, tuple[Episode, Row]], decoding: Decoding
) -> bool:
    """Whether a picture of any episode can't be decoded."""
    features: Features = info["features"]
    cameras = [key for key, feature in features.items() if feature["dtype"] == "video"]
    pictured = sum(feature["dtype"] in PICTURES for feature in features.values())
    decoding.expect(pictured * info["total_frames"])
    if find_broken_rows(decoding, source, features, {number: each for number, (each, _) in own.items()}):
        return True
    clips = {number: clips_of(row, cameras) for number, (_, row) in own.items()}
    return bool(find_broken_video(decoding, source, features, info["fps"], clips))
