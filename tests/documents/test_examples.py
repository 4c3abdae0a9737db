"""Every example does what it shows, against a real backend."""

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from teleop_testing.backends.processes import ServiceProcess
from teleop_testing.machine.prepared import PreparedPython
from teleop_testing.waiting import PATIENCE_S, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"
WITH_CAMERAS = "own_loop_with_cameras.py"


def run(example: str, *arguments: str, environment: dict[str, str]) -> str:
    command = [sys.executable, str(EXAMPLES / example), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def with_cameras(backend: ServiceProcess, environment: dict[str, str]) -> str:
    """What the example printed."""
    return run(WITH_CAMERAS, f"ws://{backend.address}", "robot_C", environment=environment)


def session_in(printed: str) -> str:
    found = re.search(r"\(session (\d+)\): complete", printed)
    assert found, printed
    return found[1]


def test_frames_of_a_loop_are_read_with_pandas(backend: ServiceProcess, environment: dict[str, str]):
    printed = run("own_loop.py", f"ws://{backend.address}", "robot_B", environment=environment)
    assert "120 frames logged, 120 acknowledged" in printed
    url, session = f"http://{backend.address}", session_in(printed)
    read = run("read_session.py", url, session, environment=environment)
    assert read.startswith("120 of 120 frames, ")
    assert "observation.shoulder_lift.pos" in read
    assert re.search(r"^max +30\.00 +30\.00 ", read, re.MULTILINE), read


def test_cameras_and_episodes_arrive(backend: ServiceProcess, with_cameras: str):
    assert "front: 60 pictures recorded, 0 dropped" in with_cameras
    session = httpx.get(
        f"http://{backend.address}/sessions/{session_in(with_cameras)}", timeout=PATIENCE_S
    ).json()
    episodes = [(each["start_frame"], each["end_frame"], each["outcome"]) for each in session["episode_list"]]
    assert episodes == [(0, 30, "success"), (30, 60, "success")]
    assert [column["name"] for column in session["columns"]] == ["next.reward"]


def test_a_policy_trains_on_an_export(
    backend: ServiceProcess, with_cameras: str, python: PreparedPython, environment: dict[str, str]
):
    session = session_in(with_cameras)
    ledger = f"http://{backend.address}/sessions/{session}/ledger"
    wait_for(lambda: httpx.get(ledger, timeout=PATIENCE_S).json()["complete"])
    command = [EXAMPLES / "train.py", f"http://{backend.address}", "me/pushing", session]
    done = python.run(command, environment)
    assert done.returncode == 0, done.stdout
    # A busy machine turns the loop more slowly; then its rate is the dataset's.
    assert re.search(r"2 episodes, 60 frames at \d+ fps", done.stdout), done.stdout
    losses = [float(loss) for loss in re.findall(r"step \d+: loss (\S+)", done.stdout)]
    assert len(losses) == 2
    assert all(loss > 0 for loss in losses)


def test_every_example_is_described():
    described = (EXAMPLES / "README.md").read_text()
    assert {path.name for path in EXAMPLES.glob("*.py") if f"({path.name})" not in described} == set()
