"""A robot whose clock is set while it records and is backed up: nothing stops or is lost. In `make chaos`.

The programs are the real ones; libfaketime lets them read another wall clock than the machine's, as if
somebody had set it. Clocks that nobody can set (since the start of the computer) go on.
"""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from lerobot_robot_backend.spool.segment import find_segments
from lerobot_robot_backend.spool.stream import find_streams, read_progress
from teleop_testing.backends.processes import ServiceProcess
from teleop_testing.datasets.dataset_folders import RowRecorder
from teleop_testing.datasets.recording import COMMANDS, sync_agent
from teleop_testing.waiting import PATIENCE_S, wait_for

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
JUMPS = ("+3d", "-3d", "+0")
DAY_S = 24 * 3600.0

pytestmark = pytest.mark.skipif(
    LIBRARY is None, reason="set clocks need libfaketime, which is not here: apt-get install faketime"
)

# Frames until its input ends; the wall clock at each goes to its output.
RECORD = """
import functools, sys, threading, time
import lerobot_robot_backend.client as client_module
from lerobot_robot_backend.spool.record import MAX_RECORD_BYTES
from lerobot_robot_backend.spool.writer import SpoolWriter

# Segments that are soon full, so that some are confirmed while it records.
client_module.SpoolWriter = functools.partial(SpoolWriter, segment_bytes=2 * MAX_RECORD_BYTES)
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
with client_module.TelemetryClient(
    sys.argv[1], "robot_A", state_names=("a",), action_names=("a",), fps=60, min_free_bytes=0
) as client:
    while not over.wait(1 / 60):
        client.log({"a": 1.0}, {"a": 1.0})
        print(time.time(), flush=True)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """All services in one process; its clock is the machine's."""
    home = tmp_path_factory.mktemp("server")
    folders = {"LEROBOT_BACKEND_DATA_DIR": "data", "LEROBOT_BACKEND_BACKUP_DIR": "backup"}
    environment = {name: str(home / folder) for name, folder in folders.items()}
    with ServiceProcess("teleop_backend", environment, "LEROBOT_BACKEND_PORT") as server:
        yield server


@pytest.fixture
def set_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets the clock of all programs that the test starts, for example by "+3d"."""
    told = tmp_path / "clock"

    def set_clock(offset: str) -> None:
        made = told.with_suffix(".new")
        made.write_text(f"{offset}\n")
        made.replace(told)

    set_clock("+0")
    monkeypatch.setenv("LD_PRELOAD", str(LIBRARY))
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(told))
    monkeypatch.setenv("FAKETIME_NO_CACHE", "1")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    return set_clock


def test_recording_and_shipper(server, set_clock, tmp_path):
    """Every frame arrives, in order and at the pace of the recording; what was confirmed stays its day."""
    spool = tmp_path / "spool"
    command = [sys.executable, "-c", textwrap.dedent(RECORD), f"ws://{server.address}"]
    robot = subprocess.Popen(
        command,
        env={**os.environ, "LEROBOT_BACKEND_SPOOL": str(spool)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    (stream_dir,) = wait_for(lambda: list(find_streams(spool)))
    for offset in JUMPS:
        acked = wait_for(lambda: read_progress(stream_dir).next)
        set_clock(offset)
        wait_for(lambda before=acked: read_progress(stream_dir).next > before + 60)
    seen, _ = robot.communicate(timeout=PATIENCE_S)
    assert robot.returncode == 0
    moments = [float(line) for line in seen.split()]
    assert max(moments) - min(moments) > 5 * DAY_S, "the robot's clock was set"
    progress = wait_for(lambda: (now := read_progress(stream_dir)).ended and now)
    assert progress.next == len(moments)
    assert next(iter(find_segments(stream_dir))) == 0, "nothing is removed before its day"
    session = f"http://{server.address}/sessions/{progress.session_id}"
    ledger = httpx.get(f"{session}/ledger", timeout=PATIENCE_S).json()
    assert (ledger["logged"], ledger["committed"]) == (len(moments), len(moments)), ledger
    assert (ledger["missing"], ledger["duplicates"], ledger["backwards"]) == (0, 0, 0), ledger
    assert ledger["longest_stall_ms"] < 1e3 * DAY_S, "times of frames do not jump"


def test_backup(server, set_clock, tmp_path):
    """Episodes are stored as they are saved, and the dataset once it is closed; `status` goes on telling that
    the agent runs, and nobody takes a living recorder for dead."""
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    recorder = RowRecorder(outputs / "picking")
    with sync_agent(f"http://{server.address}", outputs, tmp_path) as agent:
        for episodes, offset in enumerate(JUMPS, start=1):
            recorder.save_episode()
            wait_for(lambda count=episodes: newest(server).get("total_episodes") == count)
            set_clock(offset)
        # As a version is made, "commit" may be told of it for a moment.
        wait_for(
            lambda: (
                (told := status(tmp_path))["running"]
                and [row["verdict"] for row in told["datasets"]] == ["busy"]
            )
        )
        recorder.finalise()
        wait_for(lambda: newest(server)["finalised"])
        agent.terminate()
        assert agent.wait(PATIENCE_S) == 0
    versions = httpx.get(
        f"http://{server.address}/datasets/robot_A/picking/versions", timeout=PATIENCE_S
    ).json()
    assert [version["total_episodes"] for version in versions["versions"]] == [3, 3, 2, 1]


def newest(server: ServiceProcess) -> dict[str, Any]:
    """The version of the dataset that somebody who wants it gets."""
    answer = httpx.get(f"http://{server.address}/datasets/robot_A/picking", timeout=PATIENCE_S)
    return answer.json()["newest"] or {} if answer.status_code == 200 else {}


def status(folder: Path) -> dict[str, Any]:
    """What `sync-agent status` tells, by the robot's clock."""
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
    words = [str(COMMANDS / "sync-agent"), "status", "--json", "--robot-id", "robot_A"]
    told = subprocess.run(words, env=environment, capture_output=True, timeout=PATIENCE_S, check=True)
    return json.loads(told.stdout)
