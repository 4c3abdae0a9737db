"""`make demo`, shortened."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from teleop_backend.demo import command
from teleop_testing.backends.processes import free_port
from teleop_testing.waiting import PATIENCE_S, wait_for

# What the light environment of `make demo` does not have.
HEAVY = ("torch", "lerobot", "datasets", "cv2")


def test_demo_accounts_for_every_frame():
    """Record, cut, reconnect, export, check: equal numbers, no gap, no duplicate; and where to look."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        command = [sys.executable, "-m", "teleop_backend.demo", "--seconds", "5", "--data-dir", "own"]
        (Path(folder) / "lerobot_backup").write_text("not to be touched")
        environment = {**os.environ, "LEROBOT_BACKEND_PORT": str(free_port())}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE_S
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "connection cut" in done.stdout
    *_, account, last = done.stdout.splitlines()
    counted = re.fullmatch(r"logged=300 committed=300 exported=(\d+) gaps=0 duplicates=0", account)
    assert counted, done.stdout
    assert last == f"look at it: http://127.0.0.1:{environment['LEROBOT_BACKEND_PORT']}/#/sessions/1"
    # A machine that does not keep the rate has fewer rows, and is told so.
    kept = int(counted[1]) == 300
    assert f"1 episode, {counted[1]} frames" in done.stdout
    assert ("did not keep the loop at 60 Hz" in done.stdout) is not kept


@pytest.mark.parametrize(
    ("chosen", "environment", "expected"),
    [
        (None, {}, ("data", "lerobot_backup")),
        (None, {"LEROBOT_BACKEND_DATA_DIR": "a", "LEROBOT_BACKEND_BACKUP_DIR": "b"}, ("a", "b")),
        (Path("x"), {"LEROBOT_BACKEND_BACKUP_DIR": "b"}, ("x", "x/lerobot_backup")),
    ],
)
def test_files_lie_with_their_database(chosen, environment, expected):
    """A folder that is named holds both: files of an earlier demo would be another database's."""
    assert command.folders(chosen, environment) == tuple(map(Path, expected))


@pytest.mark.parametrize(
    ("rows", "are_logged"),
    [
        ([0, 1, 2, 3], True),
        ([0, 2, 3], True),
        ([1, 0], False),
        ([0, 1, 1], False),
        ([0, 1, 2, 3, 3], False),
    ],
)
def test_exported_rows_are_logged_frames(tmp_path, rows, are_logged):
    """Each of them once, in their order, bit for bit; not necessarily all."""
    values = np.arange(4 * 12, dtype=np.float32).reshape(4, 12)
    taken = values[rows]
    table = pa.table({"observation.state": list(taken[:, :6]), "action": list(taken[:, 6:])})
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data/file-000.parquet")
    if are_logged:
        assert command.check(tmp_path, values) == len(rows)
    else:
        with pytest.raises(AssertionError, match="is not among the logged frames"):
            command.check(tmp_path, values)


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_stopped_demo_leaves_nothing_behind(told: signal.Signals):
    """Ctrl-C on the way: what was logged is brought, one line says so, and no process goes on."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        command = [
            sys.executable,
            "-m",
            "teleop_backend.demo",
            "--seconds",
            "600",
            "--port",
            str(free_port()),
        ]
        demo = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert demo.stdout is not None
        before = next(line for line in demo.stdout if "durable" in line)
        children = psutil.Process(demo.pid).children(recursive=True)
        demo.send_signal(told)
        after = demo.communicate(timeout=PATIENCE_S)[0]
        assert demo.returncode == 130, before + after
        assert after.endswith("stopped; what was recorded so far is kept\n"), before + after
        assert "Traceback" not in after
        wait_for(lambda: not any(child.is_running() for child in children))


def test_a_backend_that_ends_is_named_with_its_reason_and_its_log():
    """Here it may not keep data in its folder."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        (Path(folder) / "data").mkdir()
        (Path(folder) / "data/lock").mkdir()
        command = [sys.executable, "-m", "teleop_backend.demo", "--port", str(free_port())]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1
    assert done.stdout.startswith("starting the LeRobot backend for the demo; Ctrl-C stops it\n")
    first, *reason = done.stderr.splitlines()
    assert first == "the backend did not start; the end of its log, data/backend.log:"
    assert "cannot keep data in" in reason[-1], reason


def test_a_slow_start_is_waited_for_and_told(monkeypatch, capsys, tmp_path):
    """As long as the backend lives; that it is still starting is said again and again."""
    answers = iter([False, False, False, True])
    monkeypatch.setattr(command, "TELL_EVERY_S", 0.0)
    monkeypatch.setattr(command, "ready", lambda _port: next(answers))
    with subprocess.Popen(["sleep", str(PATIENCE_S)]) as process:
        command.wait_until_ready(0, process, tmp_path / "backend.log")
        process.kill()
    told = capsys.readouterr().out.splitlines()
    assert set(told) == {f"the backend is still starting; its log is {tmp_path}/backend.log"}


def test_demo_and_backend_import_nothing_heavy():
    """Neither PyTorch nor LeRobot is needed for the backend and the demo, even where they are installed."""
    imports = "import sys, teleop_backend.app, teleop_backend.demo.command, teleop_client.exporting.cli"
    check = f"{imports}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    assert done.stdout.strip() == "[]"
