"""Wrong arguments of the robot library's public API: each names itself, and what would be right."""

from collections.abc import Iterator

import numpy as np
import pytest
from lerobot_robot_backend.client import TelemetryClient

GOOD = {"state_names": ["a"], "action_names": ["a"], "fps": 30}


@pytest.fixture
def client(tmp_path) -> Iterator[TelemetryClient]:
    """A session that is shipped nowhere."""
    with TelemetryClient(
        "ws://localhost:8000", "robot_A", spool_dir=tmp_path, ship=False, min_free_bytes=0, **GOOD
    ) as client:
        yield client


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"fps": 0}, r"fps is 0; give the rate of the loop in Hz"),
        ({"fps": float("nan")}, r"fps is nan; give the rate"),
        ({"fps": None}, r"fps is None; give the rate"),
        ({"state_names": "abc"}, r"state_names is 'abc'; give a list of names"),
        ({"state_names": [1]}, r"state_names has 1; a name is a text"),
        ({"action_names": None}, r"action_names is None; give a list of names"),
        ({"cameras": ["front"]}, r"cameras is a list; give a dictionary, for example \{'front': Camera\("),
        ({"cameras": {"front": (480, 640)}}, r"cameras\[\.\.\.\] must be an object, not a list"),
        ({"task": 5}, r"task must be a string or null, not a whole number"),
        ({"host": 5}, r"host is 5; give a dictionary"),
    ],
)
def test_session_can_not_be_described_so(tmp_path, wrong, told):
    """Nothing is made on the disk."""
    with pytest.raises(ValueError, match=told):
        TelemetryClient("ws://localhost:8000", "robot_A", spool_dir=tmp_path / "spool", **(GOOD | wrong))
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize("robot_id", [5, None])
def test_robot_id_is_a_text(tmp_path, robot_id):
    """Not what a regular expression says of it."""
    with pytest.raises(ValueError, match=f"robot_id is {robot_id}; give a text"):
        TelemetryClient("ws://localhost:8000", robot_id, spool_dir=tmp_path, **GOOD)


JOINT = {"a": 1.0}


@pytest.mark.parametrize(
    ("frame", "more", "told"),
    [
        (([1.0], [1.0]), {}, "observation is a list; give a dictionary of names and values"),
        ((JOINT, None), {}, "action is None; give a dictionary"),
        ((np.zeros(1), JOINT), {}, "observation is a ndarray; give a dictionary"),
        ((JOINT, JOINT), {"extra": 5}, "extra is 5; give a dictionary"),
        ((JOINT, JOINT), {"columns": [1]}, "columns is a list; give a dictionary"),
        ((JOINT, JOINT), {"captured_us": 1.5}, "captured_us is 1.5; give microseconds since the Unix epoch"),
        ((JOINT, JOINT), {"captured_us": 10**20}, "captured_us is 1"),
        ((JOINT, JOINT), {"observation_age_us": "x"}, "observation_age_us is 'x'; give microseconds"),
    ],
)
def test_frame_can_not_be_such(client, frame, more, told):
    """Nothing has happened then: the next frame is the first."""
    with pytest.raises(ValueError, match=told):
        client.log(*frame, **more)
    assert client.log(JOINT, JOINT) == 0


def test_frames_are_lost_in_whole_numbers_above_nothing(client):
    """Less than one would give an index twice."""
    client.log(JOINT, JOINT)
    for wrong in (-1, 0, "a", 1.5):
        with pytest.raises(ValueError, match=f"count is {wrong!r}; give how many frames are missing"):
            client.lose("no sensor", count=wrong)
    with pytest.raises(ValueError, match="reason is 5; give a text"):
        client.lose(5)
    assert client.logged == 1


def test_events_name_their_field(client):
    """In words."""
    with pytest.raises(ValueError, match="task must be a string or null, not a whole number"):
        client.start_episode(5)
    with pytest.raises(ValueError, match="note must be a string or null"):
        client.mark(5)
