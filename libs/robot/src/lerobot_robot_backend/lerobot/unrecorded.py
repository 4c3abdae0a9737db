"""Tells at the end of a command with a robot why nothing of it is recorded."""

import atexit
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from lerobot_robot_backend.lerobot.robots import RobotWatch


def tell_at_end(lines: Sequence[str]) -> None:
    """Print `lines` as the last ones of this command, if it creates a robot until then.

    What is printed at its start is scrolled away by what LeRobot prints. Commands without a robot, such as
    lerobot-train, have nothing to record, and are left alone.
    """
    pid = os.getpid()
    robots: list[Any] = []

    def tell() -> None:
        if os.getpid() != pid or not robots:
            return
        with suppress(OSError):  # the terminal was closed
            for line in lines:
                print(f"backend: {line}", file=sys.stderr)

    RobotWatch(before=lambda: None, found=lambda robot, command: robots.append(robot)).install()
    atexit.register(tell)
