"""The robot of the first state: what it records, frame by frame, by the code of that time."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lerobot_robot_backend.client import TelemetryClient
from lerobot_robot_backend.video_spool import has_unstored_video
from lerobot_robot_virtual.arm import REST
from lerobot_robot_virtual.scene import render
from teleop_schema.session import Camera

ROBOT, NAMES, FPS = "robot_A", ("shoulder.pos", "elbow.pos", "gripper.pos"), 30
CAMERAS = {"front": (96, 128), "wrist": (48, 64)}
KEPT, WHOLE, HALF, UNSENT, PLAIN = 120, 150, 120, 60, 40
# Half of this one was acknowledged when the server went.
SENT_OF_HALF = 60
# Not that of whoever makes the archive.
HOST = {"hostname": "robot-pc", "system": "Linux"}
PATIENCE_S = 600.0


def values(session: str, frame: int) -> tuple[dict[str, float], dict[str, float]]:
    """Observation and action of a frame: no two frames have the same."""
    first = {"kept": 1000.0, "whole": 2000.0, "half": 3000.0, "unsent": 4000.0}[session] + frame
    return (
        {name: first + 0.25 * place for place, name in enumerate(NAMES)},
        {name: -first - 0.25 * place for place, name in enumerate(NAMES)},
    )


def wait_for(look: Callable[[], Any], what: str) -> Any:
    deadline_s = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline_s, f"{what} did not come"
        time.sleep(0.02)
    return found


class Recording:
    """A session of the robot, at its pace."""

    def __init__(self, name: str, url: str, spool: Path, *, ship: bool = True) -> None:
        self.name = name
        self.client = TelemetryClient(
            url, ROBOT, state_names=NAMES, action_names=NAMES, fps=FPS, robot_type="so101_follower",
            task="pick the cube", spool_dir=spool, min_free_bytes=0, ship=ship,
            cameras={key: Camera(*size, float(FPS)) for key, size in CAMERAS.items()}, host=HOST,
        )  # fmt: skip
        self.client.wait_for_encoder(PATIENCE_S)
        self._next_s = time.monotonic()

    def log(self, count: int, **more: Any) -> None:
        for _ in range(count):
            frame = self.client.logged
            observation, action = values(self.name, frame)
            pictures = {
                key: render(key, REST, frame, height=height, width=width)
                for key, (height, width) in CAMERAS.items()
            }
            self.client.log(observation | pictures, action, **more)
            self._next_s += 1 / FPS
            time.sleep(max(0.0, self._next_s - time.monotonic()))

    def finish(self) -> int:
        """The number of the session, once the server has all of it."""
        self.client.close()
        self.client.drain(PATIENCE_S)
        wait_for(lambda: not has_unstored_video(self.client.stream_dir), f"video of {self.name}")
        number = self.client.session_id
        assert number is not None
        return number


def record(url: str, spool: Path) -> None:
    """A recorder that is killed in the middle: says where, then that it has logged everything."""
    half = Recording("half", url, spool)
    print(half.client.stream_dir, flush=True)
    half.client.start_episode()
    half.log(SENT_OF_HALF)
    wait_for(lambda: half.client.acknowledged >= SENT_OF_HALF, "the first acknowledgements")
    # Until the server has gone.
    wait_for(lambda: half.client.progress.trouble, "the end of the server")
    half.log(HALF - SENT_OF_HALF)
    print("logged", flush=True)
    signal.pause()
