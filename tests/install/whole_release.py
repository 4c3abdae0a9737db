"""`make test-wheels`: every machine installs its wheels as a person would, and they work together.

What they need comes from the package index. That takes minutes, so it is not a part of `make test`.
"""

import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from teleop_testing.backends.processes import free_port
from teleop_testing.machine.environments import linked, needed_by, new_environment
from teleop_testing.waiting import PATIENCE_S

LEROBOT = "lerobot[core_scripts]==0.6.1"
# The pyproject.toml of the repository says why it is without it.
NOT_HERE = {"evdev"}
ROBOT = ["--robot.type=virtual_so101_follower", "--robot.id=follower"]
TELEOP = ["--teleop.type=virtual_so101_leader", "--teleop.id=leader"]
OPEN = """
from lerobot.datasets.lerobot_dataset import LeRobotDataset
print(len(LeRobotDataset("lab/pick", root="made")))
"""


class Machine:
    """An environment of Python of its own, with a folder to work in."""

    def __init__(self, folder: Path, dist: Path) -> None:
        self.folder = folder
        self.commands = new_environment(folder / "environment")
        self._pip = [self.commands / "pip", "--disable-pip-version-check", "-q"]
        self._places = ["--find-links", dist]

    def install(self, *names: str) -> None:
        """With what they need, as the index has it today."""
        subprocess.run([*self._pip, "install", *self._places, *names], check=True, timeout=PATIENCE_S)

    def conflicts(self) -> str:
        """What pip calls missing or of a wrong version."""
        checked = subprocess.run(
            [*self._pip, "check"], stdout=subprocess.PIPE, text=True, check=False, timeout=PATIENCE_S
        )
        return checked.stdout

    def installed(self) -> set[str]:
        """As name==version."""
        return set(
            subprocess.check_output([*self._pip, "freeze"], text=True, timeout=PATIENCE_S).splitlines()
        )

    def environment(self, url: str) -> dict[str, str]:
        home = {"HOME": str(self.folder), "XDG_STATE_HOME": str(self.folder / "state"), "HF_HUB_OFFLINE": "1"}
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return ours | home | {"LEROBOT_BACKEND_URL": url, "LEROBOT_BACKEND_ROBOT_ID": "robot_A"}

    def run(self, url: str, command: str, *words: str) -> str:
        """What a command of it prints; fails with that unless it succeeds."""
        ended = subprocess.run(
            [self.commands / command, *words],
            cwd=self.folder,
            env=self.environment(url),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert ended.returncode == 0, ended.stdout
        return ended.stdout


@pytest.fixture
def machine(tmp_path, wheels):
    """Makes one more machine."""

    def make(name: str) -> Machine:
        (tmp_path / name).mkdir()
        return Machine(tmp_path / name, wheels[0].parent)

    return make


@contextmanager
def backend_on(server: Machine) -> Iterator[str]:
    """The address of the one process."""
    port = free_port()
    url = f"http://localhost:{port}"
    folders = {"LEROBOT_BACKEND_DATA_DIR": "data", "LEROBOT_BACKEND_BACKUP_DIR": "lerobot_backup"}
    process = subprocess.Popen(
        [server.commands / "lerobot-backend"],
        cwd=server.folder,
        env=server.environment(url) | folders | {"LEROBOT_BACKEND_PORT": str(port)},
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not is_ready(url):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz") as answer:
            return answer.status == 200
    except OSError:
        return False


def test_each_machine_installs_its_wheel_and_they_work_together(machine):
    """A robot with LeRobot records and is recorded, the agent backs up, a trainer gets a dataset."""
    server, robot, agent, trainer = map(machine, ("server", "robot", "agent", "trainer"))
    for needed in needed_by([LEROBOT], without=NOT_HERE).values():
        linked(needed, robot.folder / "environment")
    lerobots, conflicts = robot.installed(), robot.conflicts()
    robot.install("lerobot_robot_backend", "lerobot_robot_virtual")
    # What LeRobot came with is still there, in the same versions.
    assert lerobots <= robot.installed()
    assert robot.conflicts() == conflicts
    server.install("lerobot-backend")
    agent.install("lerobot-backend-sync-agent")
    trainer.install("lerobot-backend-client")
    assert not [each.conflicts() for each in (server, agent, trainer) if "requires" in each.conflicts()]
    with backend_on(server) as url:
        told = robot.run(
            *(url, "python", "-m", "lerobot.scripts.lerobot_record", *ROBOT, *TELEOP, "--play_sounds=false"),
            *("--dataset.push_to_hub=false", "--dataset.repo_id=lab/stack", "--dataset.root=outputs/stack"),
            *("--dataset.single_task=stack", "--dataset.num_episodes=1", "--dataset.episode_time_s=2"),
            "--dataset.fps=30",
        )
        assert "frames logged" in told
        # It also sends what the recorder's processes have not sent yet.
        watched, spool = robot.folder / "outputs", robot.folder / "state/lerobot_backend/spool"
        agent.run(url, "sync-agent", "once", "--watch", str(watched), "--spool", str(spool))
        assert "the same here and on the server" in agent.run(url, "sync-agent", "verify", "stack")
        trainer.run(url, "export-to-dataset", "--session-id", "1", "--repo-id", "lab/pick", "--root", "made")
        assert (trainer.folder / "made").rename(robot.folder / "made")
        assert int(robot.run(url, "python", "-c", OPEN).split()[-1]) > 0
