"""Tools of others that look for faults in LeRobot datasets."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from teleop_testing.waiting import PATIENCE_S

COMMANDS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def picked(exporter):
    """Two episodes with two cameras of different rates, as a dataset at 30 rows per second."""
    session = exporter.record(900, [(0, 420, "pick", None), (430, 900, "place", None)])
    exporter.film(session, 900, "front", segment=40)
    exporter.film(session, 900, "wrist", fps=25, segment=33)
    return exporter.export(session, "picked")


def test_lerobot_doctor_finds_nothing(picked):
    """Metadata, times, actions, video, statistics, readiness for training: nothing but that the clock of this
    recording is more even than a real one."""
    words = [COMMANDS / "lerobot-doctor", "check", picked, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    report = json.loads(done.stdout)
    assert len(report["checks"]) >= 10
    found = [
        message["message"]
        for check in report["checks"]
        for message in check["messages"]
        if message["severity"] != "PASS" and not message["message"].startswith("capture.")
    ]
    assert found == []


def test_robovet_finds_nothing(picked, tmp_path):
    """None of its checks of structure, times, statistics and video fails or warns."""
    words = [COMMANDS / "robovet", "doctor", picked, "--json", tmp_path / "findings.json"]
    subprocess.run(words, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    findings = json.loads((tmp_path / "findings.json").read_text())["results"]
    assert len(findings) >= 30
    assert [each for each in findings if each["severity"].upper() not in ("PASS", "INFO")] == []
