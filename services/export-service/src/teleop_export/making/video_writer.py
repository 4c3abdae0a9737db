"""A camera's mp4 files: episodes back to back, copied as they were recorded wherever that is possible."""

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from teleop_dataset.v3.episodes import Clip
from teleop_dataset.v3.info import VideoFeature
from teleop_dataset.v3.layout import FIRST_PLACE, FileLimits
from teleop_dataset.v3.numbering import pictures_are_found

from teleop_export.errors import NotStreamable, VideoUnreadable
from teleop_export.making.mp4_writer import Mp4Writer
from teleop_export.making.picture_table import PictureTable, SegmentPictures
from teleop_export.timing.loop_times import Integers

# Encoders by what they make, and their settings. Every picture is a keyframe, as in what the robot's own
# encoder makes: so all of it can be copied by whoever edits the dataset later.
_ENCODERS = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1"}
_RGB_ENCODER, _RGB_FORMAT = "libx264rgb", "rgb24"
_SETTINGS = {
    "libx264": {"preset": "ultrafast", "crf": "18"},
    "libx264rgb": {"preset": "ultrafast", "qp": "0"},
    "libx265": {"preset": "ultrafast", "crf": "18", "x265-params": "log-level=error"},
    "libsvtav1": {"preset": "12", "crf": "30"},
}
# Codes of depth stand for what they are: none may become another.
_DEPTH_SETTINGS = {"preset": "ultrafast", "x265-params": "log-level=error:lossless=1"}

# A picture is decoded this many earlier than shown, as in what LeRobot's encoders write. Else its merging
# finds two packets due at once where such a file follows one of these (av.error.ValueError, LeRobot 0.6.1).
_DECODED_BEFORE_SHOWN = {"h264": 1, "hevc": 1}

_H264_AUD = 9
# Access unit delimiter before any kind of picture (ITU-T H.264, 7.3.2.4: primary_pic_type 7).
#
# Two keyframes in a row are told apart by their idr_pic_id (7.4.1.2.4), which an encoder alternates. Where a
# picture is repeated, or others were left out before it, both may have the same; then decoders that go by the
# bit stream (hardware, browsers) take them for one, unless a delimiter is between.
_AUD = bytes([_H264_AUD, 0xF0])
# nal_unit_type: the low five bits of a unit's first byte (ITU-T H.264, 7.3.1).
_NAL_TYPE_MASK = 0x1F
# A number that none follows: the first picture of a part comes after none of its segment.
_NONE_BEFORE = -2

# A file has room for the tables of this many times the pictures that it is likely to hold.
MORE_ROOM = 1.5


@dataclass(frozen=True)
class CopyCheck:
    """What an episode's pictures are like, before any of them is copied.

    obstacle    why its packets can't be copied; None: they can
    extradata   of all of its segments
    pictures    how many packets it takes
    size_bytes  of all of them
    """

    obstacle: str | None
    extradata: bytes
    pictures: int
    size_bytes: int


def look(parts: Iterable[SegmentPictures], camera: VideoFeature) -> CopyCheck:
    """Whether packets can be copied as they are.

    One can follow any other if it is a keyframe, else only the one that it follows in the recording.
    """
    extradata: bytes | None = None
    pictures = size_bytes = 0
    for segment, numbers in parts:
        obstacle = _obstacle(segment, numbers, camera)
        if extradata not in (None, segment.kind.extradata):
            obstacle = obstacle or "its segments were encoded differently"
        if obstacle is not None:
            return CopyCheck(obstacle, b"", 0, 0)
        extradata = segment.kind.extradata
        pictures += len(numbers)
        size_bytes += int(segment.sizes[numbers].sum())
    return CopyCheck(None, extradata or b"", pictures, size_bytes)


def _obstacle(segment: PictureTable, numbers: Integers, camera: VideoFeature) -> str | None:
    kind = segment.kind
    if (kind.codec, kind.pix_fmt) != (camera.codec, camera.pix_fmt):
        return f"it is {kind.codec} {kind.pix_fmt}, not {camera.codec} {camera.pix_fmt}"
    if segment.hides:
        return "it holds pictures that are not shown: it was cut without re-encoding"
    if not segment.in_order:
        return "its pictures are not stored in the order in which they are shown"
    follows = np.diff(numbers, prepend=_NONE_BEFORE) == 1
    if not (fits := segment.keyframe[numbers] | follows).all():
        number = int(numbers[np.argmin(fits)])
        return f"picture {number} of a segment is not a keyframe, and the one before it is not shown"
    return None


class Encoder:
    """Makes an mp4 of a camera's kind of video."""

    def __init__(self, target: Path | io.RawIOBase, camera: VideoFeature, fps: int) -> None:
        """
        target  where it comes to lie, or the open file for it
        """
        rgb = camera.pix_fmt == "gbrp"
        name = _RGB_ENCODER if rgb else _ENCODERS[camera.codec]
        self._rate = Fraction(fps)
        file = str(target) if isinstance(target, Path) else target
        self._container = av.open(file, "w", format="mp4")
        settings = _DEPTH_SETTINGS if camera.depth_unit else _SETTINGS[name]
        stream: Any = self._container.add_stream(name, rate=self._rate, options=settings)
        stream.height, stream.width = camera.height, camera.width
        stream.pix_fmt = _RGB_FORMAT if rgb else camera.pix_fmt
        stream.gop_size, stream.max_b_frames = 1, 0
        stream.time_base = 1 / self._rate
        self._stream = stream
        self._count = 0

    def add(self, frame: av.VideoFrame, times: int) -> None:
        """Append a picture that is shown so many times."""
        stream = self._stream
        picture = frame.reformat(width=stream.width, height=stream.height, format=stream.pix_fmt)
        # The decoder's own (I, P or B) would be forced upon the encoder.
        picture.pict_type = 0
        picture.time_base = 1 / self._rate
        for _ in range(times):
            picture.pts = self._count
            self._container.mux(stream.encode(picture))
            self._count += 1

    def finish(self) -> None:
        """Complete the file."""
        self._container.mux(self._stream.encode(None))
        self.close()

    def close(self) -> None:
        """Let go of the file, complete or not."""
        self._container.close()


