import os
import subprocess
import sys

import pytest
from lerobot_robot_backend.lerobot.entrance import names_backend
from lerobot_robot_backend.lerobot.options import BadFlag, Options, read_request
from teleop_testing.waiting import PATIENCE_S

COMMAND = ["lerobot-teleoperate", "--robot.type=so101_follower", "--robot.id=x"]


GIVEN = {
    "--backend_url": "ws://localhost:8000",
    "--robot_id": "robot_A",
    "--backend_token": "t",
    "--backend_task": "a = b",
    "--backend_operator": "kim",
    "--backend_fps": "30",
}


@pytest.mark.parametrize(
    "flags",
    [
        [f"{name}={value}" for name, value in GIVEN.items()],
        [part for pair in GIVEN.items() for part in pair],
        [f"{name.replace('_', '-')}={value}" for name, value in GIVEN.items()],
        [part for name, value in GIVEN.items() for part in (name.replace("_", "-"), value)],
    ],
)
def test_flags_are_taken_out_of_the_command_line(flags):
    """LeRobot's parser sees only its own flags, wherever ours stood; with `_` or `-` in their names."""
    argv = [*COMMAND[:2], *flags, *COMMAND[2:]]
    request = read_request(argv, {})
    assert request.by_flag
    assert request.options == Options("ws://localhost:8000", "robot_A", "t", "a = b", "kim", 30.0)
    assert argv == COMMAND


def test_environment_serves_commands_without_flags():
    """URL and robot may come from the environment; flags win. Whose the token is, the client finds out."""
    environment = {
        "LEROBOT_BACKEND_URL": "ws://server:8000",
        "LEROBOT_BACKEND_ROBOT_ID": "robot_A",
        "LEROBOT_BACKEND_TOKEN": "t",
    }
    request = read_request(list(COMMAND), environment)
    assert not request.by_flag
    assert request.options == Options("ws://server:8000", "robot_A")
    chosen = read_request([*COMMAND, "--robot_id=robot_B"], environment)
    assert chosen.by_flag
    assert chosen.options == Options("ws://server:8000", "robot_B")


def test_without_a_url_nothing_happens():
    """No URL, no recording, no word about it, whatever else is in the environment."""
    argv = list(COMMAND)
    assert read_request(argv, {"LEROBOT_BACKEND_ROBOT_ID": "robot_A", "LEROBOT_BACKEND_URL": ""}) is None
    assert argv == COMMAND


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--backend_url=ws://localhost:8000"], "--robot_id"),
        (["--robot_id=robot_A"], "--backend_url"),
        (["--backend_task=x"], "--backend_url"),
        (["--backend_url=localhost", "--robot_id=robot_A"], "--backend_url"),
        (["--backend_url=ws://localhost", "--robot_id=팔 하나"], "^--robot_id '팔 하나' is not 1 to 64 "),
        (["--backend_ulr=ws://localhost", "--robot_id=robot_A"], "--backend_ulr is not a flag .*mistyped"),
        (["--backend-ulr=ws://localhost", "--robot-id=robot_A"], "--backend-ulr is not a flag .*mistyped"),
        (["--backend_url=ws://localhost", "--robto_id=robot_A"], "--robto_id is not a flag .*mistyped"),
        (["--backend_url=ws://localhost", "--robot_id="], "--robot_id"),
        (["--backend_url=ws://localhost", "--robot_id"], "--robot_id"),
        (["--backend_url=ws://localhost", "--robot-id"], "--robot-id needs a value"),
        (["--backend_url=ws://localhost", "--robot_id", "--fps=30"], "--robot_id"),
        (["--backend_url=ws://localhost", "--robot_id=robot_A", "--backend_fps=often"], "--backend_fps"),
        (["--backend_url=ws://localhost", "--robot_id=robot_A", "--backend_fps=0"], "--backend_fps"),
    ],
)
def test_mistakes_name_the_flag(flags, named):
    """A missing or wrong flag is an error that names it."""
    with pytest.raises(BadFlag, match=named):
        assert read_request([*COMMAND, *flags], {}).options


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "^LEROBOT_BACKEND_URL needs LEROBOT_BACKEND_ROBOT_ID \\(or --robot_id\\): "),
        ({"LEROBOT_BACKEND_ROBOT_ID": "../x"}, "^LEROBOT_BACKEND_ROBOT_ID '../x' is not 1 to 64 "),
        ({"LEROBOT_BACKEND_URL": "localhost"}, "^LEROBOT_BACKEND_URL: "),
    ],
)
def test_mistakes_in_the_environment_name_the_variable(environment, told):
    """A flag that nobody used is not blamed."""
    known = {"LEROBOT_BACKEND_URL": "ws://localhost:8000"}
    if "LEROBOT_BACKEND_URL" in environment:
        known["LEROBOT_BACKEND_ROBOT_ID"] = "robot_A"
    with pytest.raises(BadFlag, match=told):
        assert read_request(list(COMMAND), known | environment).options


@pytest.mark.parametrize(
    ("flag", "is_ours"),
    [
        ("--backend_url=ws://localhost:8000", True),
        ("--backend-url", True),
        ("--robot-id=robot_A", True),
        ("--robot.id=x", False),
        ("--display_data=true", False),
    ],
)
def test_flags_of_a_backend_are_seen_without_the_plugin(flag, is_ours):
    """Even if all of it is broken but the entrance."""
    assert names_backend(["lerobot-teleoperate", flag]) is is_ours


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("lerobot_robot_backend", {"lerobot", "torch", "draccus", "numpy"}),
        ("lerobot_robot_backend.client", {"lerobot", "torch", "draccus"}),
    ],
)
def test_import_is_light(module, heavy):
    """Importing the package loads neither LeRobot nor numpy, and taps nothing, also with a URL set."""
    code = f"import sys, {module}; print({heavy} & set(sys.modules))"
    environment = {**os.environ, "LEROBOT_BACKEND_URL": "ws://localhost:8000"}
    output = subprocess.check_output(
        [sys.executable, "-c", code], env=environment, text=True, timeout=PATIENCE_S
    )
    assert output.strip() == "set()"
