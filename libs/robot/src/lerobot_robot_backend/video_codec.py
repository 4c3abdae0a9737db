"""Pictures to H.264 and into an mp4.

Every picture is a keyframe: a dataset takes any of them, one twice or every second one, by copying, without
encoding again and without loss. Pictures with a sensor's noise get no larger by it: 640x480 at the same
quality took 29.6 kB each, 45.9 with a keyframe every second picture (twice the noise: 68.3 and 81.2); only
clean, drawn ones do (5.9 and 4.6). `ultrafast`, because such pictures take it 2.1 ms each (`superfast` 5.3,
`veryfast` 5.5) for files that are no larger than those of the slower presets.
"""

import math
import os
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import numpy as np

from lerobot_robot_backend.picture_ring import Picture
from lerobot_robot_backend.video_choice import Quality

CRF = 18
# As many as one thread encodes with ease: four cameras of 640x480 at 30 fps.
_PIXELS_PER_S_AND_THREAD = 4 * 640 * 480 * 30
_COMMON = {"preset": "ultrafast", "tune": "zerolatency", "sc_threshold": "0"}
_MAX_DENOMINATOR = 100_000


class SupportsRead(Protocol):
    """A file that is read from its beginning to its end."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, none at the end."""


class EncodingFailed(RuntimeError):
    """The encoder does not take this picture; the message says why."""


def video_size(height: int, width: int, quality: Quality) -> tuple[int, int]:
    """Height and width of the video of such pictures.

    H.264 with halved colour resolution has even sizes only: pictures of an odd height or width get their last
    row or column twice. Lossless video keeps every pixel as it is.
    """
    return (height, width) if quality == "lossless" else (height + height % 2, width + width % 2)


class PictureEncoder:
    """Compresses the pictures of one segment, one by one."""

    def __init__(self, height: int, width: int, fps: float, quality: Quality) -> None:
        """Raises EncodingFailed for a size that H.264 does not know."""
        self.size = video_size(height, width, quality)
        lossless = quality == "lossless"
        codec = av.CodecContext.create("libx264rgb" if lossless else "libx264", "w")
        if not isinstance(codec, av.VideoCodecContext):
            raise TypeError("an encoder of pictures is a VideoCodecContext")
        codec.height, codec.width = self.size
        codec.pix_fmt = "rgb24" if lossless else "yuv420p"
        codec.framerate = _fraction(fps)
        codec.time_base = 1 / codec.framerate
        codec.gop_size = 1
        codec.max_b_frames = 0
        codec.thread_count = _thread_count(height * width * fps)
        codec.options = _COMMON | ({"qp": "0"} if lossless else {"crf": str(CRF)})
        try:
            codec.open()
        except av.FFmpegError as error:
            raise EncodingFailed(f"no encoder for pictures of {width}x{height}: {error.strerror}") from error
        self._codec = codec
        self._count = 0

    def encode(self, picture: Picture) -> bytes:
        """The picture, compressed; raises EncodingFailed."""
        height, width = picture.shape[:2]
        if (height, width) != self.size:
            rows, columns = self.size[0] - height, self.size[1] - width
            picture = np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="edge")
        try:
            frame = av.VideoFrame.from_numpy_buffer(picture, format="rgb24")
            frame.pts, frame.time_base = self._count, self._codec.time_base
            packets = self._codec.encode(frame)
        except (av.FFmpegError, ValueError) as error:
            raise EncodingFailed(f"the picture can't be encoded: {error}") from error
        self._count += 1
        return b"".join(bytes(packet) for packet in packets)


def write_mp4(path: Path, pictures: SupportsRead, count: int, fps: float) -> None:
    """Write `count` compressed pictures into an mp4 with its index in front; number k is shown at k / fps.

    Raises EncodingFailed if they are no H.264, OSError.
    """
    rate = _fraction(fps)
    options = {"framerate": str(rate)}
    written = 0
    try:
        with (
            av.open(pictures, mode="r", format="h264", options=options) as source,
            av.open(str(path), mode="w", format="mp4", options={"movflags": "+faststart"}) as target,
        ):
            # Opaque: else an encoder would be opened, which does not know every colour format.
            stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
            for packet in source.demux(video=0):
                if packet.size == 0:
                    continue
                packet.stream = stream
                packet.time_base = 1 / rate
                packet.pts = packet.dts = written
                packet.duration = 1
                target.mux(packet)
                written += 1
    except (av.FFmpegError, IndexError) as error:
        raise EncodingFailed(f"no mp4 can be made of the pictures: {error}") from error
    if written != count:
        raise EncodingFailed(f"{count} pictures became {written}")


def _fraction(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(_MAX_DENOMINATOR)


def _thread_count(pixels_per_s: float) -> int:
    return max(1, min(math.ceil(pixels_per_s / _PIXELS_PER_S_AND_THREAD), os.cpu_count() or 1))
