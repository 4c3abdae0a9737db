"""A recording of the virtual robot whose pictures show the index of their frame, in a backend."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from lerobot_robot_backend import TelemetryClient
from lerobot_robot_virtual.arm import NAMES, leader_positions
from lerobot_robot_virtual.scene import VIEWS, render
from teleop_schema.session import Camera
from teleop_testing.backends.processes import ServiceProcess
from teleop_testing.waiting import PATIENCE_S
from teleop_video_ingest.model.coverage import NOT_YET

# A name of this machine that is not its own: what is asked under it comes by plain http from elsewhere.
OTHER_NAME = "robots.test"
PATIENCE_MS = PATIENCE_S * 1000
RATE_HZ = 60.0
# Longer than a file of video: 300 pictures.
FRAMES = 660
# The cameras have half the loop's rate.
PICTURE_EVERY = 2
HEIGHT, WIDTH = 120, 160
EPISODES = [(0, 200), (220, 420), (440, FRAMES)]


def record(url: str, robot_id: str, spool: Path) -> int:
    """A session of the virtual robot with two cameras, whose pictures show the index of their frame."""
    with TelemetryClient(
        url,
        robot_id,
        state_names=NAMES,
        action_names=NAMES,
        fps=RATE_HZ,
        task="pick the cube",
        cameras={view: Camera(HEIGHT, WIDTH, RATE_HZ / PICTURE_EVERY) for view in VIEWS},
        spool_dir=spool,
        min_free_bytes=0,
    ) as client:
        starts, ends = ({frame[side] for frame in EPISODES} for side in (0, 1))
        pictures: dict[str, Any] = {}
        begun = time.perf_counter()
        for index in range(FRAMES):
            if index in ends:
                client.end_episode()
            if index in starts:
                client.start_episode("pick the cube")
            positions = leader_positions(index / RATE_HZ)
            if index % PICTURE_EVERY == 0:
                pictures = {
                    view: render(view, positions, index, height=HEIGHT, width=WIDTH) for view in VIEWS
                }
                taken = dict.fromkeys(VIEWS, client.clock.now_us())
            client.log({**positions, **pictures}, leader_positions(index / RATE_HZ + 0.1), picture_us=taken)
            time.sleep(max(0.0, begun + index / RATE_HZ - time.perf_counter()))
        client.end_episode()
    assert client.drain(timeout_s=PATIENCE_S) == FRAMES
    assert client.session_id is not None
    return client.session_id


@dataclass(frozen=True)
class Recorded:
    """A backend that has recorded a session.

    frames  of each camera: the frames that first saw one of its pictures, which show this number
    """

    process: ServiceProcess
    session_id: int
    frames: dict[str, list[int]]

    @property
    def url(self) -> str:
        return self.process.url

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.url}/{path}", timeout=PATIENCE_S).raise_for_status().json()

    def send(self, method: str, path: str, body: Any) -> Any:
        answer = httpx.request(method, f"{self.url}/{path}", json=body, timeout=PATIENCE_S)
        return answer.raise_for_status().json()

    def has_arrived(self) -> bool:
        """Whether nothing of it is on its way; of the last second of video, the ledger alone can't say so."""
        cameras = self.get(f"sessions/{self.session_id}/videos")["cameras"]
        awaited = [gap for camera in cameras for gap in camera["uncovered"] if gap["reason"] == NOT_YET]
        # A picture belongs to the frame that first saw it.
        few = all(gap["end"] - gap["first"] < PICTURE_EVERY for gap in awaited)
        return few and self.get(f"sessions/{self.session_id}/ledger")["complete"]

    def episode(self, number: int) -> Any:
        return self.get(f"sessions/{self.session_id}/episodes/{number}")
