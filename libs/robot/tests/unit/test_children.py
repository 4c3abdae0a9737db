"""Which ends of a child are told as trouble, and until when."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lerobot_robot_backend.children import CALM_S, SHORT_LIFE_S, Attempts
from teleop_testing.waiting import PATIENCE_S

# Longer than a child that can't be started lives.
A_WHILE_S = SHORT_LIFE_S + 5.0


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    return tmp_path / "shipper.log"


@pytest.fixture
def attempts(log_file: Path) -> Attempts:
    return Attempts("sends samples", log_file, fine=(0, 75))


@pytest.fixture
def lives(attempts: Attempts, log_file: Path) -> Callable[..., None]:
    """Lets a child live for a time, write a line and end; or end itself like after a signal."""

    def live(lived_s: float, *, code: int = 1, word: str = "out of memory") -> None:
        attempts.begin()
        end = f"import os; os.kill(os.getpid(), {-code})" if code < 0 else f"raise SystemExit({code})"
        child = subprocess.Popen([sys.executable, "-S", "-c", end])
        child.wait(PATIENCE_S)
        if word:
            with log_file.open("a") as log:
                log.write(f"{word}\n\n")
        attempts.judge(child, lived_s)
        # It is looked at twice a second.
        attempts.judge(child, lived_s + 0.5)

    return live


@pytest.fixture
def works(attempts: Attempts) -> Callable[[float], None]:
    """The last child lives for so long already."""
    living = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    yield lambda lived_s: attempts.judge(living, lived_s)
    living.communicate(timeout=PATIENCE_S)


@pytest.mark.parametrize("lived_s", [A_WHILE_S, 900.0, 4 * 3600.0])
def test_a_child_that_dies_again_and_again_is_told(attempts, lives, works, lived_s):
    """However long it lives each time; with its last line, and for as long as it may die in the same way."""
    lives(lived_s)
    assert attempts.trouble is None
    works(10.0)
    assert attempts.trouble is None
    lives(lived_s, word="Segmentation fault")
    told = f"the process that sends samples has ended 2 times, the last time with 1, {lived_s:.0f} s after"
    assert attempts.trouble == f"{told} its start; it is started again each time: Segmentation fault"
    works(SHORT_LIFE_S)
    assert attempts.trouble is not None
    works(min(2 * lived_s, CALM_S))
    assert attempts.trouble is None
    lives(lived_s)
    assert "has ended 3 times" in attempts.trouble


def test_a_child_that_is_killed_once_is_no_trouble(attempts, lives, works):
    """Whoever kills it, and however early; nor is one that ends in order."""
    lives(3.0, code=-9)
    works(3.0)
    assert attempts.trouble is None
    works(3600.0)
    for code in (0, 75, 0):
        lives(0.5, code=code)
    assert attempts.trouble is None


def test_a_child_that_ends_at_once_is_told_as_one_that_does_not_start(attempts, lives, works):
    """Until one has lived for a while."""
    lives(0.5)
    lives(0.5, word="ModuleNotFoundError: no av")
    can_not = "the process that sends samples can't be started: ModuleNotFoundError: no av"
    assert attempts.trouble == can_not
    works(SHORT_LIFE_S / 2)
    assert attempts.trouble == can_not
    works(SHORT_LIFE_S)
    assert attempts.trouble is None


def test_a_child_that_says_nothing(attempts, lives, log_file):
    """The signal that ended it is named instead."""
    for _ in range(2):
        lives(A_WHILE_S, code=-9, word="")
    assert attempts.trouble.endswith(f"it left no word in {log_file}")
    assert "the last time with SIGKILL" in attempts.trouble
