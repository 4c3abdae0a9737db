"""When the person who records is told that data is only on this PC."""

from pathlib import Path

import pytest
from lerobot_robot_backend.waiting import REPEAT_S, TELL_AFTER_S, Waiting

WHERE = Path("/spool/robot_A/stream")
WHY = "no_space: the server's disk is full"


@pytest.fixture
def frames():
    """Frames of which the server has taken the first 60."""
    waiting = Waiting("frame", WHERE)
    assert waiting.look(0.0, done=60, waiting=0, trouble=None) is None
    return waiting


def test_told_within_a_minute_with_reason_number_and_place(frames):
    """And once more after a while, with the numbers of then."""
    assert frames.look(TELL_AFTER_S - 1, done=60, waiting=1140, trouble=WHY) is None
    assert frames.look(TELL_AFTER_S, done=60, waiting=1200, trouble=WHY) == (
        "nothing has reached the server for 20 s: no_space: the server's disk is full; only on this PC so "
        "far: 1200 frames, in /spool/robot_A/stream; they are sent once the server takes them, and the "
        "recording goes on"
    )
    assert TELL_AFTER_S < 60
    for later_s in (1.0, REPEAT_S - 1):
        assert frames.look(TELL_AFTER_S + later_s, done=60, waiting=9000, trouble=WHY) is None
    again = frames.look(TELL_AFTER_S + REPEAT_S, done=60, waiting=37_200, trouble=WHY)
    assert again.startswith("nothing has reached the server for 10 minutes: ")
    assert "37200 frames" in again


def test_the_end_is_told_once_when_something_arrives(frames):
    """A connection alone is not the end: the server must have taken something."""
    assert frames.look(30.0, done=60, waiting=1800, trouble=WHY)
    assert frames.look(31.0, done=60, waiting=1860, trouble=None) is None
    told = frames.look(32.0, done=120, waiting=1800, trouble=None)
    assert told == "the server takes frames again; still to be sent: 1800 frames"
    assert frames.look(33.0, done=1920, waiting=0, trouble=None) is None
    assert frames.look(33.0 + TELL_AFTER_S, done=1920, waiting=1, trouble=WHY) is not None
    assert frames.look(60.0, done=1921, waiting=0, trouble=None).endswith("; nothing is left to send")


def test_nothing_is_told_of_what_is_only_slow(frames):
    """As long as something arrives, or as no reason is known."""
    for second in range(0, 200, 10):
        assert frames.look(float(second), done=60 + second, waiting=5000, trouble=WHY) is None
    assert frames.look(1000.0, done=250, waiting=5000, trouble=None) is None


def test_a_server_that_lost_frames_is_not_one_that_takes_them(frames):
    """Its database was restored to an older state: what it lacks counts as waiting."""
    assert frames.look(30.0, done=60, waiting=100, trouble=WHY)
    assert frames.look(31.0, done=20, waiting=140, trouble=WHY) is None
    assert frames.look(32.0, done=40, waiting=120, trouble=None).startswith("the server takes frames again")
