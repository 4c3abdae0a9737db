"""The user's options: flags taken from the command line, and the environment."""

import difflib
import functools
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from teleop_client.address import check_backend_url
from teleop_schema.decoding import explain
from teleop_schema.errors import BadRobotId
from teleop_schema.identifiers import check_robot_id
from teleop_schema.session import Operator

from lerobot_robot_backend.client import MIN_FREE_BYTES
from lerobot_robot_backend.lerobot.exits import exit_with
from lerobot_robot_backend.spool.stream import SpoolError, check_spool, default_spool_dir
from lerobot_robot_backend.video.choice import choose_video

VARIABLES = {
    "backend_url": "LEROBOT_BACKEND_URL",
    "robot_id": "LEROBOT_BACKEND_ROBOT_ID",
    "backend_token": None,  # the client knows which backend the variable is for
    "backend_fps": "LEROBOT_BACKEND_FPS",
    "backend_task": None,
    "backend_operator": None,
}
# How similar two names must be for one to count as the other, mistyped; 1 means equal.
_ALIKE = 0.8


class BadFlag(ValueError):
    """A flag is missing, or its value is wrong; the message names it."""


@dataclass(frozen=True)
class Options:
    """The user's options, checked."""

    backend_url: str
    robot_id: str
    token: str | None = None
    task: str | None = None
    operator: str | None = None
    fps: float | None = None


@dataclass(frozen=True)
class Request:
    """What the command line and the environment say about the backend, not checked yet.

    by_flag  the command line names a backend, so this command is meant, even if it creates no robot
    others   the command line's other flags, which may include a mistyped one of ours
    """

    values: Mapping[str, str]
    by_flag: bool
    others: tuple[str, ...] = ()

    @functools.cached_property
    def options(self) -> Options:
        """Raises BadFlag, naming the flag or its variable."""
        url, robot_id = self.values.get("backend_url"), self.values.get("robot_id")
        if url is None:
            name = next(iter(self.values))
            raise BadFlag(
                f"--{name} needs --backend_url, for example ws://localhost:8000{self._meant('backend_url')}"
            )
        if robot_id is None:
            raise BadFlag(
                f"{self._written('backend_url')} needs {self._both('robot_id')}: "
                f"the name under which this robot's data is stored{self._meant('robot_id')}"
            )
        fps = _rate(self.values.get("backend_fps"))
        try:
            return Options(
                check_backend_url(url),
                check_robot_id(robot_id),
                self.values.get("backend_token"),
                self.values.get("backend_task"),
                self._operator(),
                fps,
            )
        except BadRobotId as error:
            told = str(error).removeprefix("robot_id")
            raise BadFlag(f"{self._written('robot_id')}{told}") from error
        except ValueError as error:
            raise BadFlag(f"{self._written('backend_url')}: {error}") from error

    def _operator(self) -> str | None:
        told = self.values.get("backend_operator")
        if told is None:
            return None
        try:
            return msgspec.convert(told.strip(), Operator)
        except msgspec.ValidationError as error:
            raise BadFlag(f"--backend_operator: {explain(error, 'it')}") from error

    def _written(self, name: str) -> str:
        """What the user wrote: the flag, or the variable where no flag names a backend."""
        return f"--{name}" if self.by_flag else str(VARIABLES[name])

    def _both(self, name: str) -> str:
        """Both ways to set it, the one that the user used first."""
        flag, variable = f"--{name}", VARIABLES[name]
        return f"{flag} (or {variable})" if self.by_flag else f"{variable} (or {flag})"

    def _meant(self, name: str) -> str:
        """Names the given flag that probably is the missing one, mistyped."""
        others = {other.replace("-", "_"): other for other in self.others}
        like = [others[each] for each in difflib.get_close_matches(name, others, n=1, cutoff=_ALIKE)]
        return f"; --{like[0]} is not a flag of the backend: is it mistyped?" if like else ""


def options_or_exit(request: Request) -> Options:
    """The checked options, with a usable spool; otherwise ends the process and says why."""
    try:
        options = request.options
        choose_video(None)
        check_spool(default_spool_dir(), options.robot_id, MIN_FREE_BYTES)
    except (ValueError, SpoolError) as error:
        exit_with(str(error))
    return options


def read_request(argv: list[str], environment: Mapping[str, str]) -> Request | None:
    """Remove the backend's flags from `argv`, and return what they and the environment say.

    returns  None if neither names a backend
    raises   BadFlag for a flag without a value
    """
    given = _take_flags(argv)
    known = {name: environment.get(variable) for name, variable in VARIABLES.items() if variable}
    chosen = given | {name: value for name, value in known.items() if value and name not in given}
    if not given and "backend_url" not in chosen:
        return None
    others = tuple(each[2:].partition("=")[0] for each in argv if each.startswith("--"))
    return Request(chosen, bool(given), others)


def _rate(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        fps = float(text)
    except ValueError:
        fps = 0.0
    if not 0 < fps < float("inf"):
        raise BadFlag(f"--backend_fps: {text!r} is not a rate in Hz, for example 30")
    return fps


def _take_flags(argv: list[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    rest: list[str] = []
    arguments = iter(argv)
    for argument in arguments:
        written, equals, value = argument.partition("=")
        # LeRobot writes its flags with `_`, most other commands with `-`.
        name = written.removeprefix("--").replace("-", "_")
        if not written.startswith("--") or name not in VARIABLES:
            rest.append(argument)
            continue
        if not equals:
            value = next(arguments, "")
        if not value or (not equals and value.startswith("--")):
            raise BadFlag(f"{written} needs a value")
        given[name] = value
    argv[:] = rest
    return given
