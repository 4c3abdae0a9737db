"""A program that is forked finds what one that is started finds."""

import os
import signal
import subprocess
import sys

import pytest
from teleop_testing.waiting import PATIENCE_S

# What a program sees of its start.
SEEN = """
import json, os, signal, sys
print(json.dumps({
    "argv": sys.argv, "path": sys.path[:2], "folder": os.getcwd(), "session": os.getsid(0),
    "environment": dict(os.environ), "input": sys.stdin.read(), "name": __name__,
    "signals": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)],
    "files": sorted(map(int, os.listdir("/proc/self/fd")))[:3],
}), flush=True)
print("an error", file=sys.stderr)
sys.exit(3)
"""


@pytest.mark.parametrize("way", ["code", "module", "script"])
def test_a_program_sees_the_same(python, tmp_path, monkeypatch, way):
    """Its words, folder, environment, path, input and signals, and how it ended."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seen.py").write_text(SEEN)
    program = {"code": ["-c", SEEN], "module": ["-m", "seen"], "script": [str(tmp_path / "seen.py")]}[way]
    command = [sys.executable, *program, "--more", "words"]
    environment = {**os.environ, "PYTHONPATH": "/elsewhere", "HF_HUB_OFFLINE": "1"}
    environment["HF_HOME"] = python.environment["HF_HOME"]
    started = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
    )
    forked = python.run(command, environment)
    assert (forked.returncode, forked.stdout) == (started.returncode, started.stdout)
    assert forked.returncode == 3


def test_lerobot_is_imported_by_each_program(python):
    """It reads the environment when it is; what it needs is there already."""
    code = "import sys; print('lerobot' in sys.modules, 'torch' in sys.modules)"
    assert python.run([sys.executable, "-c", code]).stdout == "False True\n"


def test_what_goes_wrong_is_told(python):
    """A program that fails ends with 1 and its traceback."""
    failed = python.run([sys.executable, "-c", "raise ValueError('so')"])
    assert failed.returncode == 1
    assert failed.stdout.endswith("ValueError: so\n")


def test_several_run_at_once_and_can_be_killed(python, tmp_path):
    """Each is its own; the number of one that has ended stays its own until its end is seen."""
    with (tmp_path / "output").open("wb") as output:
        first, second = (
            python.start([sys.executable, "-c", "import signal; signal.pause()"], output=output)
            for _ in range(2)
        )
    assert first.poll() is None
    os.kill(first.pid, signal.SIGTERM)
    second.kill()
    assert (second.wait(PATIENCE_S), second.poll()) == (-signal.SIGKILL, -signal.SIGKILL)
    os.kill(first.pid, 0)
    assert first.wait(PATIENCE_S) == -signal.SIGTERM
    first.kill()


def test_a_programs_files_are_its_own(python):
    """Nothing that the preparing process held open is closed once more under a number that is a program's."""
    code = "import tempfile; print([tempfile.TemporaryFile().write(b'1') for _ in range(20)] == [1] * 20)"
    assert [python.run([sys.executable, "-c", code]).stdout for _ in range(6)] == ["True\n"] * 6
