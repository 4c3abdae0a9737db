"""Filters that nobody can mean are refused, by field."""

from datetime import UTC, datetime

import msgspec
import pytest
from teleop_export.planning.selection import SessionFilter, check_filter
from teleop_schema.errors import BadInput

NOON, LATER = datetime(2026, 11, 23, 12, tzinfo=UTC), datetime(2026, 11, 23, 13, tzinfo=UTC)


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (SessionFilter(), "filter"),
        (SessionFilter(robot_id="../robot"), "filter.robot_id"),
        (SessionFilter(robot_type="so101\0"), "filter.robot_type"),
        (SessionFilter(task="pick\0"), "filter.task"),
        (SessionFilter(session_tags=("good", "b\0d")), "filter.session_tags"),
        (SessionFilter(since=NOON, until=NOON), "filter.until"),
        (SessionFilter(since=LATER, until=NOON), "filter.until"),
    ],
)
def test_what_is_wrong_is_named(wanted, field):
    """The error says which part of the filter it is."""
    with pytest.raises(BadInput) as refused:
        check_filter(wanted)
    assert refused.value.field == field


@pytest.mark.parametrize(
    "wanted",
    [
        SessionFilter(robot_id="robot_A"),
        SessionFilter(task="pick"),
        SessionFilter(session_tags=("good",)),
        SessionFilter(since=NOON),
        SessionFilter(until=NOON),
        SessionFilter(robot_type="so101", outcome="success", since=NOON, until=LATER),
    ],
)
def test_what_says_something_is_taken(wanted):
    """One condition is enough."""
    check_filter(wanted)


def test_an_empty_filter_tells_what_there_is():
    """By the names that requests use."""
    with pytest.raises(BadInput) as refused:
        check_filter(msgspec.json.decode(b"{}", type=SessionFilter))
    parts = "robot_id, session_id, task, outcome, reason, operator, tag, min_quality, since, until"
    assert refused.value.hint.endswith(f" {parts}, robot_type, session_tags")
