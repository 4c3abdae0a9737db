"""kill -9 of every process on a sample's way, one after the other, while a robot is teleoperated."""

import os
import signal

import pytest
from accounts import check, wait_for_ledgers
from teleop_testing.processes import own_postgres, telemetry_process
from teleop_testing.teleoperation import Teleoperation

PATIENCE_S = 60.0


@pytest.fixture
def postgres():
    """A PostgreSQL that may be hurt."""
    with own_postgres() as server:
        yield server


@pytest.fixture
def service(postgres):
    """telemetry-service as a process."""
    with telemetry_process(postgres.url()) as process:
        yield process


async def test_nothing_is_lost_whatever_is_killed(postgres, service, tmp_path):
    """The ledger is complete, and every frame is what the robot logged, exactly once."""
    robot = Teleoperation(service.address, "robot_A", tmp_path)
    robot.wait_for_frames(90)

    service.kill()
    robot.wait_for_frames(60)
    service.start()
    robot.wait_for_frames(90)

    postgres.stop(signal.SIGQUIT)
    robot.wait_for_frames(60)
    postgres.start()
    robot.wait_for_frames(90)

    kill_shipper(robot)
    robot.wait_for_frames(90)

    robot.kill()
    # Whatever was killed on the robot PC, the next teleoperation brings what it left.
    kill_shipper(robot)
    following = Teleoperation(service.address, "robot_A", tmp_path)
    following.wait_for_frames(60)
    following.close()

    ledgers = wait_for_ledgers(service.address, 2, PATIENCE_S)
    await check(postgres.url(), ledgers[robot.stream], robot, status="interrupted")
    await check(postgres.url(), ledgers[following.stream], following, status="complete")


def kill_shipper(robot: Teleoperation) -> None:
    """kill -9 of the shipper, if there is one at this moment."""
    pid = robot.shipper_pid
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