def encode(path: Path, frames: Iterator[tuple[av.VideoFrame, int]], camera: VideoFeature, fps: int) -> None:
    """Encode pictures, each shown so many times, into an mp4 of the camera's kind of video."""
    with closing(Encoder(path, camera, fps)) as encoder:
        for frame, times in frames:
            encoder.add(frame, times)
        encoder.finish()


class VideoSeries:
    """Writes one camera's episodes into a series of files of about `limits.video_bytes` each.

    An episode lies in one file; picture k of a file is shown at exactly k / fps. Another file is begun where
    LeRobotDataset would not find an episode's pictures in this one: so a long episode has a file of its own.
    """

    def __init__(self, root: Path, camera: VideoFeature, fps: int, limits: FileLimits, rows: int) -> None:
        """
        rows  at most so many pictures are shown in all
        """
        self.bytes = 0
        self.files = 0
        self._limits = limits
        self._root = root
        self._camera = camera
        self._fps = fps
        self._rows = rows
        self._place = FIRST_PLACE
        self._file: Mp4Writer | None = None
        self._extradata = b""
        self._file_bytes = 0
        self._last: tuple[PictureTable, int] | None = None

    def add(self, parts: Iterable[SegmentPictures], looked: CopyCheck) -> Clip:
        """Append an episode that can be copied.

        looked  what `look` found of the same pictures
        raises  NotStreamable if it would take another file and only one is allowed
        """
        if self._file is not None and not self._fits(self._file, looked):
            self.close()
            self._place = self._place.following()
        shown = 0 if self._file is None else self._file.pictures
        for segment, numbers in parts:
            if self._file is None:
                self._file = self._begin(segment, looked)
            self._copy(self._file, segment, numbers)
        self._rows -= looked.pictures
        return Clip(self._place, shown / self._fps, (shown + looked.pictures) / self._fps)

    def _fits(self, file: Mp4Writer, looked: CopyCheck) -> bool:
        """Whether an episode can follow in the open file."""
        alike = looked.extradata == self._extradata
        # A streaming-safe dataset has one file for each camera, whatever its size.
        if self._limits.one_file:
            if not alike:
                raise NotStreamable(
                    f"the video of camera {self._camera.name} does not fit into one file: its "
                    "parts were encoded differently",
                    field="streaming_safe",
                    hint="export the sessions separately, or without `streaming_safe`",
                )
            return True
        return (
            alike
            and self._file_bytes + looked.size_bytes <= self._limits.video_bytes
            and file.pictures + looked.pictures <= file.room
            and pictures_are_found(file.pictures, looked.pictures, self._fps)
        )

    def _begin(self, segment: PictureTable, looked: CopyCheck) -> Mp4Writer:
        path = self._root / self._place.video_path(self._camera.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._extradata = looked.extradata
        self._file_bytes = 0
        self._last = None
        self.files += 1
        # The tables stand before the pictures, and their place is fixed when the file begins.
        likely = int(MORE_ROOM * self._limits.video_bytes * looked.pictures / looked.size_bytes)
        return Mp4Writer(
            path,
            segment.description_at(self._fps),
            size=(self._camera.height, self._camera.width),
            fps=self._fps,
            delay=_DECODED_BEFORE_SHOWN.get(segment.kind.codec, 0),
            room=self._rows if self._limits.one_file else max(looked.pictures, min(likely, self._rows)),
        )

    def _copy(self, file: Mp4Writer, segment: PictureTable, numbers: Integers) -> None:
        length_bytes = _nal_length_bytes(segment)
        sizes = segment.sizes[numbers]
        follows = np.diff(numbers, prepend=numbers[0] - 1) == 1
        # The first follows what was written last, maybe of an earlier episode; in a new file, nothing.
        follows[0] = self._last in (None, (segment, int(numbers[0]) - 1))
        for begin, offset, size in segment.stretches(numbers):
            if length_bytes and not follows[begin]:
                head = os.pread(segment.fileno(), length_bytes + 1, offset)
                if len(head) > length_bytes and head[-1] & _NAL_TYPE_MASK != _H264_AUD:
                    delimiter = len(_AUD).to_bytes(length_bytes, "big") + _AUD
                    file.write(delimiter)
                    sizes[begin] += len(delimiter)
            if not file.copy(segment.fileno(), offset, size):
                raise VideoUnreadable("a video file ends before its last picture")
        file.add(sizes, segment.keyframe[numbers])
        self._last = (segment, int(numbers[-1]))
        self._file_bytes += int(sizes.sum())
        self.bytes += int(sizes.sum())

    def close(self) -> None:
        """Complete the open file."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _nal_length_bytes(segment: PictureTable) -> int:
    """How long the length before each NAL unit is (ISO/IEC 14496-15, 5.3.3.1); 0 where it is not H.264."""
    known = (
        segment.kind.codec == "h264" and len(segment.kind.extradata) > 4 and segment.kind.extradata[0] == 1
    )
    return (segment.kind.extradata[4] & 3) + 1 if known else 0
