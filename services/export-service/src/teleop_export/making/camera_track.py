"""One camera's way into a dataset: which picture each row has, its video files, its statistics. Blocks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
from teleop_dataset.v3.episodes import Clip
from teleop_dataset.v3.image_stats import PictureLevels, sampled_rows
from teleop_dataset.v3.info import VideoFeature
from teleop_dataset.v3.layout import FileLimits
from teleop_dataset.v3.stats import join
from teleop_schema.errors import BackendError

from teleop_export.errors import RecordingChanged
from teleop_export.making.media_process import HandedPictures, MediaProcess
from teleop_export.making.picture_table import SegmentPictures
from teleop_export.making.rows import MS_PER_US, Rows, ShownEpisodes
from teleop_export.making.video_source import NO_PICTURES, CameraPictures, Chunks, Files
from teleop_export.making.video_writer import VideoSeries, look
from teleop_export.planning.pieces import Piece, Source
from teleop_export.planning.report import CameraReport, EncodedEpisode
from teleop_export.timing.align import Matched, match
from teleop_export.timing.loop_times import Integers


class CameraTrack:
    """Takes a dataset's episodes in order."""

    def __init__(
        self,
        root: Path,
        camera: VideoFeature,
        sources: Mapping[int, tuple[Source, int]],
        chunks: Chunks,
        files: Files,
        *,
        fps: int,
        limits: FileLimits,
        rows: int,
        advance: Callable[[], None],
        media: MediaProcess,
    ) -> None:
        """
        sources  of each session: what it is made of, and which of its cameras this is
        rows     at most so many are there in all
        advance  called after every so many rows; may raise to stop
        media    handles the pictures
        """
        self.camera = camera
        self.levels = PictureLevels(camera)
        self.rows = 0
        # In the same folder, because there is room for the dataset; hidden, and gone before it is verified.
        self._scratch = root / f".{camera.name}.mp4"
        self._sources = sources
        self._chunks = chunks
        self._files = files
        self._fps = fps
        self._advance = advance
        self._media = media
        self._series = VideoSeries(root, camera, fps, limits, rows)
        self._footage: CameraPictures | None = None
        self._session: int | None = None
        self._used = self._stood_in = self._copied = 0
        self._seen: dict[int, npt.NDArray[np.bool_]] = {}
        self._encoded: list[EncodedEpisode] = []

    @property
    def files(self) -> int:
        """How many video files were begun."""
        return self._series.files

    @property
    def bytes(self) -> int:
        """Bytes of all pictures that were written."""
        return self._series.bytes

    def add(self, pieces: Sequence[Piece], episode_index: int, rows: Rows) -> ShownEpisodes:
        """Append episodes of one session.

        episode_index  of the first of them
        rows           of all of them
        raises         RecordingChanged, VideoUnreadable, OSError, and what `advance` raises
        """
        footage = self._open(pieces[0].session_id)
        matched = list(self._match(footage, pieces, rows))
        following = [each.number for each in matched[1:]] + [NO_PICTURES]
        clips, stats = [], []
        for number, (each, then) in enumerate(zip(matched, following, strict=True)):
            self._account(pieces[number].session_id, each)
            levels = PictureLevels(self.camera)
            clips.append(self._write(footage, each.number, then, episode_index + number, levels))
            stats.append(levels.describe())
            self.levels.merge(levels)
        shown = np.concatenate([each.number for each in matched])
        age_us = rows.sample_us - footage.pictures.captured_us[shown]
        return ShownEpisodes(clips, join(stats), (age_us * MS_PER_US).astype(np.float32))

    def report(self, recorded: int) -> CameraReport:
        """What became of the pictures, of which so many were recorded."""
        return CameraReport(
            camera=self.camera.name,
            recorded=recorded,
            used=self._used,
            unused=recorded - self._used,
            repeated=self.rows - self._used,
            stood_in=self._stood_in,
            copied=self._copied,
            encoded=self._encoded,
        )

    def close(self) -> None:
        """Complete the last video file; raises OSError, but closes everything even then."""
        try:
            self._series.close()
        finally:
            if self._footage is not None:
                self._footage.close()
                self._footage = None

    def _open(self, session_id: int) -> CameraPictures:
        # Episodes come session by session, so one session's video is known at a time.
        if self._footage is None or self._session != session_id:
            if self._footage is not None:
                self._footage.close()
            source, position = self._sources[session_id]
            self._footage = CameraPictures.read(
                self._chunks,
                self._files,
                self._media.open,
                session_id,
                self.camera.name,
                source.chunks[position],
            )
            self._session = session_id
            pictures = len(self._footage.pictures.captured_us)
            self._seen.setdefault(session_id, np.zeros(pictures, np.bool_))
        return self._footage

    def _match(self, footage: CameraPictures, pieces: Sequence[Piece], rows: Rows) -> Iterator[Matched]:
        """Which picture each row has, episode by episode."""
        every, begin = rows.index, 0
        for piece, length in zip(pieces, rows.lengths, strict=True):
            within = slice(begin, begin + length)
            index = every[within]
            source, _ = self._sources[piece.session_id]
            matched = match(
                footage.pictures, index=index, sample_us=rows.sample_us[within], loop_fps=source.fps
            )
            # The plan left out frames without a picture; since then a chunk was removed.
            if (matched.number < 0).any():
                raise RecordingChanged(
                    f"session {piece.session_id} no longer has a picture of camera "
                    f"{self.camera.name} for frame {int(index[np.argmin(matched.number)])}"
                )
            yield matched
            begin += length

    def _account(self, session_id: int, matched: Matched) -> None:
        different = np.unique(matched.number)
        seen = self._seen[session_id]
        # A picture that several rows show was recorded once, and is counted once.
        self._used += int(np.count_nonzero(~seen[different]))
        seen[different] = True
        self._stood_in += int(np.count_nonzero(matched.cause))

    def _write(
        self,
        footage: CameraPictures,
        numbers: Integers,
        then: Integers,
        episode_index: int,
        levels: PictureLevels,
    ) -> Clip:
        """Append an episode of these pictures; of those that come `then` the first files are fetched."""
        looked = look(footage.parts(numbers), self.camera)
        followed = self._followed(footage, numbers, then, levels)
        if looked.obstacle is None:
            clip = self._series.add(followed, looked)
            self._copied += 1
            return clip
        self._encoded.append(EncodedEpisode(episode_index=episode_index, reason=looked.obstacle))
        try:
            self._media.encode(self._scratch, self._fps, followed)
            with closing(self._media.open(self._scratch)) as segment:
                whole = SegmentPictures(segment, np.arange(segment.pictures))
                again = look([whole], self.camera)
                if again.obstacle is not None:
                    raise BackendError(f"the re-encoded video can't be used: {again.obstacle}")
                return self._series.add([whole], again)
        finally:
            # Verification refuses a file that no dataset has.
            self._scratch.unlink(missing_ok=True)

    def _followed(
        self, footage: CameraPictures, numbers: Integers, then: Integers, levels: PictureLevels
    ) -> Iterator[SegmentPictures]:
        """An episode's parts; once one is done, `levels` has those of its pictures that are looked
        at: so a segment is fetched and opened once for both."""
        rows = sampled_rows(len(numbers))
        begin = 0
        for part in footage.parts(numbers, then):
            yield part
            end = begin + len(part.numbers)
            within = slice(*np.searchsorted(rows, [begin, end]))
            assert isinstance(part.segment, HandedPictures)  # noqa: S101
            part.segment.look(part.numbers[rows[within] - begin], levels)
            self.rows += end - begin
            self._advance()
            begin = end
