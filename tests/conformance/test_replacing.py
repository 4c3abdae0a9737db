"""LeRobot reads what lies there, not what lay there before."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from teleop_testing.waiting import PATIENCE_S


def first_state(root):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    opened = LeRobotDataset("lab/same", root=root)
    return len(opened), opened[0]["observation.state"].numpy()


def test_another_export_in_the_same_place_is_another_dataset(exporter, tmp_path):
    """Export, load, remove, export other sessions there, load: `datasets` keeps rows by path and time."""
    root = tmp_path / "same"
    sessions = [exporter.record(90, [(first, first + 60, "pick", None)]) for first in (0, 30)]
    command = Path(sys.executable).parent / "export-to-dataset"
    found = []
    for session in sessions:
        words = [f"--session_id={session}", "--repo_id=lab/same", f"--root={root}"]
        where = [f"--backend_url={exporter.http.base_url}"]
        subprocess.run([command, *words, *where], env=os.environ, check=True, timeout=PATIENCE_S)
        found.append(first_state(root))
        shutil.rmtree(root)
    for session, first, (length, state) in zip(sessions, (0, 30), found, strict=True):
        assert length == 60
        np.testing.assert_array_equal(state, exporter.frame(session, first)["observation.state"])
