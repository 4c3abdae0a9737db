"""Cameras of a recorder that was killed: what it had seen is found again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lerobot_robot_backend.shipping.recovery import recover
from lerobot_robot_backend.spool.locks import is_locked
from lerobot_robot_backend.video.files import (
    ENCODER_LOCK,
    NO_PICTURE,
    camera_dir,
    find_parts,
    finished_segments,
    has_unstored_video,
)
from lerobot_robot_backend.video.part_file import read_part
from teleop_testing.robots.segments import no_video, read_video, wait_for

# Records pictures, two loop iterations each, until it is killed; says after each how many there were.
RECORDER = """
import sys, time
from pathlib import Path
import numpy
from lerobot_robot_backend.client import TelemetryClient
from lerobot_robot_virtual.arm import REST
from lerobot_robot_virtual.scene import render
from teleop_schema.session import Camera

client = TelemetryClient(
    "ws://127.0.0.1:1", "robot_A", state_names=["shoulder.pos"], action_names=["shoulder.pos"], fps=60,
    cameras={"front": Camera(120, 160, 30.0), "grey": Camera(120, 160, 30.0, channels=1)},
    spool_dir=Path(sys.argv[1]), min_free_bytes=0, ship=False,
)
grey = numpy.zeros((120, 160, 1), numpy.uint8)
number = 0
while True:
    picture = render("front", REST, number, height=120, width=160)
    now_us = client.clock.now_us()
    for _ in range(2):
        observation = {"shoulder.pos": 0.0, "front": picture, "grey": grey}
        client.log(observation, {"shoulder.pos": 0.0}, captured_us=now_us)
    number += 1
    print(number, client._video.encoder_pid, flush=True)
    time.sleep(1 / 60)
"""


@pytest.fixture
def recorder(spool, tmp_path):
    """A process that records until it is killed; returns it once it has recorded some pictures."""
    process = subprocess.Popen(
        [sys.executable, "-c", RECORDER, str(spool)], stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def run_on(recorder: subprocess.Popen, spool: Path) -> tuple[Path, int, int]:
    """Let it record until pictures are in a file; its stream, how many pictures it told of, its encoder."""
    number = encoder = 0
    while number < 30 or not any(map(pictures_in, spool.glob("*/*/video/front/*.part"))):
        number, encoder = map(int, recorder.stdout.readline().split())
    (stream_dir,) = spool.glob("robot_A/*")
    return stream_dir, number, encoder


def pictures_in(part: Path) -> int:
    """How many pictures the unfinished segment holds; none once it was finished, and has another name."""
    try:
        return len(read_part(part).numbers)
    except FileNotFoundError:
        return 0


def kill_both(recorder: subprocess.Popen, encoder: int, stream_dir: Path) -> None:
    """kill -9 of the encoder, then of the recording process."""
    os.kill(encoder, signal.SIGKILL)
    recorder.kill()
    recorder.wait()
    wait_for(lambda: not is_locked(stream_dir / ENCODER_LOCK), "the encoder is gone")


async def test_killed_recorder_loses_no_picture(recorder, spool):
    """kill -9 of the recording process: its encoder finishes what lies in the ring, and ends."""
    stream_dir, number, _ = run_on(recorder, spool)
    recorder.kill()
    recorder.wait()
    number += sum(1 for _ in recorder.stdout)
    wait_for(lambda: not is_locked(stream_dir / ENCODER_LOCK), "the encoder ends")
    recorded = read_video(stream_dir)
    # The last one may have been logged without being told.
    assert len(recorded.counters) in (number, number + 1)
    assert recorded.counters == [*range(len(recorded.counters))]
    assert recorded.frame_indexes == [2 * k for k in recorded.counters]
    assert not find_parts(stream_dir)


async def test_when_both_are_killed_the_rest_is_recovered(recorder, spool):
    """The encoder's file is made a segment, and it says from where on pictures may be missing."""
    stream_dir, _, encoder = run_on(recorder, spool)
    kill_both(recorder, encoder, stream_dir)
    assert has_unstored_video(stream_dir)
    assert not list(finished_segments(stream_dir))
    assert no_video(stream_dir) == {"grey": NO_PICTURE}
    assert len(recover(stream_dir)) == 1
    recorded = read_video(stream_dir)
    assert recorded.counters == [*range(len(recorded.counters))]
    (gap,) = recorded.dropped
    assert gap.first == recorded.frame_indexes[-1] + 1
    assert gap.reason.startswith("the recording and its encoder were killed")
    assert recover(stream_dir) == []


async def test_a_killed_recorders_camera_without_video_is_told(recorder, spool):
    """Its pictures are grayscale, which nobody can record: so nobody is to wait for its video."""
    stream_dir, *_ = run_on(recorder, spool)
    assert no_video(stream_dir) == {}
    recorder.kill()
    recorder.wait()
    wait_for(lambda: not is_locked(stream_dir / ENCODER_LOCK), "the encoder ends")
    assert no_video(stream_dir) == {"grey": NO_PICTURE}
    for path in camera_dir(stream_dir, "front").iterdir():
        path.unlink()
    (camera_dir(stream_dir, "front") / "000000.part").touch()
    assert no_video(stream_dir) == dict.fromkeys(["front", "grey"], NO_PICTURE)


async def test_what_an_encoder_may_still_record_is_waited_for(recorder, spool):
    """The stream does not end before its encoder has: until then nobody knows which camera has no video."""
    stream_dir, _, encoder = run_on(recorder, spool)
    os.kill(encoder, signal.SIGSTOP)
    recorder.kill()
    recorder.wait()
    assert no_video(stream_dir) == {}
    os.kill(encoder, signal.SIGCONT)
    wait_for(lambda: no_video(stream_dir) == {"grey": NO_PICTURE}, "the end tells of the camera")


async def test_nothing_is_recovered_while_somebody_records(recorder, spool):
    """The segment that is being recorded belongs to its encoder."""
    stream_dir, _, _ = run_on(recorder, spool)
    assert find_parts(stream_dir)
    assert recover(stream_dir) == []


async def test_recovery_interrupted_anywhere_is_done_again(recorder, spool):
    """What a recovery left that was killed itself does not confuse the next one."""
    stream_dir, _, encoder = run_on(recorder, spool)
    kill_both(recorder, encoder, stream_dir)
    (part,) = find_parts(stream_dir)
    content = part.read_bytes()
    (first,) = recover(stream_dir)
    part.write_bytes(content)  # killed before it was removed
    part.with_suffix(".new").write_bytes(b"half")
    (again,) = recover(stream_dir)
    assert again == first
    assert [path.name for path in sorted(camera_dir(stream_dir, "front").iterdir())] == [
        "000000.json",
        "000000.mp4",
    ]
