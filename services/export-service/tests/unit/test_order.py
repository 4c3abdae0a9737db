"""Requests, and when two of them are the same."""

import json

import msgspec
import pytest
from msgspec import structs
from teleop_export.errors import SessionUnfinished
from teleop_export.planning.order import Order, fingerprint, make_order
from teleop_export.planning.request import ExportRequest, check_request
from teleop_export.sessions.recorded import EpisodeRow, Session
from teleop_schema.errors import BadInput

REQUEST = ExportRequest(session_ids=(1,), repo_id="lab/pick")


def session(**changes):
    values = {
        "id": 1,
        "robot_id": "robot_A",
        "robot_type": "so101",
        "fps": 60.0,
        "task": None,
        "state_names": ("a",),
        "action_names": ("a",),
        "status": "complete",
        "watermark": 10,
        "committed": 10,
    }
    return Session(**values | changes)


def name(request=REQUEST, **changes):
    return fingerprint(request, make_order(request, [session(**changes)]))


def test_splits_survive_the_database():
    """jsonb keeps no order of keys, but the ranges have one."""
    request = structs.replace(REQUEST, split={"train": 0.5, "val": 0.5})
    rows = tuple(EpisodeRow(number, number, number + 1, None, None) for number in range(4))
    made = make_order(request, [session(episodes=rows)])
    stored = json.loads(json.dumps(msgspec.to_builtins(made), sort_keys=True))
    assert msgspec.convert(stored, Order).splits == made.splits == (("train", 0, 2), ("val", 2, 4))


def test_same_request_of_same_sessions_has_the_same_name():
    """Over and over, in every process."""
    assert name() == name()


@pytest.mark.parametrize(
    "changes",
    [
        {"watermark": 11, "committed": 11},
        {"task": "fold"},
        {"episodes": (EpisodeRow(0, 0, 5),)},
        {"fps": 30.0},
    ],
)
def test_changed_session_has_another_name(changes):
    """More frames, another task, other episodes: another export."""
    assert name(**changes) != name()


@pytest.mark.parametrize("changes", [{"repo_id": "lab/fold"}, {"include_capture_time": False}])
def test_other_request_has_another_name(changes):
    """Another dataset was asked for."""
    assert name(msgspec.structs.replace(REQUEST, **changes)) != name()


def test_order_survives_the_database():
    """It is kept as JSON between the request and the worker."""
    order = make_order(REQUEST, [session(episodes=(EpisodeRow(0, 0, 5), EpisodeRow(1, 5, None)))])
    assert msgspec.json.decode(msgspec.json.encode(order), type=Order) == order


def test_unfinished_session_only_if_asked():
    """What is still being recorded would be another dataset a second later."""
    with pytest.raises(SessionUnfinished, match="session 1"):
        make_order(REQUEST, [session(status="recording")])
    asked = msgspec.structs.replace(REQUEST, include_unfinished=True)
    assert make_order(asked, [session(status="recording")]).frames == 10


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"repo_id": "no-slash"}, "repo_id"),
        ({"repo_id": "../../etc"}, "repo_id"),
        ({"session_ids": (3, 1, 3)}, "session_ids"),
        ({"include_outcomes": frozenset()}, "include_outcomes"),
    ],
)
def test_bad_requests_name_their_field(changes, field):
    """What no export can have is refused before anything is looked up."""
    with pytest.raises(BadInput) as caught:
        check_request(msgspec.structs.replace(REQUEST, **changes))
    assert caught.value.field == field
