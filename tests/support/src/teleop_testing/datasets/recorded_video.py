"""Video of recorded sessions as video-ingest-service leaves it: chunks in a store, rows in the database.

The drawn counter of every picture is its number, so that whoever decodes one knows which it is.
"""

import asyncio
import hashlib
import math
import tempfile
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import av
import numpy as np
import psycopg
from lerobot_robot_backend.video.depth import depth_codes
from lerobot_robot_virtual.arm import REST
from lerobot_robot_virtual.scene import as_depth, render
from psycopg.types.json import Jsonb
from teleop_runtime.store import open_store
from teleop_schema.depth import DEPTH_CODEC, DEPTH_PIX_FMT, DepthUnit

from teleop_testing.datasets.recorded import STARTED

US_PER_S = 1_000_000
STARTED_US = round(datetime.fromisoformat(STARTED).timestamp()) * US_PER_S
# From the moment the camera takes a picture until the loop can see it.
LATENCY_US = 4_000
ENCODERS = {
    "h264": ("libx264", {"preset": "ultrafast", "crf": "18", "sc_threshold": "0"}),
    "hevc": ("libx265", {"preset": "ultrafast", "crf": "18", "x265-params": "log-level=error:scenecut=0"}),
    "av1": ("libsvtav1", {"preset": "12", "crf": "20"}),
    "depth": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=error:scenecut=0:lossless=1"}),
}

OBJECT = "INSERT INTO stored_object (sha256, size_bytes) VALUES (%s, %s) ON CONFLICT DO NOTHING"
CHUNK = """
INSERT INTO video_chunk (session_id, camera_key, chunk_index, file_path, sha256, size_bytes, start_timestamp,
                         end_timestamp, first_frame_index, frame_count, frame_indices, captured_us, dropped,
                         fps, codec, pix_fmt, width, height, keyframes, quarantine, depth_unit)
VALUES (%(session)s, %(camera)s, %(chunk)s, %(path)s, %(sha256)s, %(size)s, to_timestamp(%(start)s),
        to_timestamp(%(end)s), %(first)s, %(frames)s, %(seen_at)s, %(captured)s, %(dropped)s, %(fps)s,
        %(codec)s, %(pix_fmt)s, %(width)s, %(height)s, %(keyframes)s, %(quarantine)s, %(depth_unit)s)
"""


@dataclass(frozen=True)
class Taken:
    """A picture that the camera took.

    seen_at  the loop's iteration that first saw it
    """

    number: int
    seen_at: int
    captured_us: int


@dataclass(frozen=True)
class RecordedVideo:
    """What a camera took.

    lost  the numbers of those pictures that were not recorded
    """

    camera: str
    taken: tuple[Taken, ...]
    lost: frozenset[int]

    def shown(self, iteration: int) -> int | None:
        """Number of the recorded picture that an iteration of the loop saw, or saw last."""
        numbers = [
            picture.number
            for picture in self.taken
            if picture.seen_at <= iteration and picture.number not in self.lost
        ]
        return numbers[-1] if numbers else None


def record_video(
    database_url: str,
    store: Path | str,
    session: int,
    frames: int,
    camera: str = "front",
    *,
    loop_fps: float = 60.0,
    fps: int = 30,
    first: int = 0,
    end: int | None = None,
    lost: Sequence[int] = (),
    segment: int = 50,
    absent: Sequence[int] = (),
    quarantined: Sequence[int] = (),
    times_only: bool = False,
    same_pictures: bool = False,
    codec: str = "h264",
    gop: int = 1,
    b_frames: int = 0,
    height: int = 48,
    width: int = 64,
    noise: float = 0.0,
    depth_unit: DepthUnit | None = None,
) -> RecordedVideo:
    """Store a camera's video of a session of `frames` iterations of its loop.

    first, end     the iterations during which the camera gave pictures
    lost           pictures that were not recorded, by number, and are named so
    segment        pictures per chunk
    absent         chunks that have not arrived
    quarantined    chunks that arrived, and can't be used
    times_only     as from a sender that does not know which iteration saw a picture
    same_pictures  in every chunk those of the first: takes no time to make, for who looks at none of them
    noise          standard deviation of each pixel, in levels; 4 is about what a real sensor has
    depth_unit     the pictures as depth, as robots record it
    """
    codec, pix_fmt = ("depth", DEPTH_PIX_FMT) if depth_unit else (codec, "yuv420p")
    taken = _take(first, frames if end is None else end, loop_fps, fps)
    chunks = _in_chunks(taken, lost, segment, first)
    of_all: dict[str, Any] = {"session": session, "camera": camera, "width": width, "height": height}
    of_all |= {"fps": fps, "pix_fmt": pix_fmt, "depth_unit": depth_unit}
    of_all |= {"codec": DEPTH_CODEC if depth_unit else codec}
    with psycopg.connect(database_url, autocommit=True) as connection:
        for number, (pictures, dropped) in enumerate(chunks):
            if number in absent:
                continue
            drawn = chunks[0][0][: len(pictures)] if same_pictures else pictures
            data = _encode(tuple(drawn), codec, pix_fmt, fps, gop, b_frames, height, width, noise)
            told = of_all | _told(pictures, times_only=times_only)
            told |= _put_object(connection, store, data, f"sessions/{session}/{camera}/{number}.mp4")
            told |= {
                "chunk": number,
                "dropped": Jsonb(dropped),
                "keyframes": math.ceil(len(pictures) / gop),
                "quarantine": "it was damaged on the way" if number in quarantined else None,
            }
            connection.execute(CHUNK, told)
    return RecordedVideo(camera, tuple(taken), frozenset(lost))


