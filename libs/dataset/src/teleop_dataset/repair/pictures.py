"""Video files of a repaired dataset: cuts them by stream copy, decodes them for statistics."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from teleop_schema.words import counted

from teleop_dataset.errors import BrokenFile
from teleop_dataset.media import decoder_limits, open_mp4, open_picture, video_of
from teleop_dataset.repair.episode_stats import EpisodeStats, describe_pictures
from teleop_dataset.v3.depth import depth_values
from teleop_dataset.v3.image_stats import thinning

Pixels = npt.NDArray[Any]


def cut_video(source: Path, target: Path, ranges: Sequence[tuple[int, int]], fps: float) -> None:
    """Copies some stretches (begin, end) of the pictures that an mp4 shows, packet by packet,
    one after the other.

    Each must begin and end where an episode does: its first picture is a keyframe, and nothing outside needs
    it. But the file's first picture may build upon hidden ones, which stay hidden before it. Raises
    BrokenFile if there are fewer pictures, or hidden ones between them.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    number, copied, left = 0, 0, list(ranges)
    # LeRobot's own options when it joins episodes.
    with open_mp4(source) as given, av.open(str(target), "w", options={"movflags": "faststart"}) as made:
        stream = video_of(given)
        copy = made.add_stream_from_template(stream, opaque=True)
        copy.time_base = stream.time_base
        tick_s = float(stream.time_base or 1)
        for packet in given.demux(stream):
            if left and number == left[0][1]:
                left.pop(0)
            if packet.dts is None or not left:
                break
            early, before = round((number - copied) / fps / tick_s), number < left[0][0]
            number += not packet.is_discard
            if before:
                continue
            if packet.is_discard and copied:
                raise BrokenFile(f"{source.name} has hidden pictures between those it shows")
            copied += not packet.is_discard
            packet.pts, packet.dts = (packet.pts or 0) - early, packet.dts - early
            packet.stream = copy
            made.mux(packet)
    if copied < (wanted := sum(end - begin for begin, end in ranges)):
        raise BrokenFile(f"{source.name} has {counted(copied, 'frame')} instead of {wanted}")


def joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Stretches of frames, those that follow each other as one."""
    found: list[tuple[int, int]] = []
    for begin, end in ranges:
        if found and found[-1][1] == begin:
            found[-1] = (found[-1][0], end)
        else:
            found.append((begin, end))
    return found


def video_facts(path: Path, depth: bool) -> dict[str, Any]:
    """What LeRobot writes into info.json about a camera's video, without the encoder's settings."""
    with open_mp4(path) as file:
        stream = video_of(file)
        facts = {
            "video.height": stream.height,
            "video.width": stream.width,
            "video.codec": stream.codec.canonical_name,
            "video.pix_fmt": stream.pix_fmt,
            "video.fps": int(stream.base_rate or 0),
            "video.channels": 1 if depth else 3,
            "has_audio": bool(file.streams.audio),
            "is_depth_map": depth,
        }
    return facts


class PictureStats:
    """Counts the levels of pictures of one camera.

    streamed  LeRobot's streaming encoder counts pixels where its other one counts pictures; episodes are
              weighted by that when they are added up, so those of a dataset must do the same
    """

    def __init__(self, feature: Mapping[str, Any], *, streamed: bool = False) -> None:
        self._streamed = streamed
        info = feature.get("info") or {}
        self._format, self._divisor = "rgb24", 255.0
        self._values: Pixels = np.arange(256)
        if is_depth(feature):
            filmed = feature["dtype"] == "video"
            self._format = "gray12le" if filmed else "gray16le"
            self._values = depth_values(info) if filmed else np.arange(2**16)
            self._divisor = 1.0
        self._counts: npt.NDArray[np.int64] | int = 0
        self._pictures = 0

    def add_frame(self, frame: av.VideoFrame) -> None:
        """Count a decoded frame."""
        picture = frame.to_ndarray(format=self._format)
        step = thinning(*picture.shape[:2])
        pixels = picture[::step, ::step].reshape(-1, picture.shape[2] if picture.ndim > 2 else 1)
        levels = len(self._values)
        self._counts = self._counts + np.stack(
            [np.bincount(channel, minlength=levels)[:levels] for channel in pixels.T]
        )
        self._pictures += 1

    def add_file(self, encoded: bytes) -> None:
        """Count a picture that is stored as a file (PNG, TIFF)."""
        with open_picture(encoded) as file:
            self.add_frame(next(file.decode(video=0)))

    def finish(self) -> EpisodeStats:
        """The statistics of the counted pictures, in LeRobot's form."""
        if isinstance(self._counts, int):
            raise BrokenFile("no picture could be decoded")
        count = int(self._counts[0].sum()) if self._streamed else self._pictures
        return describe_pictures(self._counts, self._values, count, self._divisor)


