"""kill -9 of every process on a sample's way, one after the other, while a robot is teleoperated."""

import os
import signal
import time

import httpx
import numpy as np
import pytest
from teleop_testing.database import Database
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

    killed, closed = wait_for_ledgers(service.address, 2)
    await check(postgres.url(), killed, robot, status="interrupted")
    await check(postgres.url(), closed, following, status="complete")


async def check(database_url: str, ledger: dict, robot: Teleoperation, *, status: str) -> None:
    """All that the robot logged is there; after a kill there may be one frame that it had no time to note."""
    assert ledger["status"] == status
    assert ledger["complete"], ledger
    assert (ledger["missing"], ledger["unaccounted"], ledger["duplicates"]) == (0, 0, 0)
    logged = robot.logged()
    assert 0 <= ledger["committed"] - len(logged) <= (status == "interrupted")
    async with Database.connect(database_url) as database:
        rows = await database.fetch(
            "SELECT frame_index, state, action FROM teleop_frame WHERE session_id = $1 ORDER BY frame_index",
            ledger["session_id"],
        )
    assert [row["frame_index"] for row in rows] == list(range(ledger["committed"]))
    stored = np.array([row["state"] + row["action"] for row in rows], np.float32)
    np.testing.assert_array_equal(stored[: len(logged)], logged)


def wait_for_ledgers(address: str, sessions: int) -> list[dict]:
    """Ledgers of that many ended sessions, oldest first."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = httpx.get(f"http://{address}/sessions").json()["sessions"]
        if len(found) == sessions and all(session["status"] != "recording" for session in found):
            return [
                httpx.get(f"http://{address}/sessions/{session['id']}/ledger").json()
                for session in reversed(found)
            ]
        time.sleep(0.2)
    raise AssertionError(found)


def kill_shipper(robot: Teleoperation) -> None:
    """kill -9 of the shipper, if there is one at this moment."""
    pid = robot.shipper_pid
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
