"""Files as robots have them, and what robots tell of them."""

import hashlib
import struct
import sys
import tempfile
from collections.abc import Mapping, Sequence
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream
from lerobot_robot_backend.video.codec import PictureEncoder, write_mp4
from lerobot_robot_backend.video.picture_kind import PictureKind
from teleop_schema.files import DatasetFile, FrameTimes, Manifest, ManifestFile, VideoFile

from teleop_testing.robots.robot import PERIOD_US, STARTED_US

VIDEO_FPS = 30
ENCODING = {
    "libx264": {"g": "2", "crf": "18", "sc_threshold": "0"},
    "libsvtav1": {"g": "2", "crf": "30", "preset": "12"},
}


def encode_video(
    frames: int = 30,
    *,
    width: int = 64,
    height: int = 48,
    seed: int = 0,
    codec: str = "libx264",
    container: Mapping[str, str] = {},
) -> bytes:
    """An mp4 of noise at VIDEO_FPS with a keyframe every 2 frames, as LeRobot writes them."""
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        with av.open(file.name, "w", options=dict(container)) as output:
            stream = output.add_stream(codec, rate=VIDEO_FPS, options=ENCODING[codec])
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            _encode(output, stream, frames, np.random.default_rng(seed))
        return file.read()


def dying_of(number: int) -> tuple[str, ...]:
    """A command that works like a probe until it is asked something, and then dies of that signal."""
    return (
        sys.executable,
        "-c",
        f"import os; print('{{}}', flush=True); input(); os.kill(os.getpid(), {number})",
    )


def hide_first(content: bytes, frames: int) -> bytes:
    """The same mp4 with an edit list that shows what follows its first `frames`: as cutting without encoding
    leaves it (ffmpeg -ss … -c copy), for what is shown builds upon them."""
    with av.open(BytesIO(content), "r") as container:
        stream = container.streams.video[0]
        first = min(packet.pts for packet in container.demux(stream) if packet.pts is not None)
        assert stream.time_base is not None
        hidden = first + int(frames / VIDEO_FPS / stream.time_base)
    at = content.index(b"elst") + 4 + 12
    begins = int.from_bytes(content[at : at + 4], "big") + hidden
    return content[:at] + begins.to_bytes(4, "big") + content[at + 4 :]


def turn_over(content: bytes) -> bytes:
    """The same mp4, whose metadata have players turn it by 180 degrees."""
    at = content.index(b"tkhd") + 4 + 40
    matrix = struct.pack(">9i", -(1 << 16), 0, 0, 0, -(1 << 16), 0, 0, 0, 1 << 30)
    return content[:at] + matrix + content[at + len(matrix) :]


def encode_depth(frames: int, *, width: int = 64, height: int = 48) -> bytes:
    """An mp4 of depth, noise, as robots send it: each picture a keyframe."""
    noise = np.random.default_rng(0)
    encoder = PictureEncoder(height, width, VIDEO_FPS, "high", PictureKind.DEPTH_MM)
    pictures = (noise.integers(0, 10_000, (height, width, 1), dtype=np.uint16) for _ in range(frames))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "depth.mp4")
        write_mp4(path, BytesIO(b"".join(map(encoder.encode, pictures))), frames, VIDEO_FPS, depth=True)
        return path.read_bytes()


def _encode(output: OutputContainer, stream: VideoStream, frames: int, noise: np.random.Generator) -> None:
    for _ in range(frames):
        pixels = noise.integers(0, 255, (stream.height, stream.width, 3), dtype=np.uint8)
        output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
    output.mux(stream.encode())


def sha256_of(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def video_file(
    content: bytes, session: int | UUID, *, indices: Sequence[int] | None = None, **changes: Any
) -> VideoFile:
    """What a robot tells of a chunk; `indices` are the frames of the session that its pictures belong to."""
    times = None
    if indices is not None:
        captured_us = tuple(STARTED_US + index * PERIOD_US for index in indices)
        times = FrameTimes(frame_index=tuple(indices), captured_us=captured_us)
    values: dict[str, Any] = {
        "robot_id": "robot_A",
        "session": session,
        "camera_key": "front",
        "chunk_index": 0,
        "start_us": STARTED_US,
        "end_us": STARTED_US + 1_000_000,
        "size_bytes": len(content),
        "sha256": sha256_of(content),
        "frames": times,
    }
    return VideoFile(**values | changes)


def dataset_file(content: bytes, path: str = "meta/info.json", **changes: Any) -> DatasetFile:
    """What a robot tells of a file of a dataset."""
    values: dict[str, Any] = {
        "robot_id": "robot_A",
        "dataset": "someone/picking",
        "path": path,
        "size_bytes": len(content),
        "sha256": sha256_of(content),
    }
    return DatasetFile(**values | changes)


def manifest_of(files: Mapping[str, bytes], *, episodes: int = 1, finalised: bool = False) -> Manifest:
    """The state of a dataset that consists of `files`."""
    listed = tuple(
        ManifestFile(path=path, size_bytes=len(content), sha256=sha256_of(content))
        for path, content in files.items()
    )
    return Manifest(files=listed, total_episodes=episodes, total_frames=10 * episodes, finalised=finalised)


def growing_video(sizes: Sequence[tuple[int, int]]) -> bytes:
    """An mp4 of one picture (height, width) after the other, all of them keyframes, that declares the size of
    the first for all."""
    packets: list[bytes] = []
    for height, width in sizes:
        encoder = av.CodecContext.create("libx264", "w")
        assert isinstance(encoder, av.VideoCodecContext)
        encoder.height, encoder.width, encoder.pix_fmt = height, width, "yuv420p"
        encoder.time_base = Fraction(1, VIDEO_FPS)
        encoder.options = {"preset": "ultrafast", "tune": "zerolatency"}
        black = av.VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), format="rgb24")
        packets += [bytes(each) for each in (*encoder.encode(black), *encoder.encode(None))]
    content = BytesIO()
    with av.open(content, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=VIDEO_FPS)
        (stream.height, stream.width), stream.pix_fmt = sizes[0], "yuv420p"
        for number, data in enumerate(packets):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, VIDEO_FPS), True
            packet.pts = packet.dts = number
            file.mux(packet)
    return content.getvalue()