def is_depth(feature: Mapping[str, Any]) -> bool:
    """Whether the camera gives distances instead of colours."""
    info = feature.get("info") or {}
    return bool(info.get("is_depth_map") or info.get("video.is_depth_map"))


def _is_shown(packet: av.Packet) -> bool:
    return bool(packet.size) and not packet.is_discard


class ClipReader:
    """Decodes episodes of one mp4, in the order of the file; damage in one does not affect the next.

    shape  (height, width, channels) that the pictures must have: a damaged header may ask for gigabytes
    """

    def __init__(self, path: Path, shape: Sequence[int]) -> None:
        """Raises FFmpegError, BrokenFile."""
        self._name = path.name
        self._height, self._width = shape[:2]
        self._file = open_mp4(path)
        try:
            self._stream = video_of(self._file)
        except BrokenFile:
            self._file.close()
            raise
        context = self._stream.codec_context
        context.options = decoder_limits(self._height, self._width) | {"err_detect": "explode"}
        # PyAV's logging takes Python's lock, which can block forever in a decoder's thread.
        self._stream.thread_type = "NONE"
        self._packets = self._file.demux(self._stream)
        # One of them that was looked at, but not passed.
        self._ahead: av.Packet | None = None
        self._passed = 0
        # What was passed since the last keyframe.
        self._group: list[av.Packet] = []

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def frames(self, first: int, length: int) -> Iterator[av.VideoFrame]:
        """The episode's pictures, in the order of showing, from frame `first` of the file on.

        Raises BrokenFile, FFmpegError; BrokenFile at the end if there were fewer than `length`.
        """
        group = self._skip_to(first)
        early = sum(map(_is_shown, group))
        shown = 0
        for frame in self._decoded(group, first + length):
            shown += 1
            if shown > early:
                yield self._sound(frame)
        if shown - early < length:
            found = max(shown - early, 0)
            raise BrokenFile(f"{self._name} shows {found} of {counted(length, 'picture')}")

    def _skip_to(self, first: int) -> list[av.Packet]:
        """Pass the packets before frame `first`; returns those upon which it builds."""
        while self._passed < first and self._pass() is not None:
            pass
        if self._ahead is None:
            self._ahead = next(self._packets, None)
        return [] if self._ahead is None or self._ahead.is_keyframe else list(self._group)

    def _pass(self) -> av.Packet | None:
        """The next packet; None at the end."""
        packet, self._ahead = self._ahead, None
        if packet is None:
            packet = next(self._packets, None)
        if packet is not None:
            self._passed += _is_shown(packet)
            if packet.is_keyframe:
                self._group.clear()
            self._group.append(packet)
        return packet

    def _decoded(self, group: Iterable[av.Packet], end: int) -> Iterator[av.VideoFrame]:
        """The frames of `group`, and of what follows up to frame `end` of the file."""
        context = self._stream.codec_context
        context.flush_buffers()
        for earlier in group:
            yield from context.decode(earlier)
        while self._passed < end and (packet := self._pass()) is not None:
            # Hidden pictures are not returned, but others may build upon them.
            yield from context.decode(packet)
        yield from context.decode(None)

    def _sound(self, frame: av.VideoFrame) -> av.VideoFrame:
        if (frame.height, frame.width) != (self._height, self._width):
            raise BrokenFile(f"{self._name} shows pictures of {frame.width} x {frame.height}")
        if frame.is_corrupt:
            raise BrokenFile(f"{self._name} shows damaged pictures")
        return frame
