"""What people type, and what the agent makes of it."""

from datetime import time

import pytest
from teleop_sync_agent.errors import AgentError
from teleop_sync_agent.settings import make_settings, parse_between, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("10GB", 10**10), ("512MiB", 512 * 2**20), ("2.5MB/s", 2_500_000), ("1000", 1000), ("3 k", 3000)],
)
def test_sizes(text, size):
    """Decimal and binary units, with or without "per second"."""
    assert parse_size(text, "--bandwidth") == size


@pytest.mark.parametrize("text", ["", "0", "-1GB", "ten", "10XB", "0.0001", "1e9"])
def test_bad_sizes(text):
    """What is no size is refused, naming the option."""
    with pytest.raises(AgentError, match="--bandwidth"):
        parse_size(text, "--bandwidth")


def test_hours():
    """Hours may go over midnight; the end is not part of them."""
    night = parse_between("22:00-06:00")
    assert [night.holds(time(hour)) for hour in (21, 22, 23, 0, 5, 6, 12)] == [
        False, True, True, True, True, False, False,
    ]  # fmt: skip
    day = parse_between("06:00-22:30")
    assert [day.holds(time(hour)) for hour in (5, 6, 22, 23)] == [False, True, True, False]


@pytest.mark.parametrize("text", ["", "22-06", "24:00-06:00", "06:00-06:00", "6:00-7:00"])
def test_bad_hours(text):
    """What are no hours is refused."""
    with pytest.raises(AgentError, match="--between"):
        parse_between(text)


def test_environment(monkeypatch, tmp_path):
    """Server and robot may come from the environment, the folder from LeRobot's own variables."""
    monkeypatch.setenv("LEROBOT_BACKEND_URL", "ws://backend:8000/")
    monkeypatch.setenv("LEROBOT_BACKEND_ROBOT_ID", "robot_B")
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path / "home"))
    settings = make_settings(server=None, robot_id=None, watch=None)
    assert (settings.server, settings.robot_id) == ("http://backend:8000", "robot_B")
    assert settings.roots == (tmp_path / "home",)


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"server": None}, "--backend_url"),
        ({"robot_id": None}, "--robot_id"),
        ({"server": "backend:8000"}, "not the address"),
        ({"robot_id": "../x"}, "robot_id"),
        ({"parallel": 0}, "--parallel"),
        ({"metrics_port": 65_536}, "--metrics-port"),
        ({"bandwidth": "fast"}, "--bandwidth"),
    ],
)
def test_what_is_missing_or_wrong(monkeypatch, tmp_path, chosen, told):
    """Each mistake names what to change."""
    monkeypatch.delenv("LEROBOT_BACKEND_URL", raising=False)
    monkeypatch.delenv("LEROBOT_BACKEND_ROBOT_ID", raising=False)
    good = {"server": "http://backend:8000", "robot_id": "robot_A", "watch": [tmp_path]}
    make_settings(**good)
    with pytest.raises(AgentError, match=told):
        make_settings(**(good | chosen))


def test_folders_that_can_not_be_watched(tmp_path):
    """A dataset itself, a file, and a folder within another watched one are refused."""
    good = {"server": "http://backend:8000", "robot_id": "robot_A"}
    (tmp_path / "set/meta").mkdir(parents=True)
    (tmp_path / "set/meta/info.json").write_text("{}")
    with pytest.raises(AgentError, match="itself a dataset"):
        make_settings(**good, watch=[tmp_path / "set"])
    with pytest.raises(AgentError, match="not a folder"):
        make_settings(**good, watch=[tmp_path / "set/meta/info.json"])
    with pytest.raises(AgentError, match="is inside"):
        make_settings(**good, watch=[tmp_path, tmp_path / "other"])
    assert make_settings(**good, watch=[tmp_path, tmp_path]).roots == (tmp_path,)
