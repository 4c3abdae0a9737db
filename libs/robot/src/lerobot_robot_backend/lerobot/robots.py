"""Finds the robot that a command or a script drives, and the settings of the command around it.

LeRobot's commands create their robot with `make_robot_from_config`, which they import by name; scripts use
its class. Both are wrapped, because neither shows all robots: a class that LeRobot does not know need not
derive from `Robot`, and a class that does need not call `Robot.__init__`.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

FACTORY = "make_robot_from_config"


class RobotWatch:
    """Reports each robot that is created from now on, once, but not the parts of a robot.

    before  called before a robot is created; if it raises, the robot is not created
    found   called with the robot and the settings of the command that created it (None for a script)
    """

    def __init__(self, before: Callable[[], None], found: Callable[[Any, Any], None]) -> None:
        self._before = before
        self._found = found
        self._robots: list[Any] = []
        self._factory_calls = 0

    def install(self) -> None:
        """Wrap LeRobot's factory of robots, wherever it was imported to, and its base class."""
        from lerobot.robots import Robot
        from lerobot.robots.utils import make_robot_from_config

        watched = self._watch_factory(make_robot_from_config)
        for module in list(sys.modules.values()):
            if getattr(module, "__dict__", {}).get(FACTORY) is make_robot_from_config:
                setattr(module, FACTORY, watched)
        Robot.__new__ = self._watch_class(Robot)

    def _watch_factory(self, make: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(make)
        def make_and_tell(config: Any, *args: Any, **kwargs: Any) -> Any:
            self._before()
            command = _command_around(sys._getframe(1), config)
            # Anything created during this call is a part of the resulting robot, or the robot itself.
            self._factory_calls += 1
            try:
                robot = make(config, *args, **kwargs)
            finally:
                self._factory_calls -= 1
            self._tell(robot, command)
            return robot

        return make_and_tell

    def _watch_class(self, base: Any) -> Callable[..., Any]:
        def new(cls: Any, *args: Any, **kwargs: Any) -> Any:
            # Within the factory, `before` has been called already.
            if not self._factory_calls:
                self._before()
            make = super(base, cls).__new__
            # `object` takes no arguments; another base class may want them.
            robot = make(cls) if make is object.__new__ else make(cls, *args, **kwargs)
            if not self._factory_calls and not self._is_part(sys._getframe(1)):
                self._tell(robot, None)
            return robot

        return new

    def _tell(self, robot: Any, command: Any) -> None:
        self._robots.append(robot)
        self._found(robot, command)

    def _is_part(self, frame: FrameType) -> bool:
        """Whether a reported robot is creating this one, that is, one of its methods is running."""
        for outer in _frames(frame):
            if outer.f_code.co_argcount:
                first = outer.f_locals.get(outer.f_code.co_varnames[0])
                if any(first is robot for robot in self._robots):
                    return True
        return False


def vector_names(robot: Any) -> tuple[list[str], list[str]]:
    """Names of state and action, as in LeRobot. Everything else, an `int` for example, is kept exactly,
    outside of the vectors."""
    observed, asked = robot.observation_features.items(), robot.action_features.items()
    return [name for name, kind in observed if kind is float], [name for name, kind in asked if kind is float]


def script_rate() -> float | None:
    """The rate of a script's loop, Hz: its global `FPS`, as in LeRobot's examples; None if it has none."""
    fps = getattr(sys.modules.get("__main__"), "FPS", None)
    return float(fps) if isinstance(fps, int | float) and fps > 0 else None


def _command_around(frame: FrameType, config: Any) -> Any:
    """The command's settings that contain `config` as their robot, from the nearest caller
    that has them, or None."""
    for outer in _frames(frame):
        for value in outer.f_locals.values():
            with suppress(Exception):  # an object of somebody else may do anything when an attribute is read
                if dataclasses.is_dataclass(value) and getattr(value, "robot", None) is config:
                    return value
    return None


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
