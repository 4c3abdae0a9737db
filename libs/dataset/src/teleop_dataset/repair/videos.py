"""Which frames of which mp4 files belong to which episode."""

from collections.abc import Mapping, Sequence

from teleop_dataset.folder import DatasetSeen, VideoSeen
from teleop_dataset.repair.rows import Episode
from teleop_dataset.v3.episodes import Clip
from teleop_dataset.v3.layout import Place


class NoVideo(Exception):
    """An episode's frames are not all there; says why.

    doubtful  the file in which it can't be told any more where each episode begins
    """

    def __init__(self, why: str, doubtful: Place | None = None) -> None:
        super().__init__(why)
        self.doubtful = doubtful


class CameraFiles:
    """One camera's mp4 files in order, and how far they are taken up by episodes."""

    def __init__(self, camera: str, seen: DatasetSeen, fps: float) -> None:
        self._camera = camera
        self._fps = fps
        self._files: dict[Place, VideoSeen] = {
            Place.of(file.path): video for file, video in seen.videos() if file.camera == camera
        }
        self._order = sorted(self._files)
        self._place: Place | None = None
        self._used_frames = 0
        self._used_s = 0.0

    def take_known(self, clip: Clip) -> Clip:
        """The frames that an episode's own row names; raises NoVideo if the file has not so many."""
        end = round(clip.to_s * self._fps)
        video = self._files.get(clip.place)
        if video is None:
            raise NoVideo(f"{clip.place.video_path(self._camera)} is missing")
        self._require(clip.place, video, end)
        self._take(clip.place, end, clip.to_s)
        return clip

    def take_next(self, length: int) -> Clip:
        """The next so many frames: of the file where the last episode ended, or of the file after it."""
        place, used, begin_s = self._place, self._used_frames, self._used_s
        if place is None or used == self._files[place].frames:
            later = [each for each in self._order if place is None or each > place]
            if not later:
                raise NoVideo(f"{self._camera} has no video of it")
            place, used, begin_s = later[0], 0, 0.0
        video = self._files[place]
        if used < video.frames < used + length and video.playable:
            raise NoVideo(
                f"{place.video_path(self._camera)} has {video.frames} frames, {used + length} are needed:"
                " frames were dropped while recording, and nothing tells where",
                place,
            )
        self._require(place, video, used + length)
        clip = Clip(place, begin_s, begin_s + length / self._fps)
        self._take(place, used + length, clip.to_s)
        return clip

    def _require(self, place: Place, video: VideoSeen, frames: int) -> None:
        path = place.video_path(self._camera)
        if video.problem:
            raise NoVideo(f"{path} can't be played: {video.problem}")
        if video.whole_frames < frames:
            cut = "is cut off after" if video.whole_frames < video.frames else "has"
            raise NoVideo(f"{path} {cut} {video.whole_frames} frames, {frames} are needed")

    def _take(self, place: Place, frames: int, until_s: float) -> None:
        self._place, self._used_frames, self._used_s = place, frames, until_s


def place_episodes(
    episodes: Sequence[Episode],
    known: Mapping[int, Mapping[str, Clip]],
    cameras: Sequence[str],
    seen: DatasetSeen,
    fps: float,
) -> tuple[list[dict[str, Clip]], str]:
    """The clips of each episode, camera by camera, up to the first that has not all of its frames, and why.

    known  the clips of those episodes whose own row is there
    """
    files = {camera: CameraFiles(camera, seen, fps) for camera in cameras}
    clips: list[dict[str, Clip]] = []
    for episode in episodes:
        rows = known.get(episode.index)
        found: dict[str, Clip] = {}
        for camera, each in files.items():
            try:
                found[camera] = each.take_known(rows[camera]) if rows else each.take_next(episode.length)
            except NoVideo as error:
                sure = clips if error.doubtful is None else _sure(clips, known, camera, error.doubtful)
                return sure, str(error)
        clips.append(found)
    return clips, ""


def _sure(
    clips: list[dict[str, Clip]], known: Mapping[int, object], camera: str, doubtful: Place
) -> list[dict[str, Clip]]:
    """The clips before the first whose place in the file was only counted up to."""
    for index, clip in enumerate(clips):
        if index not in known and clip[camera].place == doubtful:
            return clips[:index]
    return clips
