"""The wheels of a release, and how people install them."""

import subprocess
import sys
from pathlib import Path

import pytest
from teleop_testing.waiting import PATIENCE_S

REPOSITORY = Path(__file__).parents[2]


def make_wheels(folder: Path) -> list[Path]:
    command = [sys.executable, REPOSITORY / "deploy/release/make_wheels.py", folder]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE_S)
    return sorted(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def wheels(tmp_path_factory) -> list[Path]:
    """All that `make dist` makes, in a folder of their own."""
    return make_wheels(tmp_path_factory.mktemp("dist"))


@pytest.fixture
def made_again(tmp_path) -> list[Path]:
    """The same, made a second time."""
    return make_wheels(tmp_path / "again")
