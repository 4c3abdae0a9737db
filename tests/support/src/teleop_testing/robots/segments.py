"""Cameras' segments in a spool, read back and compared with what the cameras showed."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
from lerobot_robot_backend.shipping.reader import SpoolReader
from lerobot_robot_backend.video.files import WaitingSegment, finished_segments
from lerobot_robot_virtual.scene import Picture, read_frame_counter
from teleop_schema.files import DroppedFrames
from teleop_schema.limits import Limits
from teleop_schema.messages import Event

from teleop_testing.waiting import PATIENCE_S


@dataclass
class Recorded:
    """One camera's video, read back from its segments."""

    segments: list[WaitingSegment] = field(default_factory=list)
    counters: list[int] = field(default_factory=list)
    frame_indexes: list[int] = field(default_factory=list)
    captured_us: list[int] = field(default_factory=list)
    dropped: list[DroppedFrames] = field(default_factory=list)


def decode(path: Path) -> list[Picture]:
    """The pictures of an mp4, each of them a keyframe and shown at its place."""
    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        frames: list[Any] = list(container.decode(video=0))
        places = [frame.pts * stream.time_base * stream.average_rate for frame in frames]
    assert places == [*range(len(frames))]
    assert all(frame.key_frame for frame in frames)
    return [frame.to_ndarray(format="rgb24") for frame in frames]


def read_video(stream_dir: Path, camera: str = "front") -> Recorded:
    """What became of a camera's pictures; on the way it is checked that the sidecars fit the mp4s."""
    recorded = Recorded()
    for segment in finished_segments(stream_dir):
        video = segment.video
        if video.camera_key != camera:
            continue
        assert video.frames is not None
        assert video.chunk_index == len(recorded.segments)
        assert video.size_bytes == segment.path.stat().st_size
        pictures = decode(segment.path)
        assert pictures[0].shape == (video.height, video.width, 3)
        assert (video.start_us, video.end_us) == (video.frames.captured_us[0], video.frames.captured_us[-1])
        recorded.segments.append(segment)
        recorded.counters += map(read_frame_counter, pictures)
        recorded.frame_indexes += video.frames.frame_index
        recorded.captured_us += video.frames.captured_us
        recorded.dropped += video.dropped
    return recorded


def assert_all_told(recorded: Recorded, seen: dict[int, int]) -> None:
    """Every picture seen (its number -> loop iteration) is in the video at its place, or named as missing."""
    assert recorded.frame_indexes == sorted(set(recorded.frame_indexes))
    assert dict(zip(recorded.counters, recorded.frame_indexes, strict=True)).items() <= seen.items()
    missing = {index for gap in recorded.dropped for index in range(gap.first, gap.end)}
    assert missing.isdisjoint(recorded.frame_indexes)
    assert set(seen.values()) == set(recorded.frame_indexes) | (missing & set(seen.values()))


def no_video(stream_dir: Path) -> dict[str, str]:
    """Camera -> why it has no video, as the stream tells the server while it runs and at its end."""
    reader = SpoolReader(stream_dir)
    events: list[Event] = []
    while (batch := reader.read(Limits())) is not None:
        events += batch.events
    events += reader.end.events if reader.end else ()
    reader.close()
    return {event.camera or "": event.note or "" for event in events if event.kind == "no_video"}


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition is true; `what` tells what it was if that takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
