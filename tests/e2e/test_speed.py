"""What a program records is played by its dataset as fast as it happened, whatever rate it declared."""

import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest
from lerobot_robot_backend import TelemetryClient

NAMES = ("shoulder_pan.pos", "gripper.pos")
DECLARED, REAL, FRAMES = 30, 60, 150
PATIENCE_S = 300.0


def recorded(address, spool):
    """Session 1: frames of a loop twice as fast as it says."""
    with TelemetryClient(
        f"ws://{address}",
        "robot_A",
        state_names=NAMES,
        action_names=NAMES,
        fps=DECLARED,
        robot_type="virtual",
        spool_dir=spool,
        min_free_bytes=0,
    ) as client:
        begun = time.perf_counter()
        for frame in range(FRAMES):
            values = dict.fromkeys(NAMES, float(frame))
            client.log(values, values)
            time.sleep(max(0.0, begun + (frame + 1) / REAL - time.perf_counter()))
    assert client.drain(timeout_s=PATIENCE_S)


def test_a_loop_twice_as_fast_as_declared_lasts_as_long_as_it_took(backend, tmp_path):
    """A real session, exported by the command; the times are those that the server stored."""
    recorded(backend.address, tmp_path / "spool")
    root = tmp_path / "exported"
    command = [Path(sys.executable).parent / "export-to-dataset", "--session_id=1", "--repo_id=u/fast"]
    where = [f"--root={root}", f"--backend_url=http://{backend.address}"]
    subprocess.run([*command, *where], check=True, timeout=PATIENCE_S)
    rows = pq.read_table(root / "data")
    assert json.loads((root / "meta/info.json").read_text())["fps"] == DECLARED
    (session,) = json.loads((root / "meta/backend.json").read_text())["report"]["sessions"]
    # On a busy machine the loop is late now and then: what it stood still is no part of its speed.
    still_s = sum(stall["seconds"] - 1 / DECLARED for each in session["times"] for stall in each["stalls"])
    took_s = (rows["capture.time_ns"][-1].as_py() - rows["capture.time_ns"][0].as_py()) / 1e9
    slack_s = (2 + 2 * sum(len(each["stalls"]) for each in session["times"])) / DECLARED
    assert rows["timestamp"][-1].as_py() == pytest.approx(took_s - still_s, abs=slack_s)
    ledger = httpx.get(f"http://{backend.address}/sessions/1/ledger", timeout=PATIENCE_S).json()
    assert ledger["committed"] == FRAMES
    assert session["declared_fps"] == DECLARED
