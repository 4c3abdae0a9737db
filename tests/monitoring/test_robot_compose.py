"""The agent in a container, on a robot PC."""

from pathlib import Path

import yaml

ROBOT = Path(__file__).parents[2] / "deploy" / "robot" / "compose.yaml"


def test_it_has_no_rights_and_the_folders_of_the_user():
    """Nothing can be written but what is mounted, and nobody is root unless the user is."""
    agent = yaml.safe_load(ROBOT.read_text("utf-8"))["services"]["sync-agent"]
    assert agent["read_only"]
    assert agent["cap_drop"] == ["ALL"]
    assert agent["user"].startswith("${ROBOT_USER:?")
    mounted = {volume.rsplit(":", 1)[1] for volume in agent["volumes"]}
    config = f"{agent['environment']['XDG_CONFIG_HOME']}/lerobot-backend"
    assert {part for part in agent["command"] if part.startswith("/")} | {config} == mounted
