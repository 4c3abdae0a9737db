"""A control loop of one's own with a camera of depth in metres and one of grayscale, up to LeRobotDataset."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
from lerobot_robot_backend.client import TelemetryClient
from lerobot_robot_backend.video.files import has_unstored_video, holds_video
from teleop_schema.session import Camera
from teleop_testing.backends.processes import ServiceProcess
from teleop_testing.waiting import PATIENCE_S

JOINTS = {"shoulder.pos": 1.0}
FRAMES, FPS, HEIGHT, WIDTH = 60, 30, 48, 64
STARTED_US = 1_790_000_000_000_000
CAMERAS = {name: Camera(HEIGHT, WIDTH, FPS, channels=1) for name in ("depth", "grey")}
EXPORT = Path(sys.executable).parent / "export-to-dataset"


def depth(number: int) -> np.ndarray:
    """In metres, (HEIGHT, WIDTH, 1), another for each number."""
    distances = np.linspace(0.2, 6.0, HEIGHT * WIDTH, dtype=np.float32) + number / 100
    return distances.reshape(HEIGHT, WIDTH, 1)


def record(backend: ServiceProcess, spool: Path) -> int:
    """The number of a session that is stored with all of its video."""
    client = TelemetryClient(
        f"ws://{backend.address}",
        "robot_A",
        state_names=tuple(JOINTS),
        action_names=tuple(JOINTS),
        fps=FPS,
        cameras=CAMERAS,
        spool_dir=spool,
        min_free_bytes=0,
    )
    with client:
        for frame in range(FRAMES):
            pictures = {"depth": depth(frame), "grey": np.full((HEIGHT, WIDTH, 1), frame, np.uint8)}
            client.log(JOINTS | pictures, JOINTS, captured_us=STARTED_US + round(frame * 1e6 / FPS))
    assert client.drain(PATIENCE_S) == FRAMES
    deadline = time.monotonic() + PATIENCE_S
    while not holds_video(client.stream_dir) or has_unstored_video(client.stream_dir):
        assert time.monotonic() < deadline, list(client.stream_dir.rglob("*"))
        time.sleep(0.1)
    assert client.session_id is not None
    return client.session_id


def test_depth_is_exported_and_grayscale_is_not_waited_for(backend, tmp_path):
    """By default, with no word of cameras; the session says of the other one why it has no video."""
    import torch
    from lerobot.datasets.depth_utils import dequantize_depth, quantize_depth
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    session = record(backend, tmp_path / "spool")
    told = httpx.get(f"http://{backend.address}/sessions/{session}", timeout=PATIENCE_S).json()
    assert told["cameras"].keys() == {"depth"}
    assert "something other than depth" in told["host"]["cameras_not_recorded"]["grey"]
    root = tmp_path / "exported"
    words = [f"--session_id={session}", "--repo_id=u/exported", f"--root={root}"]
    done = subprocess.run(
        [EXPORT, *words, f"--backend_url=http://{backend.address}"],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_LEROBOT_HOME": str(tmp_path / "lerobot")},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    dataset = LeRobotDataset("u/exported", root=root, depth_output_unit="m")
    key = "observation.images.depth"
    assert (len(dataset), dataset.meta.video_keys, dataset.meta.depth_keys) == (FRAMES, [key], [key])
    assert dataset.features[key]["info"]["depth_unit"] == "m"
    for row in range(FRAMES):
        codes = torch.from_numpy(quantize_depth(depth(row), video_backend=None)[None])
        theirs = dequantize_depth(codes, output_unit="m").numpy()
        np.testing.assert_array_equal(dataset[row][key].numpy(), theirs)
        np.testing.assert_allclose(theirs[0], depth(row)[..., 0], atol=2e-3)
