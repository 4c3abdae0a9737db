import os
import subprocess
import sys

import pytest
from lerobot_robot_backend.plugin import BadFlag, Options, take_options

COMMAND = ["lerobot-teleoperate", "--robot.type=so101_follower", "--robot.id=x"]


GIVEN = {
    "--backend_url": "ws://localhost:8000",
    "--robot_id": "robot_A",
    "--backend_token": "t",
    "--backend_task": "a = b",
}


@pytest.mark.parametrize(
    "flags",
    [[f"{name}={value}" for name, value in GIVEN.items()], [part for pair in GIVEN.items() for part in pair]],
)
def test_flags_are_taken_out_of_the_command_line(flags):
    """LeRobot's parser sees only its own flags, wherever ours stood."""
    argv = [*COMMAND[:2], *flags, *COMMAND[2:]]
    options = take_options(argv, {})
    assert options == Options("ws://localhost:8000", "robot_A", "t", "a = b")
    assert argv == COMMAND


def test_environment_serves_commands_without_flags():
    """URL, robot and token may come from the environment; flags win."""
    environment = {
        "LEROBOT_BACKEND_URL": "ws://server:8000",
        "LEROBOT_BACKEND_ROBOT_ID": "robot_A",
        "LEROBOT_BACKEND_TOKEN": "t",
    }
    assert take_options(list(COMMAND), environment) == Options("ws://server:8000", "robot_A", "t")
    chosen = take_options([*COMMAND, "--robot_id=robot_B"], environment)
    assert chosen == Options("ws://server:8000", "robot_B", "t")


def test_without_a_url_nothing_happens():
    """No URL, no recording, no word about it, whatever else is in the environment."""
    argv = list(COMMAND)
    assert take_options(argv, {"LEROBOT_BACKEND_ROBOT_ID": "robot_A", "LEROBOT_BACKEND_URL": ""}) is None
    assert argv == COMMAND


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--backend_url=ws://localhost:8000"], "--robot_id"),
        (["--robot_id=robot_A"], "--backend_url"),
        (["--backend_task=x"], "--backend_url"),
        (["--backend_url=localhost", "--robot_id=robot_A"], "--backend_url"),
        (["--backend_url=ws://localhost", "--robot_id=../x"], "--robot_id"),
        (["--backend_url=ws://localhost", "--robot_id="], "--robot_id"),
        (["--backend_url=ws://localhost", "--robot_id"], "--robot_id"),
        (["--backend_url=ws://localhost", "--robot_id", "--fps=30"], "--robot_id"),
    ],
)
def test_mistakes_name_the_flag(flags, named):
    """A missing or wrong flag is an error that names it."""
    with pytest.raises(BadFlag, match=named):
        take_options([*COMMAND, *flags], {})


@pytest.mark.parametrize("module", ["lerobot_robot_backend", "lerobot_robot_backend.client"])
def test_import_is_light(module):
    """Importing the package loads neither LeRobot nor numpy, and taps nothing, also with a URL set."""
    code = f"import sys, {module}; print({{'lerobot', 'numpy', 'torch', 'draccus'}} & set(sys.modules))"
    environment = {**os.environ, "LEROBOT_BACKEND_URL": "ws://localhost:8000"}
    output = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert output.strip() == "set()"
