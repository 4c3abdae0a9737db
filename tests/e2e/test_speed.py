"""A control loop of one's own runs at another rate than it declares: its dataset plays as fast as it ran."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from lerobot_robot_backend.client import TelemetryClient
from teleop_testing.backends.processes import ServiceProcess
from teleop_testing.waiting import PATIENCE_S

JOINTS = {"shoulder.pos": 1.0}
SECONDS = 6
STARTED_US = 1_790_000_000_000_000
EXPORT = Path(sys.executable).parent / "export-to-dataset"


def record(backend: ServiceProcess, spool: Path, hz: int) -> int:
    """The number of a session that is stored: SECONDS of a loop that says when it saw what, declared 30 Hz.

    The joint moves by one a second.
    """
    client = TelemetryClient(
        f"ws://{backend.address}",
        "robot_A",
        state_names=tuple(JOINTS),
        action_names=tuple(JOINTS),
        fps=30,
        spool_dir=spool,
        min_free_bytes=0,
    )
    with client:
        for frame in range(SECONDS * hz):
            moved = {"shoulder.pos": frame / hz}
            client.log(moved, moved, captured_us=STARTED_US + round(frame * 1e6 / hz))
    assert client.drain(PATIENCE_S) == SECONDS * hz
    assert client.session_id is not None
    return client.session_id


def test_a_dataset_plays_as_fast_as_the_loop_ran(backend, tmp_path):
    """Faster than declared it is thinned out unless all is asked for; slower it has the measured rate."""
    fast, slow = (record(backend, tmp_path / "spool", hz) for hz in (60, 20))
    check(exported(backend, fast, tmp_path / "thinned"), fps=30, hz=60)
    check(exported(backend, fast, tmp_path / "whole", "--fps=60"), fps=60, hz=60)
    check(exported(backend, slow, tmp_path / "slow"), fps=20, hz=20)


def exported(backend: ServiceProcess, session: int, root: Path, *words: str) -> Path:
    done = subprocess.run(
        [
            EXPORT,
            f"--session_id={session}",
            "--repo_id=u/exported",
            f"--root={root}",
            f"--backend_url=http://{backend.address}",
            *words,
        ],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_LEROBOT_HOME": str(root.with_name("lerobot"))},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return root


def check(root: Path, *, fps: int, hz: int) -> None:
    """SECONDS of rows at `fps`, with the joint where it was at each time, to the step of a loop of `hz`."""
    assert json.loads((root / "meta/info.json").read_text())["fps"] == fps
    rows = pq.read_table(root / "data")
    times = rows["timestamp"].to_numpy()
    assert len(rows) == SECONDS * fps
    np.testing.assert_allclose(times, np.arange(len(rows)) / fps, atol=1e-4)
    np.testing.assert_allclose(rows["observation.state"].to_numpy(), times, atol=1 / hz)
