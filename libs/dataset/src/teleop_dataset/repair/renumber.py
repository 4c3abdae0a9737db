"""Numbers recovered episodes without gaps, as LeRobot requires, once lost ones are left out."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from teleop_dataset.repair.episode_stats import EpisodeStats
from teleop_dataset.repair.metadata import Row
from teleop_dataset.repair.rows import Episode, read_values
from teleop_dataset.v3.episodes import Clip
from teleop_dataset.v3.files import open_parquet
from teleop_dataset.v3.layout import FIRST_PLACE, FileNumber

# Columns, and their statistics, that change with an episode's number.
NUMBERS = ("episode_index", "index")


@dataclass(frozen=True)
class Whole:
    """A recovered episode.

    found, clips  the original places of its rows and its video
    row           its own row, if there is one
    films         statistics of its video, camera by camera, if it has no row
    """

    found: Episode
    clips: Mapping[str, Clip]
    row: Row | None = None
    films: Mapping[str, EpisodeStats] = field(default_factory=dict)


@dataclass(frozen=True)
class Numbered:
    """A recovered episode, and the new places of its rows and its video."""

    whole: Whole
    episode: Episode
    clips: Mapping[str, Clip]

    @property
    def stays(self) -> bool:
        """Whether nothing about it changes."""
        return self.whole.found == self.episode and self.whole.clips == self.clips


def renumber(
    episodes: Sequence[Whole], uncut: Container[tuple[str, FileNumber]] = frozenset()
) -> list[Numbered]:
    """The episodes one right after the other, in consecutively numbered files.

    uncut  videos (camera, place) in which they stay where they are
    """
    data = _places([each.found.place for each in episodes])
    videos = {
        camera: _places([each.clips[camera].place for each in episodes])
        for camera in (episodes[0].clips if episodes else ())
    }
    numbered: list[Numbered] = []
    for index, each in enumerate(episodes):
        last = numbered[-1] if numbered else None
        place = data[each.found.place]
        follows = last is not None and last.episode.place == place
        episode = replace(
            each.found,
            index=index,
            place=place,
            begin=last.episode.end if follows and last else 0,
            first=last.episode.first + last.episode.length if last else 0,
        )
        clips = {
            camera: replace(clip, place=videos[camera][clip.place])
            if (camera, clip.place) in uncut
            else _follow(clip, videos[camera][clip.place], last.clips[camera] if last else None)
            for camera, clip in each.clips.items()
        }
        numbered.append(Numbered(each, episode, clips))
    return numbered


def _places(places: Sequence[FileNumber]) -> dict[FileNumber, FileNumber]:
    new: dict[FileNumber, FileNumber] = {}
    following = FIRST_PLACE
    for place in sorted(set(places)):
        new[place] = following
        following = following.following()
    return new


def _follow(clip: Clip, place: FileNumber, last: Clip | None) -> Clip:
    begin_s = last.to_s if last is not None and last.place == place else 0.0
    if begin_s == clip.from_s:
        # LeRobot's own values stay, to the last bit.
        return Clip(place, begin_s, clip.to_s)
    return Clip(place, begin_s, begin_s + (clip.to_s - clip.from_s))


def rewrite(root: Path, target: Path, episodes: Sequence[Numbered]) -> None:
    """Write the rows of some episodes of one data file below `root` to another file, with new numbers."""
    source = root / episodes[0].whole.found.place.data_path()
    schema = pq.read_schema(source)
    with open_parquet(target, schema) as writer:
        for each in episodes:
            table = read_values(root, each.whole.found, schema.names)
            length = each.episode.length
            numbers = {
                "episode_index": np.full(length, each.episode.index),
                "index": each.episode.first + np.arange(length),
            }
            for name in NUMBERS:
                position = schema.get_field_index(name)
                table = table.set_column(
                    position, schema.field(position), pa.array(numbers[name], schema.field(position).type)
                )
            writer.write_table(table, row_group_size=length)
