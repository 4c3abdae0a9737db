"""`make demo`, shortened."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from teleop_backend.demo import command
from teleop_testing.backends.processes import free_port
from teleop_testing.waiting import PATIENCE_S, wait_for

# What the light environment of `make demo` does not have.
HEAVY = ("torch", "lerobot", "datasets", "cv2")


def test_demo_accounts_for_every_frame():
    """Record, cut, reconnect, export, check: the last line has equal numbers, no gap, no duplicate."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        command = [sys.executable, "-m", "teleop_backend.demo", "--seconds", "5", "--data-dir", "own"]
        (Path(folder) / "lerobot_backup").write_text("not to be touched")
        environment = {**os.environ, "LEROBOT_BACKEND_PORT": str(free_port())}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE_S
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "connection cut" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert "1 episode, 300 frames" in done.stdout
    assert re.fullmatch(r"logged=300 committed=300 exported=300 gaps=0 duplicates=0", last), done.stdout


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
