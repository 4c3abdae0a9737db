"""Whatever happens between recorder and encoder, every picture is in a segment once or named as missing."""

import shutil
import tempfile
import uuid
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lerobot_robot_backend.video.codec import EncodingFailed, PictureEncoder
from lerobot_robot_backend.video.encoder import CameraRecorder
from lerobot_robot_backend.video.files import finished_segments, make_camera_dir
from lerobot_robot_backend.video.finish import finish_part
from lerobot_robot_backend.video.part_file import PartWriter, SegmentHead
from lerobot_robot_backend.video.picture_ring import Reason, create_ring

HEAD = SegmentHead(
    robot_id="robot_A",
    session=uuid.UUID(int=1),
    camera_key="front",
    chunk_index=0,
    fps=30.0,
    height=0,
    width=0,
)
# The same in all pictures, so that a picture is coded as its difference from the one before.
TEXTURE = np.random.default_rng(0).integers(0, 60, (200, 64, 1), np.uint8).repeat(3, 2)
# What happens to a picture, or before it.
STEPS = st.lists(
    st.sampled_from(
        [
            "picture",
            "picture",
            "picture",
            "same",  # a loop iteration without a new picture
            "larger",  # the camera changes its size
            "refused",  # the ring is full
            "encode",  # the encoder works off what lies in the ring
            "kill",  # the encoder is killed between two pictures
            "kill before note",  # it is killed after writing a picture, before the ring says so
            "disk full",  # the next picture can't be written
            "no room",  # the same, and no segment can be begun either
            "no codec",  # the next picture can't be encoded
        ]
    ),
    max_size=40,
)


class Rig:
    """A camera's ring and recorder, whose encoder process is played by this one."""

    def __init__(self, folder: Path, patch) -> None:
        self.stream_dir = folder
        self.folder = make_camera_dir(folder, "front")
        self.ring = create_ring(1 << 20, folder)
        self.complete: list[Path] = []
        self.patch = patch
        self.seen: list[int] = []
        self.size = 48
        self.reason = Reason.NONE
        self.start()

    def start(self) -> None:
        self.recorder = CameraRecorder(
            self.ring, 0, HEAD, self.folder, "high", self.complete.append,
            pictures_per_segment=4, min_free_bytes=0,
        )  # fmt: skip

    def see(self, index: int, *, refused: bool) -> None:
        number = len(self.seen)
        self.seen.append(index)
        if refused:
            self.reason = Reason.FULL
            self.ring.see(0, number + 1, index, self.reason)
            return
        self.ring.see(0, number + 1, index, self.reason)
        picture = TEXTURE[: self.size] + np.uint8(brightness(number))
        assert self.ring.write(0, number, index, 1000 * index, picture, self.reason)
        self.reason = Reason.NONE

    def encode(self, *, at_most: int = 1000) -> None:
        while at_most and (picture := self.ring.read()) is not None:
            self.recorder.take(picture)
            self.ring.release(picture.end)
            at_most -= 1

    def kill(self, *, before_note: bool = False) -> None:
        if before_note and (picture := self.ring.read()) is not None:
            with self.patch.context() as patch:
                patch.setattr(self.ring, "take", lambda *_: None)
                self.recorder.take(picture)
        self.start()

    def fail_next(self, what: str) -> None:
        with self.patch.context() as patch:
            full = _raise(OSError(28, "No space left on device"))
            if what == "disk full":
                patch.setattr(PartWriter, "append_picture", full)
            elif what == "no room":
                patch.setattr(PartWriter, "_append", full)
            else:
                patch.setattr(PictureEncoder, "encode", _raise(EncodingFailed("no")))
            self.encode(at_most=1)

    def end(self) -> None:
        self.encode()
        self.recorder.end()
        for path in sorted({*self.complete, *self.folder.glob("*.part")}):
            if path.exists():
                finish_part(path)


def brightness(number: int) -> int:
    """Of the picture with that number; neighbours differ much."""
    return 20 + 53 * number % 160


def decode(path: Path) -> list[float]:
    """Brightness of each picture in an mp4."""
    with av.open(str(path)) as container:
        return [float(frame.to_ndarray(format="rgb24").mean()) for frame in container.decode(video=0)]


def _raise(error: Exception):
    def fail(*_: object) -> None:
        raise error

    return fail


@settings(max_examples=60, deadline=None)
@example(steps=["picture", "larger", "encode", "picture", "disk full"])
@given(steps=STEPS)
def test_every_picture_is_recorded_or_named(steps):
    """After any order of pictures, kills and failures the segments tell of each picture, once; their numbers
    have no gap, and the mp4s show the very pictures of which their sidecars tell."""
    folder = Path(tempfile.mkdtemp())
    rig = Rig(folder, pytest.MonkeyPatch)
    for index, step in enumerate(steps):
        if step in ("picture", "refused"):
            rig.see(index, refused=step == "refused")
        elif step == "larger":
            rig.size += 2
        elif step == "encode":
            rig.encode()
        elif step in ("kill", "kill before note"):
            rig.kill(before_note=step != "kill")
        elif step in ("disk full", "no room", "no codec"):
            rig.fail_next(step)
    rig.end()
    segments = list(finished_segments(folder))
    videos = [segment.video for segment in segments]
    assert [video.chunk_index for video in videos] == list(range(len(videos)))
    recorded = [frame for video in videos for frame in video.frames.frame_index]
    assert recorded == sorted(set(recorded))
    missing = {frame for video in videos for gap in video.dropped for frame in range(gap.first, gap.end)}
    assert missing.isdisjoint(recorded)
    if recorded:  # else there is no segment that could tell
        assert {*rig.seen} <= {*recorded} | missing
        assert {*recorded} <= {*rig.seen}
    shown = [value for segment in segments for value in decode(segment.path)]
    assert shown == pytest.approx([brightness(rig.seen.index(frame)) + 30 for frame in recorded], abs=5)
    account = rig.ring.account(0)
    assert account.recorded == len(recorded)
    shutil.rmtree(folder)
