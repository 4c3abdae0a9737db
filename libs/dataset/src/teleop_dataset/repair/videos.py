"""Finds out which frames of which mp4 files belong to which episode."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from teleop_schema.words import counted

from teleop_dataset.errors import VerificationFailed
from teleop_dataset.folder import DatasetSeen, VideoSeen
from teleop_dataset.repair.rows import Episode
from teleop_dataset.v3.episodes import Clip
from teleop_dataset.v3.layout import FIRST_PLACE, FileNumber
from teleop_dataset.verify_video import read_times

Clips = dict[str, Clip]


class NoVideo(Exception):
    """An episode's frames are not all there; says why."""


class CameraFiles:
    """One camera's mp4 files in order, and which part of them is assigned to episodes.

    The row of an episode says where its video is. Episodes without a row follow each other, so their frames
    are counted from the last known place on.
    """

    def __init__(self, camera: str, seen: DatasetSeen, fps: float) -> None:
        self._camera = camera
        self._fps = fps
        self._files: dict[FileNumber, VideoSeen] = {
            FileNumber.of(file.own_path): video for file, video in seen.videos() if file.camera == camera
        }
        self._place: FileNumber | None = None
        self._used_frames = 0
        self._used_s = 0.0
        # Why the beginning of the next episode is unknown.
        self._astray = ""
        self._counted: dict[int, FileNumber] = {}
        self._found: dict[int, Clip | str] = {}

    def place(self, episodes: Sequence[Episode], known: Mapping[int, Clips]) -> dict[int, Clip | str]:
        """The clip of each episode, or why it has none, by its position in `episodes`.

        known  the clips from the episodes' own rows, by position
        """
        next_index = next_first = 0
        for number, episode in enumerate(episodes):
            self._pass_over(episode, next_index, next_first)
            next_index, next_first = episode.index + 1, episode.first + episode.length
            try:
                if number in known:
                    self._found[number] = self._take_known(known[number][self._camera])
                else:
                    self._found[number] = self._take_next(number, episode.length)
            except NoVideo as error:
                self._found[number] = str(error)
        return self._found

    def _pass_over(self, episode: Episode, next_index: int, next_first: int) -> None:
        """Skip the frames of episodes before this one whose rows are lost."""
        lost = episode.first - next_first
        if (lost > 0) != (episode.index > next_index) or lost < 0 or episode.index < next_index:
            self._astray = "rows before it are lost, and the number of their frames is unknown"
        while lost and not self._astray:
            try:
                place, used, begin_s = self._next()
            except NoVideo as error:
                self._astray = str(error)
                return
            frames = min(lost, self._files[place].frames - used)
            self._take(place, used + frames, begin_s + frames / self._fps)
            lost -= frames

    def _take_known(self, clip: Clip) -> Clip:
        """The frames that an episode's own row names; raises NoVideo if the file has fewer."""
        begin, end = round(clip.from_s * self._fps), round(clip.to_s * self._fps)
        before = self._files.get(self._place) if self._place else None
        ended = before is not None and before.frames == self._used_frames
        if (
            not self._astray
            and (self._place, self._used_frames) != (clip.place, begin)
            and not (ended and not begin)
        ):
            self._doubt(self._place)
        self._take(clip.place, end, clip.to_s)
        self._astray = ""
        video = self._files.get(clip.place)
        if video is None:
            raise NoVideo(f"{clip.place.video_path(self._camera)} is missing")
        self._require(clip.place, video, end)
        return clip

    def _take_next(self, number: int, length: int) -> Clip:
        """The next frames, in the file where the last episode ended, or in the file after it."""
        place, used, begin_s = self._next()
        video = self._files[place]
        if video.frames < used + length and (used or video.playable):
            self._astray = (
                f"{place.video_path(self._camera)} has {counted(video.frames, 'frame')}, but needs "
                f"{used + length}: frames were dropped while recording, and their places are unknown"
            )
            self._doubt(place)
            raise NoVideo(self._astray)
        clip = Clip(place, begin_s, begin_s + length / self._fps)
        self._take(place, used + length, clip.to_s)
        self._require(place, video, used + length)
        self._counted[number] = place
        return clip

    def _next(self) -> tuple[FileNumber, int, float]:
        """The place of the next frame: file, number in it, time; raises NoVideo."""
        if self._astray:
            raise NoVideo(self._astray)
        place, used, begin_s = self._place, self._used_frames, self._used_s
        video = self._files.get(place) if place else None
        if place is None or (video is not None and used >= video.frames):
            place, used, begin_s = place.following() if place else FIRST_PLACE, 0, 0.0
            video = self._files.get(place)
        if video is None and all(each < place for each in self._files):
            raise NoVideo(f"{self._camera} has no video of it")
        if video is None or video.problem:
            why = f"can't be played: {video.problem}" if video else "is missing"
            self._astray = f"{place.video_path(self._camera)} {why}"
            raise NoVideo(self._astray)
        return place, used, begin_s

    def _doubt(self, place: FileNumber | None) -> None:
        """Undo the counting in a file whose frames do not come out even."""
        for number, file in self._counted.items():
            if file == place:
                self._found[number] = (
                    f"{file.video_path(self._camera)} lacks frames that were dropped while "
                    "recording, and their places are unknown"
                )

    def _require(self, place: FileNumber, video: VideoSeen, frames: int) -> None:
        path = place.video_path(self._camera)
        if video.problem:
            raise NoVideo(f"{path} can't be played: {video.problem}")
        if video.whole_frames < frames:
            cut = "is cut off after" if video.whole_frames < video.frames else "has"
            raise NoVideo(f"{path} {cut} {counted(video.whole_frames, 'frame')}, but needs {frames}")

    def _take(self, place: FileNumber, frames: int, until_s: float) -> None:
        self._place, self._used_frames, self._used_s = place, frames, until_s


def place_episodes(
    episodes: Sequence[Episode],
    known: Mapping[int, Clips],
    cameras: Sequence[str],
    seen: DatasetSeen,
    fps: float,
) -> tuple[dict[int, Clips], dict[int, str]]:
    """The clips of each episode with all of its frames, and why the others have none; by position.

    known  the clips of the episodes that have their own row
    """
    clips: dict[int, Clips] = {number: {} for number in range(len(episodes))}
    lost: dict[int, str] = {}
    for camera in cameras:
        for number, found in CameraFiles(camera, seen, fps).place(episodes, known).items():
            if isinstance(found, str):
                lost.setdefault(number, found)
            else:
                clips[number][camera] = found
    return {number: each for number, each in clips.items() if number not in lost}, lost


def uncuttable(source: Path, clips: Sequence[Clips], fps: float) -> set[tuple[str, FileNumber]]:
    """The videos (camera, place) in which a clip begins between keyframes: nothing before it can be left out.

    LeRobot makes such videos when it converts a dataset of pictures: all episodes are encoded as one.
    """
    begins: dict[tuple[str, FileNumber], set[int]] = {}
    for each in clips:
        for camera, clip in each.items():
            begins.setdefault((camera, clip.place), set()).add(round(clip.from_s * fps))
    found = set()
    for (camera, place), firsts in begins.items():
        try:
            _, keyframes = read_times(source / place.video_path(camera))
        except VerificationFailed:
            continue  # it is torn, as only recorders leave them
        if not all(keyframes[first] for first in firsts if first < len(keyframes)):
            found.add((camera, place))
    return found
