"""What the first of several processes does alone is done for the others."""

import subprocess
import sys
from pathlib import Path

import pytest
from teleop_testing.waiting import PATIENCE_S, wait_for

# Tells that it is in the block, and stays there until it is told to leave.
PROGRAM = """
import sys
from pathlib import Path
from teleop_testing.once import first_alone
with first_alone(Path(sys.argv[1])):
    print("in", flush=True)
    input()
"""


@pytest.fixture
def enter(tmp_path):
    """Starts a process that is about to enter the block."""
    started: list[subprocess.Popen[bytes]] = []

    def enter() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return started[-1]

    yield enter
    for process in started:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def waits(process: subprocess.Popen[bytes]) -> bool:
    """Whether it waits for a lock."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any({"->", str(process.pid)} <= set(line.split()) for line in lines)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells who waits for a lock")
@pytest.mark.parametrize("end", ["communicate", "kill"])
def test_the_others_wait_for_the_first_and_not_for_each_other(enter, end):
    """Also if the first dies in the block."""
    first = enter()
    assert first.stdout.readline() == b"in\n"
    others = [enter(), enter()]
    for other in others:
        wait_for(lambda other=other: waits(other))
    getattr(first, end)()
    for other in others:
        assert other.stdout.readline() == b"in\n"
