"""Datasets that the real LeRobot recorded: to the end, and up to where it was killed."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from teleop_testing.machine.prepared import PreparedPython
from teleop_testing.once import once

SCRIPT = Path(__file__).with_name("scripted_recording.py")
KILLED = -9
STEPS = (
    "halfway",
    "_save_episode_data",
    "_save_episode_video:0",
    "_save_episode_video:1",
    "_save_episode_metadata",
    "write_info",
    "write_stats",
    "done",
)
EPISODES = [[0, 21, "pick"], [1, 30, "pick"], [2, 17, "place"], [3, 24, "pick"]]


@dataclass(frozen=True)
class Recording:
    """A whole dataset, and copies of what lay on the disk while it was recorded.

    A copy taken between two calls is what kill -9 leaves there: what is in RAM is lost.
    """

    whole: Path
    folder: Path

    def state(self, episode: int, step: str) -> Path:
        """What lay there right after this step of saving this episode."""
        return self.folder / f"{episode}-{step.replace(':', '_')}"


@pytest.fixture(scope="session")
def record(python: PreparedPython) -> Callable[..., int]:
    """Records a dataset as told, with LeRobot in a process of its own; gives its exit code."""

    def record(root: Path, **plan: Any) -> int:
        done = python.run([SCRIPT, json.dumps({"root": str(root), **plan})])
        assert done.returncode in (0, KILLED), done.stdout
        return done.returncode

    return record


@pytest.fixture(scope="session")
def recording(record: Callable[..., int], tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Four short episodes of two cameras, copied at every step of the first and the last."""
    copies = [[episode, step] for episode in (0, 3) for step in STEPS] + [[1, "done"], [2, "done"]]

    def make(folder: Path) -> None:
        assert record(folder / "whole", episodes=EPISODES, copies=copies, copy_to=str(folder)) == 0

    folder = once(tmp_path_factory, "recording", make)
    return Recording(folder / "whole", folder)
