"""What the tests kill is what they started."""

import subprocess
import sys

import psutil
import pytest
from teleop_testing.backends.processes import free_port
from teleop_testing.robots.children import SHIPPER
from teleop_testing.robots.teleoperation import Teleoperation
from teleop_testing.waiting import PATIENCE_S

# Nobody listens there; the samples stay on the disk.
NOBODY = f"127.0.0.1:{free_port()}"
WAITING = "print(flush=True); input()"


@pytest.fixture
def stranger():
    """Starts something whose command line reads like that of a session's shipper."""
    started = []

    def start(session: str) -> int:
        command = [sys.executable, "-c", WAITING, "-m", "lerobot_robot_backend.shipper", session]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        started[-1].stdout.readline()
        return started[-1].pid

    yield start
    for process in started:
        process.communicate(timeout=PATIENCE_S)


def test_a_strangers_shipper_is_never_signalled(tmp_path, stranger):
    """Not even one of a session of the same name elsewhere; its own is found, and the stranger lives on."""
    robot = Teleoperation(NOBODY, "robot_A", tmp_path)
    try:
        theirs = stranger(f"/somewhere/else/robot_A/{robot.stream}")
        robot.wait_for_frames(1)
        assert robot.pid_of(SHIPPER) not in (None, theirs)
    finally:
        robot.close()
        robot.end_children()
    assert robot.pid_of(SHIPPER) is None
    assert not robot.signal(SHIPPER, 9)
    assert psutil.Process(theirs).status() != psutil.STATUS_ZOMBIE


def test_one_that_does_not_begin_has_no_shipper_to_kill(tmp_path):
    """Rather than any that there is."""
    with pytest.raises(AssertionError, match="ended before it began to record"):
        Teleoperation(NOBODY, "../no robot", tmp_path)
