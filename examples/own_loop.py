"""A loop of your own, without LeRobot, whose every frame reaches the backend.

With the robot library (docs/quickstart.md): python examples/own_loop.py ws://localhost:8000 robot_A
"""

import math
import sys
import time

from lerobot_robot_backend import TelemetryClient

FPS = 60
SECONDS = 2
JOINTS = ["shoulder_pan.pos", "shoulder_lift.pos", "gripper.pos"]


def read_joints(second: float) -> dict[str, float]:
    """In the place of your robot: degrees of each joint."""
    return {name: 30 * math.sin(second + index) for index, name in enumerate(JOINTS)}


def main(backend_url: str, robot_id: str) -> None:
    with TelemetryClient(
        backend_url, robot_id, state_names=JOINTS, action_names=JOINTS, fps=FPS, task="wave"
    ) as client:
        begun = time.monotonic()
        for step in range(FPS * SECONDS):
            observation = read_joints(step / FPS)
            action = {name: value + 1 for name, value in observation.items()}
            # The frame is on this disk once `log` has returned; nothing here waits for the network.
            client.log(observation, action)
            time.sleep(max(0.0, begun + (step + 1) / FPS - time.monotonic()))
    # The session has ended, and another process sends what is left. A robot need not wait for it.
    client.drain(timeout_s=60)
    print(client.summary())


if __name__ == "__main__":
    main(*sys.argv[1:])
