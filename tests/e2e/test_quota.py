"""A robot that has used its quota keeps what it records, says why, and goes on when it may."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from lerobot_robot_backend.client import TelemetryClient
from teleop_testing.backends.processes import whole_backend
from teleop_testing.datasets.dataset_folders import make_dataset
from teleop_testing.robots.spooled import JOINTS, log_frames
from teleop_testing.waiting import PATIENCE_S, wait_for

QUOTA = "LEROBOT_BACKEND_ROBOT_QUOTA_GB"
AGENT = Path(sys.executable).with_name("sync-agent")


def test_a_robot_waits_with_its_datasets_until_there_is_room(tmp_path, monkeypatch):
    """Frames are stored all the same; `status` and the log name the quota, and nothing is started again."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    make_dataset(tmp_path / "outputs" / "picking")
    # The last of it does not fit.
    size_bytes = sum(path.stat().st_size for path in (tmp_path / "outputs").rglob("*") if path.is_file())
    quota_gb = (size_bytes - 100) / 1e9
    with (
        tempfile.TemporaryDirectory(prefix="backend-") as folder,
        whole_backend(folder, **{QUOTA: f"{quota_gb:.9f}"}) as backend,
    ):
        client = TelemetryClient(
            backend.url,
            "robot_A",
            state_names=JOINTS,
            action_names=JOINTS,
            fps=60,
            spool_dir=tmp_path / "spool",
            min_free_bytes=0,
            ship=False,
        )
        with client:
            log_frames(client, 60)
        folders = ["--watch", str(tmp_path / "outputs"), "--spool", str(tmp_path / "spool")]
        names = {"LEROBOT_BACKEND_URL": backend.url, "LEROBOT_BACKEND_ROBOT_ID": "robot_A"}
        log = tmp_path / "agent.log"
        with log.open("w") as file:
            agent = subprocess.Popen([AGENT, "run", *folders], stderr=file, env={**os.environ, **names})

        def status(*words: str) -> str:
            done = subprocess.run(
                [AGENT, "status", "--robot_id", "robot_A", *words],
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            )
            return done.stdout

        try:
            wait_for(lambda: "quota_reached: the files of robot_A take" in status())
            wait_for(lambda: client.progress.ended)
            backend.stop()
            backend.environment[QUOTA] = "1"
            backend.start()
            wait_for(lambda: json.loads(status("--json"))["datasets"][0]["state"] == "stored")
        finally:
            agent.terminate()
            agent.wait(PATIENCE_S)
        assert "quota_reached" in log.read_text()
