"""Whatever LeRobot drives is recorded, or named as not recorded: odd robots, programs without its parser."""

import json
import sys
from pathlib import Path

import pytest
from lerobot_robot_virtual.arm import NAMES
from teleop_testing.backends.database import Database
from teleop_testing.waiting import PATIENCE_S, until

COMMANDS = Path(sys.executable).parent
TELEOPERATE = str(COMMANDS / "lerobot-teleoperate")
LEADER = ["--teleop.type=virtual_so101_leader", "--teleop.id=leader", "--teleop_time_s=1"]

# As LeRobot's examples are written: the robot made by its class, the rate a constant.
SCRIPT = """
import time
from lerobot_robot_virtual.devices import VirtualSO101Follower, VirtualSO101FollowerConfig
FPS = 30
robot = VirtualSO101Follower(VirtualSO101FollowerConfig(id="mine"))
robot.connect()
other = VirtualSO101Follower(VirtualSO101FollowerConfig(id="theirs"))
other.connect()
for _ in range(12):
    observation = robot.get_observation()
    other.send_action(observation)
    robot.send_action(observation)
    time.sleep(1 / FPS)
robot.disconnect()
"""
# As lerobot/async_inference/robot_client.py is written: draccus itself parses, a client holds the settings.
CLIENT = """
from dataclasses import dataclass, field
import draccus
from lerobot.robots import RobotConfig, make_robot_from_config
from lerobot.utils.import_utils import register_third_party_plugins

@dataclass
class ClientConfig:
    robot: RobotConfig = field(metadata={"help": "robot"})
    fps: int = 20

class Client:
    def __init__(self, config):
        self.robot = make_robot_from_config(config.robot)
        self.robot.connect()

@draccus.wrap()
def run(cfg: ClientConfig):
    robot = Client(cfg).robot
    for _ in range(6):
        robot.send_action(robot.get_observation())
    robot.disconnect()

if __name__ == "__main__":
    register_third_party_plugins()
    run()
"""
# What lerobot-train and lerobot-eval begin with.
WITHOUT_A_ROBOT = """
from lerobot.utils.import_utils import register_third_party_plugins
register_third_party_plugins()
print("trained")
"""


@pytest.fixture(autouse=True)
def odd_robots(environment, monkeypatch):
    """LeRobot's commands find the package of odd robots."""
    environment["PYTHONPATH"] = str(Path(__file__).parent)


def flags(service, **more: str) -> list[str]:
    chosen = {"backend_url": f"ws://{service.address}", "robot_id": "robot_A"} | more
    return [f"--{name}={value}" for name, value in chosen.items()]


async def complete_session(database: Database) -> dict:
    """The only session, once it is complete."""

    async def look() -> list[dict]:
        return await database.fetch("SELECT * FROM teleop_session WHERE status = 'complete'")

    (session,) = await until(look)
    return session


@pytest.mark.parametrize(
    ("robot", "names"),
    [
        ("without_super", NAMES),
        ("arms_first", tuple(side + name for side in ("left_", "right_") for name in NAMES)),
        ("no_relation", NAMES),
    ],
)
async def test_the_robot_of_the_command_is_recorded(service, database, start, output, robot, names):
    """However its class is built, the robot is recorded whole, not one of its parts."""
    command = ["--robot.discover_packages_path=odd_robots", f"--robot.type={robot}", "--robot.id=odd"]
    assert start(TELEOPERATE, *command, *LEADER, *flags(service)).wait(PATIENCE_S) == 0, output()
    session = await complete_session(database)
    assert (session["robot_type"], tuple(session["state_names"])) == (robot, names)
    assert session["next_frame_index"] > 0
    assert f"backend: {session['next_frame_index']} frames logged" in output()
    assert "not recorded" not in output()


def test_a_robot_that_can_not_be_recorded_is_named(service, start, output):
    """The command goes on as if nothing were installed, and ends with the reason."""
    command = ["--robot.discover_packages_path=odd_robots", "--robot.type=sealed"]
    assert start(TELEOPERATE, *command, *LEADER, *flags(service)).wait(PATIENCE_S) == 0, output()
    line = "backend: nothing was recorded: Sealed can't be listened to: AttributeError: connect can't be set"
    assert line in output()


async def test_a_script_is_recorded_as_it_is(service, database, typed, output, tmp_path):
    """Run by `auto`, a script that knows of no backend is recorded; its second robot is named."""
    script = tmp_path / "teleoperate.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "lerobot_robot_backend.auto", *flags(service), str(script)]
    assert typed(*command) == 0, output()
    session = await complete_session(database)
    assert (session["next_frame_index"], session["fps"]) == (12, 30)
    assert json.loads(session["host"])["robot.id"] == "mine"
    assert (
        "backend: not recorded: VirtualSO101Follower theirs: one process records only one robot" in output()
    )


