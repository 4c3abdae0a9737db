"""Faults of single episodes in a dataset that is otherwise whole: frames that a camera dropped.

LeRobot does not notice: it looks pictures up by time, so the rest of the episode shows pictures
that are too early.
"""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from teleop_schema.words import counted

from teleop_dataset.errors import BrokenFile
from teleop_dataset.folder import DatasetSeen, VideoSeen, look
from teleop_dataset.v3.layout import FileNumber

_PLACE = ("chunk_index", "file_index")
_TIMES = ("from_timestamp", "to_timestamp")


@dataclass(frozen=True)
class EpisodeFlag:
    """An episode in which the number of a camera's frames differs from the number of rows.

    frames  number in the episode's row, or the real number in the file
    rows    number of rows in the episode
    """

    episode: int
    camera: str
    frames: int
    rows: int

    def __str__(self) -> str:
        frames, rows = counted(self.frames, "frame"), counted(self.rows, "row")
        return f"episode {self.episode}: {self.camera} has {frames} for {rows}"


def flag_episodes(dataset: Path, seen: DatasetSeen | None = None) -> list[EpisodeFlag]:
    """Every flag of the dataset's episodes, in order; for a torn dataset, those of its readable rows.

    seen    a look at it, if there was one
    raises  BrokenFile if meta/info.json or an episodes file with a footer can't be read
    """
    seen = seen or look(dataset)
    if seen.info is None or seen.info.fps <= 0:
        raise BrokenFile(seen.info_problem or "meta/info.json has no fps")
    flags: list[EpisodeFlag] = []
    for path, content in seen.tables("meta/episodes"):
        if content.row_groups is not None:
            for camera in seen.info.cameras:
                flags += _flags_of(dataset / path, camera, seen, seen.info.fps)
    return sorted(flags, key=lambda flag: (flag.episode, flag.camera))


def _flags_of(path: Path, camera: str, seen: DatasetSeen, fps: float) -> list[EpisodeFlag]:
    names = [f"videos/{camera}/{name}" for name in (*_PLACE, *_TIMES)]
    try:
        rows = pq.read_table(path, columns=["episode_index", "length", *names])
        columns = [rows.column(name).to_pylist() for name in ("episode_index", "length", *names)]
    except (OSError, KeyError, pa.ArrowException) as error:
        raise BrokenFile(f"{path.name}: {error}") from error
    found = []
    for episode, length, chunk, file, begin_s, end_s in zip(*columns, strict=True):
        video = seen.files.get(FileNumber(chunk, file).video_path(camera))
        content = video and video.content
        there = content.whole_frames if isinstance(content, VideoSeen) else 0
        first, end = round(begin_s * fps), round(end_s * fps)
        frames = max(0, min(end, there) - first)
        if frames != length:
            found.append(EpisodeFlag(episode, camera, frames, length))
    return found
