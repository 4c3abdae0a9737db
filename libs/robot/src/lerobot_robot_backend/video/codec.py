"""Encodes pictures as H.264 and depth as HEVC, and puts them into an mp4.

Every picture is a keyframe. A dataset can therefore copy any of them, one twice or every second one, without
encoding again and without loss. Pictures with sensor noise do not get larger by this: at the same quality,
640x480 took 29.6 kB each, and 45.9 kB with a keyframe every second picture (with twice the noise: 68.3 and
81.2). Only clean, drawn pictures do (5.9 and 4.6). The preset is `ultrafast`: such pictures take 2.1 ms each
(`superfast` 5.3, `veryfast` 5.5), and the files are no larger than those of the slower presets.

Depth is recorded as in LeRobot: lossless codes of 12 bits (`depth_codes`). It uses only blocks of 16 pixels,
because the search for larger and smaller ones takes most of the time. 640x480 with a deviation of one code in
each pixel took 155 kB and 30 ms of processor time; plain `ultrafast` took 157 kB and 54 ms; LeRobot's own
settings, in which every second picture builds on the one before, 114 kB and 118 ms (`make bench`, `depth`).
"""

import math
import os
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Protocol

import av
import numpy as np
from teleop_schema.depth import DEPTH_CODEC, DEPTH_PIX_FMT
from teleop_schema.words import counted

from lerobot_robot_backend.video.choice import Quality
from lerobot_robot_backend.video.depth import depth_codes
from lerobot_robot_backend.video.picture_kind import Picture, PictureKind

# No visible difference from the picture; see above for its cost.
CRF = 18
# What one thread encodes with ease: four cameras of 640x480 at 30 fps.
_PIXELS_PER_S_AND_THREAD = 4 * 640 * 480 * 30
# Every picture by itself, and at once: nothing is held back to look at the pictures after it.
_COMMON = {"preset": "ultrafast", "tune": "zerolatency", "sc_threshold": "0"}
# For rates such as 30000/1001.
_MAX_DENOMINATOR = 100_000
DEPTH_ENCODER = "libx265"
# x265 divides a picture's rows among its threads; each thread should have time to spare.
_DEPTH_PIXELS_PER_S_AND_THREAD = 640 * 480 * 15
_DEPTH_OPTIONS = {"preset": "ultrafast", "tune": "zerolatency"}
_DEPTH_PARAMS = (
    "lossless=1:ctu=16:min-cu-size=16:max-tu-size=16:rd=1:frame-threads=1:wpp=1:info=0:log-level=error"
)


class SupportsRead(Protocol):
    """A file that is read once, from beginning to end."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, none at the end."""


class EncodingFailed(RuntimeError):
    """The encoder can't encode this picture; the message says why."""


def video_size(height: int, width: int, quality: Quality) -> tuple[int, int]:
    """Height and width of the video of such pictures.

    H.264 with halved colour resolution has even sizes only: pictures of an odd height or width get their last
    row or column twice. Lossless video, of depth too, keeps every pixel as it is.
    """
    return (height, width) if quality == "lossless" else (height + height % 2, width + width % 2)


@cache
def can_encode_depth() -> bool:
    """Whether this machine's FFmpeg can encode depth: it needs x265 with 12 bits and one channel."""
    try:
        formats = av.codec.Codec(DEPTH_ENCODER, "w").video_formats or []
    except (av.FFmpegError, ValueError):
        return False
    return DEPTH_PIX_FMT in {each.name for each in formats}


