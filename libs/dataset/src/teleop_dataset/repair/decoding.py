"""Which episodes' pictures can be decoded. Places alone don't tell: a hole in an mp4 moves none of them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import av

from teleop_dataset.errors import BrokenFile
from teleop_dataset.media import open_picture
from teleop_dataset.repair.pictures import ClipReader
from teleop_dataset.repair.rows import Episode, read_values
from teleop_dataset.v3.episodes import Clip
from teleop_dataset.v3.info import Features
from teleop_dataset.v3.layout import FileNumber

# The first of some frames of an mp4, and how many they are.
Stretch = tuple[int, int]
Problems = dict[int, str]

# Checksums of PNG count, too.
_STRICT = {"err_detect": "crccheck+explode"}


class Decoding:
    """Decodes a dataset's pictures, one at a time; what was looked at once is not decoded again.

    tell  told the pictures looked at and those to look at in all, after each
    """

    def __init__(self, tell: Callable[[int, int], None] = lambda _seen, _total: None) -> None:
        self._tell = tell
        self._seen = self._total = 0
        self._found: dict[tuple[str, Stretch], str] = {}

    def expect(self, pictures: int) -> None:
        """So many are to be looked at from here on."""
        self._seen, self._total = 0, pictures

    def read(
        self,
        path: Path,
        shape: Sequence[int],
        stretches: Mapping[int, Stretch],
        look: Callable[[int, Iterator[av.VideoFrame]], object],
    ) -> Problems:
        """Show `look` the frames of each episode in an mp4; why those can't be decoded that can't.

        stretches  by the episode's position, in the order of the file
        """
        problems: Problems = {}
        try:
            reader = ClipReader(path, shape)
        except (av.FFmpegError, BrokenFile, IndexError, OSError) as error:
            return dict.fromkeys(stretches, f"{path.name} can't be decoded: {error}")
        with closing(reader):
            for number, (first, frames) in stretches.items():
                try:
                    look(number, self._counted(reader.frames(first, frames)))
                except (BrokenFile, av.FFmpegError) as error:
                    problems[number] = f"{path.name} can't be decoded: {error}"
        return problems

    def broken_in_video(
        self, root: Path, name: str, shape: Sequence[int], stretches: Mapping[int, Stretch]
    ) -> Problems:
        """Why those episodes' frames in the mp4 `name` can't be decoded that can't."""
        new = {
            number: each for number, each in stretches.items() if each[1] and (name, each) not in self._found
        }
        in_order = dict(sorted(new.items(), key=lambda item: item[1]))
        problems = self.read(root / name, shape, in_order, lambda _, frames: deque(frames, maxlen=0))
        self._found |= {(name, each): problems.get(number, "") for number, each in new.items()}
        return _told({number: self._found.get((name, each), "") for number, each in stretches.items()})

    def broken_in_rows(self, root: Path, key: str, episodes: Mapping[int, Episode]) -> Problems:
        """Why those episodes' pictures that are kept in the rows can't be decoded that can't."""
        told = {}
        for number, episode in episodes.items():
            about = f"{episode.place.data_path()} {key}", (episode.begin, episode.length)
            if about not in self._found:
                self._found[about] = self._broken_picture(root, key, episode)
            told[number] = self._found[about]
        return _told(told)

    def _broken_picture(self, root: Path, key: str, episode: Episode) -> str:
        column = read_values(root, episode, [key]).column(key)
        for frame in range(episode.length):
            try:
                with open_picture(column[frame]["bytes"].as_py()) as file:
                    file.streams.video[0].codec_context.options = _STRICT
                    deque(self._counted(file.decode(video=0)), maxlen=0)
            except (av.FFmpegError, BrokenFile, IndexError, AttributeError, TypeError) as error:
                return f"picture {frame} of {key} can't be decoded: {error}"
        return ""

    def _counted(self, frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        for frame in frames:
            self._seen += 1
            self._tell(self._seen, self._total)
            yield frame


def stretches_by_file(
    clips: Mapping[int, Mapping[str, Clip]], camera: str, fps: float
) -> dict[FileNumber, dict[int, Stretch]]:
    """One camera's frames of some episodes, file by file; by the episode's position."""
    files: dict[FileNumber, dict[int, Stretch]] = {}
    for number, each in clips.items():
        clip = each[camera]
        first = round(clip.from_s * fps)
        files.setdefault(clip.place, {})[number] = (first, round(clip.to_s * fps) - first)
    return files


def find_broken_video(
    decoding: Decoding,
    root: Path,
    features: Features,
    fps: float,
    clips: Mapping[int, Mapping[str, Clip]],
) -> Problems:
    """Why those episodes can't be decoded whose clips in the videos can't, by position."""
    problems: Problems = {}
    for camera, feature in features.items():
        if feature["dtype"] == "video":
            for place, stretches in stretches_by_file(clips, camera, fps).items():
                problems |= decoding.broken_in_video(
                    root, place.video_path(camera), feature["shape"], stretches
                )
    return problems


def find_broken_rows(
    decoding: Decoding, root: Path, features: Features, episodes: Mapping[int, Episode]
) -> Problems:
    """Why those episodes can't be decoded whose pictures in the rows can't, by position."""
    problems: Problems = {}
    for key, feature in features.items():
        if feature["dtype"] == "image":
            problems |= decoding.broken_in_rows(root, key, episodes)
    return problems


def _told(problems: Problems) -> Problems:
    return {number: problem for number, problem in problems.items() if problem}
