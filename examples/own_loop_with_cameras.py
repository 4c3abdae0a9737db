"""A loop of your own with a camera, episodes, and a value beyond joints.

python examples/own_loop_with_cameras.py ws://localhost:8000 robot_A
"""

import math
import sys
import time

import numpy as np
from lerobot_robot_backend import TelemetryClient
from teleop_schema.session import Camera

FPS = 30
EPISODE_S = 1
EPISODES = 2
JOINTS = ["shoulder_pan.pos", "gripper.pos"]
FRONT = Camera(height=96, width=128, fps=FPS)


def take_picture(step: int) -> np.ndarray:
    """In the place of your camera: (height, width, 3) uint8, RGB."""
    picture = np.zeros((FRONT.height, FRONT.width, 3), np.uint8)
    picture[:, : step % FRONT.width] = (200, 120, 40)
    return picture


def main(backend_url: str, robot_id: str) -> None:
    with TelemetryClient(
        backend_url, robot_id, state_names=JOINTS, action_names=JOINTS, fps=FPS, cameras={"front": FRONT}
    ) as client:
        for _ in range(EPISODES):
            client.start_episode("push the cube")
            begun = time.monotonic()
            for step in range(FPS * EPISODE_S):
                # By the client's clock: when the picture was taken.
                taken_us = client.clock.now_us()
                joints = {name: 20 * math.sin(step / FPS + index) for index, name in enumerate(JOINTS)}
                action = {name: value + 1 for name, value in joints.items()}
                client.log(
                    {**joints, "front": take_picture(step)},
                    action,
                    picture_us={"front": taken_us},
                    columns={"next.reward": float(step == FPS * EPISODE_S - 1)},
                )
                time.sleep(max(0.0, begun + (step + 1) / FPS - time.monotonic()))
            client.end_episode("success")
    client.drain(timeout_s=60)
    print(client.summary())
    # Video is encoded and sent by processes of its own, which outlive this one.
    for camera, counts in client.pictures(timeout_s=60).items():
        print(f"{camera}: {counts.recorded} pictures recorded, {counts.dropped} dropped")


if __name__ == "__main__":
    main(*sys.argv[1:])