def _in_chunks(
    taken: Sequence[Taken], lost: Sequence[int], size: int, first: int
) -> list[tuple[list[Taken], list[dict[str, Any]]]]:
    """The pictures that were recorded, some in each chunk, and what its sender tells to be missing."""
    kept = [picture for picture in taken if picture.number not in lost]
    chunks, reached = [], first
    for begin in range(0, len(kept), size):
        pictures = kept[begin : begin + size]
        dropped, reached = _dropped(pictures, taken, reached)
        chunks.append((pictures, dropped))
    return chunks


def _put_object(
    connection: psycopg.Connection[Any], store: Path | str, data: bytes, path: str
) -> dict[str, Any]:
    """What a chunk's row says of its file, whose bytes are in the store now, and known to the database."""
    sha256 = hashlib.sha256(data).hexdigest()
    asyncio.run(_put(store, data, sha256))
    connection.execute(OBJECT, [sha256, len(data)])
    return {"path": path, "sha256": sha256, "size": len(data)}


def _told(pictures: Sequence[Taken], *, times_only: bool) -> dict[str, Any]:
    """What the sender of a chunk says of its pictures."""
    return {
        "start": pictures[0].captured_us / US_PER_S,
        "end": pictures[-1].captured_us / US_PER_S,
        "first": None if times_only else pictures[0].seen_at,
        "frames": len(pictures),
        "seen_at": None if times_only else [picture.seen_at for picture in pictures],
        "captured": None if times_only else [picture.captured_us for picture in pictures],
    }


def _take(first: int, end: int, loop_fps: float, fps: int) -> list[Taken]:
    """Pictures at a steady rate, the first of them seen at `first`."""
    begin_us = first * US_PER_S / loop_fps - LATENCY_US
    taken: list[Taken] = []
    while True:
        captured_us = round(begin_us + len(taken) * US_PER_S / fps)
        # A hair early, so that rounding moves no picture to the next iteration.
        seen_at = math.ceil((captured_us + LATENCY_US) * loop_fps / US_PER_S - 1e-3)
        if seen_at >= end:
            return taken
        taken.append(Taken(len(taken), seen_at, STARTED_US + captured_us))


def _dropped(
    pictures: Sequence[Taken], taken: Sequence[Taken], reached: int
) -> tuple[list[dict[str, Any]], int]:
    """What is missing within and right before a chunk, as the robot names it: from the iteration after the
    last recorded picture to that of the next one."""
    found = []
    before = bisect_left(taken, reached, key=lambda each: each.seen_at) - 1
    for picture in pictures:
        if picture.number > before + 1:
            missing = picture.number - before - 1
            found.append({"first": reached, "end": picture.seen_at, "reason": f"{missing} dropped: too slow"})
        before, reached = picture.number, picture.seen_at + 1
    return found, reached


@lru_cache(maxsize=4)
def _encode(
    pictures: tuple[Taken, ...],
    codec: str,
    pix_fmt: str,
    fps: int,
    gop: int,
    b_frames: int,
    height: int,
    width: int,
    noise: float,
) -> bytes:
    name, options = ENCODERS[codec]
    sensor = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chunk.mp4"
        with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
            stream: Any = container.add_stream(name, rate=fps, options=options)
            stream.height, stream.width, stream.pix_fmt = height, width, pix_fmt
            stream.gop_size, stream.max_b_frames = gop, b_frames
            for position, picture in enumerate(pictures):
                pixels = render("front", REST, picture.number, height=height, width=width)
                if noise:
                    pixels = (pixels + sensor.normal(0, noise, pixels.shape)).round().clip(0, 255)
                if codec == "depth":
                    codes = depth_codes(as_depth(pixels.astype(np.uint8)))
                    frame = av.VideoFrame.from_ndarray(codes, format=pix_fmt)
                else:
                    frame = av.VideoFrame.from_ndarray(pixels.astype(np.uint8), format="rgb24")
                frame.pts, frame.time_base = position, Fraction(1, fps)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path.read_bytes()


async def _put(root: Path | str, data: bytes, sha256: str) -> None:
    async def parts() -> Any:
        yield data

    store, upload = open_store(root), uuid4()
    # As every store has one since its service began.
    await store.own("tests")
    await store.begin(upload)
    await store.append(upload, 0, parts(), limit=len(data))
    await store.finish(upload, sha256=sha256, size_bytes=len(data))
    await store.discard(upload)
