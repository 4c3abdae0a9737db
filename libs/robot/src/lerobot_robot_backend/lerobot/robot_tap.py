"""Intercepts a robot's methods: its connection, what it observes, what it is told to do, its end."""

import functools
from collections.abc import Callable
from typing import Any

from lerobot_robot_backend.lerobot.dataset_tap import Guard


def tap_robot(
    robot: Any,
    *,
    guard: Guard,
    connected: Callable[[], None],
    observing: Callable[[], Callable[[Any], None]],
    acted: Callable[[dict[str, Any] | None, Any], None],
    disconnected: Callable[[], None],
) -> None:
    """Wrap the robot's methods, so that these functions are called, through `guard` where the robot waits.

    connected     after the robot has connected
    observing     before it observes; what it returns is called with the observation
    acted         with the action that it was given (None: not a dictionary), and the one that it says it took
    disconnected  after it has disconnected, or has failed to
    """
    after(robot, "connect", functools.partial(guard, connected))
    _wrap(robot, "get_observation", functools.partial(_observed, guard, observing))
    _wrap(robot, "send_action", functools.partial(_acted, guard, acted))
    _wrap(robot, "disconnect", functools.partial(_disconnected, guard, disconnected))


def after(robot: Any, name: str, do: Callable[[], None]) -> None:
    """Call `do` after each call of the robot's method that has not failed."""

    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call_and_do(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            do()
            return result

        return call_and_do

    _wrap(robot, name, wrap)


def _wrap(robot: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    # On the object, not on its class, because a part of the robot may have the same class.
    setattr(robot, name, wrap(getattr(robot, name)))


def _observed(
    guard: Guard, observing: Callable[[], Callable[[Any], None]], get_observation: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(get_observation)
    def get_and_keep(*args: Any, **kwargs: Any) -> Any:
        keep = observing()
        observation = get_observation(*args, **kwargs)
        guard(keep, observation)
        return observation

    return get_and_keep


def _acted(
    guard: Guard, acted: Callable[[dict[str, Any] | None, Any], None], send_action: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(send_action)
    def send_and_log(*args: Any, **kwargs: Any) -> Any:
        action = args[0] if args else kwargs.get("action")
        # A copy, because the robot may change or empty the dictionary that it is given.
        asked = dict(action) if isinstance(action, dict) else None
        sent = send_action(*args, **kwargs)
        guard(acted, asked, sent)
        return sent

    return send_and_log


def _disconnected(
    guard: Guard, disconnected: Callable[[], None], disconnect: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(disconnect)
    def disconnect_and_close(*args: Any, **kwargs: Any) -> Any:
        # A robot whose bus is gone fails to disconnect; the session ends all the same.
        try:
            return disconnect(*args, **kwargs)
        finally:
            guard(disconnected)

    return disconnect_and_close
