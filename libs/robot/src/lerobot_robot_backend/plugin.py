"""The LeRobot plugin: takes its flags from the command line, and taps the command's robot and dataset."""

import atexit
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from teleop_schema.errors import BadRobotId
from teleop_schema.identifiers import check_robot_id

from lerobot_robot_backend.address import check_backend_url
from lerobot_robot_backend.client import MIN_FREE_BYTES
from lerobot_robot_backend.stream import SpoolError, check_free_space, default_spool_dir
from lerobot_robot_backend.video_choice import choose_video

FLAGS = ("backend_url", "robot_id", "backend_token", "backend_task")
VARIABLES = {
    "backend_url": "LEROBOT_BACKEND_URL",
    "robot_id": "LEROBOT_BACKEND_ROBOT_ID",
    "backend_token": "LEROBOT_BACKEND_TOKEN",
}
EXIT_USAGE = 2


class BadFlag(ValueError):
    """A flag is missing, or its value is wrong; the message names it."""


@dataclass(frozen=True)
class Options:
    """What the user asked of the backend; valid."""

    backend_url: str
    robot_id: str
    token: str | None = None
    task: str | None = None


def activate() -> None:
    """Listen in on the LeRobot command that is about to run; without a URL, do nothing at all.

    What is wrong with the flags, or with the disk, ends the process now, before a robot moves.
    """
    try:
        options = take_options(sys.argv, os.environ)
        if options is None:
            return
        choose_video(None)
        check_free_space(default_spool_dir(), MIN_FREE_BYTES)
    except (ValueError, SpoolError) as error:
        _exit(str(error))
    from lerobot_robot_backend.tap import Tap

    tap = Tap(options)
    tap.install()
    atexit.register(tap.finish)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)


def take_options(argv: list[str], environment: Mapping[str, str]) -> Options | None:
    """Remove the backend's flags from `argv`, and return what they and the environment say.

    returns  None where neither names a backend
    raises   BadFlag, naming the flag
    """
    given = _take_flags(argv)
    chosen = {name: environment.get(variable) or None for name, variable in VARIABLES.items()} | given
    url, robot_id = chosen.get("backend_url"), chosen.get("robot_id")
    if url is None:
        if given:
            raise BadFlag(f"--{next(iter(given))} needs --backend_url, for example ws://localhost:8000")
        return None
    if robot_id is None:
        raise BadFlag("--backend_url needs --robot_id: the name under which this robot's data is kept")
    try:
        return Options(
            check_backend_url(url),
            check_robot_id(robot_id),
            chosen.get("backend_token"),
            chosen.get("backend_task"),
        )
    except BadRobotId as error:
        raise BadFlag(f"--robot_id: {error}") from error
    except ValueError as error:
        raise BadFlag(f"--backend_url: {error}") from error


def _take_flags(argv: list[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    rest: list[str] = []
    arguments = iter(argv)
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name not in FLAGS:
            rest.append(argument)
            continue
        if not equals:
            value = next(arguments, "")
        if not value or (not equals and value.startswith("--")):
            raise BadFlag(f"--{name} needs a value")
        given[name] = value
    argv[:] = rest
    return given


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Make LeRobot end in order, as on Ctrl-C: any other signal would cost it its dataset."""
    # A closing terminal may send several; what is being saved now is not to be interrupted again.
    for other in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)


def _exit(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(EXIT_USAGE)