class PictureEncoder:
    """Compresses the pictures of one segment, all of one kind and size, one by one."""

    def __init__(
        self, height: int, width: int, fps: float, quality: Quality, kind: PictureKind = PictureKind.RGB
    ) -> None:
        """Raises EncodingFailed for a size that the codec does not know."""
        self._depth = kind is not PictureKind.RGB
        self.size = video_size(height, width, "lossless" if self._depth else quality)
        pixels_per_s = height * width * fps
        name, pix_fmt, options = _settings(quality, pixels_per_s, depth=self._depth)
        try:
            codec = av.CodecContext.create(name, "w")
            if not isinstance(codec, av.VideoCodecContext):
                raise TypeError("an encoder of pictures is a VideoCodecContext")
            codec.height, codec.width = self.size
            codec.pix_fmt = pix_fmt
            codec.framerate = _fraction(fps)
            codec.time_base = 1 / codec.framerate
            codec.gop_size = 1
            codec.max_b_frames = 0
            codec.thread_count = 1 if self._depth else _thread_count(pixels_per_s, _PIXELS_PER_S_AND_THREAD)
            codec.options = options
            codec.open()
        except (av.FFmpegError, av.codec.codec.UnknownCodecError) as error:
            raise EncodingFailed(f"no encoder for pictures of {width}x{height}: {error}") from error
        self._codec = codec
        self._count = 0

    def encode(self, picture: Picture) -> bytes:
        """The picture, compressed; raises EncodingFailed."""
        try:
            frame = _depth_frame(picture) if self._depth else self._rgb_frame(picture)
            frame.pts, frame.time_base = self._count, self._codec.time_base
            packets = self._codec.encode(frame)
        except (av.FFmpegError, ValueError) as error:
            raise EncodingFailed(f"the picture can't be encoded: {error}") from error
        self._count += 1
        return b"".join(bytes(packet) for packet in packets)

    def _rgb_frame(self, picture: Picture) -> av.VideoFrame:
        height, width = picture.shape[:2]
        if (height, width) != self.size:
            rows, columns = self.size[0] - height, self.size[1] - width
            # Repeated, not black: an edge in the picture would cost bits, and show in statistics.
            picture = np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="edge")
        return av.VideoFrame.from_numpy_buffer(picture, format="rgb24")


def _settings(quality: Quality, pixels_per_s: float, *, depth: bool) -> tuple[str, str, dict[str, str]]:
    """Encoder, format of its pictures, options."""
    if depth:
        threads = _thread_count(pixels_per_s, _DEPTH_PIXELS_PER_S_AND_THREAD)
        params = f"{_DEPTH_PARAMS}:pools={threads}"
        return DEPTH_ENCODER, DEPTH_PIX_FMT, _DEPTH_OPTIONS | {"x265-params": params}
    if quality == "lossless":
        return "libx264rgb", "rgb24", _COMMON | {"qp": "0"}
    return "libx264", "yuv420p", _COMMON | {"crf": str(CRF)}


def _depth_frame(picture: Picture) -> av.VideoFrame:
    codes = depth_codes(picture)
    height, width = codes.shape
    frame = av.VideoFrame(width, height, DEPTH_PIX_FMT)
    # FFmpeg's rows may be longer than the picture is wide.
    rows = np.frombuffer(frame.planes[0], np.uint16).reshape(height, -1)
    rows[:, :width] = codes
    return frame


def write_mp4(path: Path, pictures: SupportsRead, count: int, fps: float, *, depth: bool = False) -> None:
    """Write `count` compressed pictures into an mp4 with its index in front; number k is shown at k / fps.

    depth  whether they are HEVC; otherwise they are H.264
    raises EncodingFailed if they are not, OSError
    """
    rate = _fraction(fps)
    options = {"framerate": str(rate)}
    written = 0
    try:
        with (
            av.open(pictures, mode="r", format=DEPTH_CODEC if depth else "h264", options=options) as source,
            av.open(str(path), mode="w", format="mp4", options={"movflags": "+faststart"}) as target,
        ):
            # Opaque, because otherwise an encoder would be opened, and it does not know every colour format.
            stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
            for packet in source.demux(video=0):
                if packet.size == 0:
                    continue
                packet.stream = stream
                packet.time_base = 1 / rate
                # The true times are kept beside the video; players want a steady rate.
                packet.pts = packet.dts = written
                packet.duration = 1
                target.mux(packet)
                written += 1
    except (av.FFmpegError, IndexError) as error:
        # FFmpeg's own errors include those of the disk, which are no fault of the pictures.
        if isinstance(error, OSError):
            raise
        raise EncodingFailed(f"the pictures can't be written as mp4: {error}") from error
    if written != count:
        raise EncodingFailed(f"the mp4 has {counted(written, 'picture')} instead of {count}")


def _fraction(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(_MAX_DENOMINATOR)


def _thread_count(pixels_per_s: float, of_a_thread: float) -> int:
    return max(1, min(math.ceil(pixels_per_s / of_a_thread), os.cpu_count() or 1))
