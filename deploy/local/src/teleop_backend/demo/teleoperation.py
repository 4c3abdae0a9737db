"""A virtual SO-101 teleoperated at 60 Hz, its samples recorded through the robot library."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from lerobot_robot_backend import TelemetryClient
from lerobot_robot_virtual.arm import NAMES, VirtualArm, leader_positions
from numpy.typing import NDArray

# LeRobot's own rate of teleoperation.
FPS = 60
TASK = "wave the virtual arm"
# Ten times what the motion asks for in a sixtieth of a second: the follower always keeps up.
MAX_STEP_DEG = 20.0
# The loop catches up on delays of a busy machine that are shorter than this.
MADE_UP_S = 0.25


def connect(backend_url: str, robot_id: str, spool: Path) -> TelemetryClient:
    """A session of the virtual SO-101."""
    return TelemetryClient(
        backend_url,
        robot_id,
        state_names=NAMES,
        action_names=NAMES,
        fps=FPS,
        robot_type="virtual_so101_follower",
        task=TASK,
        spool_dir=spool,
        min_free_bytes=100_000_000,
    )


def teleoperate(
    client: TelemetryClient, seconds: float, each_second: Callable[[int, int, int], None]
) -> NDArray[np.float32]:
    """Record one episode and close the session; returns what was logged.

    each_second  called once a second with the second, the frames logged and the frames acknowledged
    returns      (N, 12) float32: state, then action, of each frame
    """
    arm = VirtualArm(MAX_STEP_DEG)
    logged = []
    with client:
        client.start_episode(TASK)
        due = time.perf_counter()
        for frame in range(round(seconds * FPS)):
            observation = arm.positions
            action = leader_positions(frame / FPS)
            sent = arm.command(action)
            client.log(observation, action, sent_action=sent)
            logged.append([*observation.values(), *action.values()])
            if frame % FPS == FPS - 1:
                each_second(frame // FPS + 1, client.logged, client.acknowledged)
            now = time.perf_counter()
            due = max(due + 1 / FPS, now - MADE_UP_S)
            time.sleep(max(0.0, due - now))
        client.end_episode("success")
    return np.array(logged, np.float32)