async def test_a_script_may_say_it_itself(service, database, start, output, environment, tmp_path):
    """One import and the environment do the same; a rate that is given wins over the script's own."""
    environment["LEROBOT_BACKEND_URL"] = f"ws://{service.address}"
    environment["LEROBOT_BACKEND_ROBOT_ID"] = "robot_A"
    environment["LEROBOT_BACKEND_FPS"] = "15"
    script = tmp_path / "teleoperate.py"
    script.write_text(f"import lerobot_robot_backend.auto\n{SCRIPT}")
    assert start(sys.executable, str(script)).wait(PATIENCE_S) == 0, output()
    session = await complete_session(database)
    assert (session["next_frame_index"], session["fps"]) == (12, 15)


async def test_a_program_with_a_parser_of_its_own_is_recorded(service, database, start, output, tmp_path):
    """The rate is found in the settings that the robot's belong to, whoever parsed them."""
    script = tmp_path / "client.py"
    script.write_text(CLIENT)
    robot = ["--robot.type=virtual_so101_follower", "--robot.id=mine"]
    assert start(sys.executable, str(script), *robot, *flags(service)).wait(PATIENCE_S) == 0, output()
    session = await complete_session(database)
    assert (session["next_frame_index"], session["fps"]) == (6, 20)


def test_a_script_without_a_rate_says_so(service, start, output, tmp_path):
    """Without a rate there is no session: the last line tells what to add."""
    script = tmp_path / "teleoperate.py"
    script.write_text(SCRIPT.replace("FPS = 30", "RATE = 30").replace("FPS", "RATE"))
    command = [sys.executable, "-m", "lerobot_robot_backend.auto", *flags(service), str(script)]
    assert start(*command).wait(PATIENCE_S) == 0, output()
    assert "backend: nothing was recorded: its rate (fps) is unknown" in output()


def test_a_command_without_a_robot_is_left_alone(start, output, environment):
    """An environment that names a backend, and no robot, is nothing to a command that drives none."""
    environment["LEROBOT_BACKEND_URL"] = "ws://localhost:8000"
    assert start(sys.executable, "-c", WITHOUT_A_ROBOT).wait(PATIENCE_S) == 0, output()
    assert output().splitlines()[-1] == "trained"


def test_a_flag_for_a_command_without_a_robot_is_answered(service, start, output):
    """Whoever asks for a recording by flag is told that this command has nothing to record."""
    assert start(sys.executable, "-c", WITHOUT_A_ROBOT, *flags(service)).wait(PATIENCE_S) == 0, output()
    assert "backend: nothing was recorded: the command made no robot" in output()


def test_a_command_with_a_robot_needs_all_of_it(start, output, environment):
    """What the environment lacks ends a command that makes a robot before it moves."""
    environment["LEROBOT_BACKEND_URL"] = "ws://localhost:8000"
    robot = ["--robot.type=virtual_so101_follower", "--robot.id=mine"]
    assert start(TELEOPERATE, *robot, *LEADER).wait(PATIENCE_S) == 2
    assert "error: LEROBOT_BACKEND_URL needs LEROBOT_BACKEND_ROBOT_ID (or --robot_id)" in output()


NOTHING = "backend: nothing is recorded: set LEROBOT_BACKEND_URL (or --backend_url)"
UNKNOWN = (
    "backend: the environment variable LEROBOT_BACKEND_URI is not known, and does nothing: "
    "is LEROBOT_BACKEND_URL meant?"
)


@pytest.mark.parametrize(
    ("variables", "last"),
    [
        ({"LEROBOT_BACKEND_URI": "ws://localhost:8000"}, [UNKNOWN, NOTHING]),
        ({"LEROBOT_BACKEND_ROBOT_ID": "robot_A"}, [NOTHING]),
    ],
)
def test_a_recording_that_was_wanted_in_vain_is_told_last(start, output, environment, variables, last):
    """An environment that names a robot or a mistyped address, but no backend: the last lines say so."""
    environment |= variables
    script = f"{WITHOUT_A_ROBOT}{SCRIPT}print('the end')"
    assert start(sys.executable, "-c", script).wait(PATIENCE_S) == 0, output()
    assert output().splitlines()[-len(last) - 1 :] == ["the end", *last]


def test_a_command_without_a_robot_hears_of_no_recording(start, output, environment):
    """A training has nothing to record, whatever the environment says: its last line stays its own."""
    environment |= {"LEROBOT_BACKEND_URI": "ws://localhost:8000", "LEROBOT_BACKEND_ROBOT_ID": "robot_A"}
    assert start(sys.executable, "-c", WITHOUT_A_ROBOT).wait(PATIENCE_S) == 0, output()
    assert output().splitlines()[-1] == "trained"
