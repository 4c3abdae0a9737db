"""A robot with a camera, recorded by the robot library itself."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from lerobot_robot_backend.client import TelemetryClient
from lerobot_robot_virtual.arm import NAMES, leader_positions
from lerobot_robot_virtual.scene import render
from teleop_schema.session import Camera
from teleop_testing.robots.spooled import JOINTS, log_frames
from teleop_testing.waiting import PATIENCE_S

AGENT = Path(sys.executable).parent / "sync-agent"
FRAMES, RATE_HZ = 180, 60.0
JOINED_FRAMES = 120
# The camera has half the loop's rate.
PICTURE_EVERY = 2
HEIGHT, WIDTH = 120, 160


def record(url: str, spool_dir: Path) -> dict[str, Any]:
    """Record one episode; its ledger, once samples and pictures are all on the server and were looked at."""
    with TelemetryClient(
        url,
        "robot_stack",
        state_names=NAMES,
        action_names=NAMES,
        fps=RATE_HZ,
        cameras={"front": Camera(HEIGHT, WIDTH, RATE_HZ / PICTURE_EVERY)},
        spool_dir=spool_dir,
        min_free_bytes=0,
    ) as client:
        client.start_episode("wave")
        picture, taken_us = None, 0
        for index in range(FRAMES):
            positions = leader_positions(index / RATE_HZ)
            if index % PICTURE_EVERY == 0:
                picture = render("front", positions, index, height=HEIGHT, width=WIDTH)
                taken_us = client.clock.now_us()
            client.log({**positions, "front": picture}, positions, picture_us={"front": taken_us})
            time.sleep(1 / RATE_HZ)
        client.end_episode("success")
    assert client.drain(timeout_s=PATIENCE_S) == FRAMES
    deadline = time.monotonic() + PATIENCE_S
    while True:
        address = f"{url}/sessions/{client.session_id}/ledger"
        ledger: dict[str, Any] = httpx.get(address, timeout=PATIENCE_S).json()
        if ledger["complete"]:
            return ledger
        assert time.monotonic() < deadline, (ledger, client.pictures())
        time.sleep(0.1)


def join_and_record(url: str, robot_id: str, line: str, spool_dir: Path) -> int:
    """A robot joins by the line, then records JOINED_FRAMES; its session, once they are all on the server."""
    joined = subprocess.run(
        [AGENT, "join", line], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert joined.returncode == 0, joined.stderr
    with TelemetryClient(
        url,
        robot_id,
        state_names=JOINTS,
        action_names=JOINTS,
        fps=RATE_HZ,
        spool_dir=spool_dir,
        min_free_bytes=0,
    ) as client:
        log_frames(client, JOINED_FRAMES)
    assert client.drain(timeout_s=PATIENCE_S) == JOINED_FRAMES
    session_id = client.session_id
    assert session_id is not None
    return session_id


def state_of(index: int) -> list[float]:
    """What the robot's joints were at a loop iteration."""
    positions = leader_positions(index / RATE_HZ)
    return [positions[name] for name in NAMES]
