"""Ports that tests give to services: nobody else gets one, also while its service is down."""

import secrets
import subprocess
import sys

import pytest
from teleop_testing.backends.processes import free_port
from teleop_testing.waiting import PATIENCE_S


@pytest.fixture
def drawn(monkeypatch):
    """What free_port draws next, above 10,000, in this order; then it fails."""

    def draw(*numbers: int) -> None:
        left = list(numbers)
        monkeypatch.setattr(secrets, "randbelow", lambda _: left.pop(0))

    return draw


def test_no_port_is_given_twice(drawn):
    """Nobody listens on the first one: it is held all the same."""
    first, second = (free_port() - 10_000 for _ in range(2))
    drawn(first, second, first)
    with pytest.raises(IndexError):
        free_port()


def test_what_another_process_was_given_is_taken(drawn):
    """Test processes side by side, until the other one ends."""
    program = (
        "from teleop_testing.backends.processes import free_port; print(free_port(), flush=True); input()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    port = int(other.stdout.readline())
    drawn(port - 10_000)
    with pytest.raises(IndexError):
        free_port()
    other.communicate("\n", PATIENCE_S)
    drawn(port - 10_000)
    assert free_port() == port
