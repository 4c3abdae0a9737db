"""Robot side of the LeRobot backend: records every sample to disk first, then sends it.

    from lerobot_robot_backend import TelemetryClient

LeRobot's commands import this package by themselves, like every installed plugin. Then, and only
then, it intercepts their calls (see `plugin`).
"""

import sys
from types import FrameType
from typing import TYPE_CHECKING

# "X as X" shows them to type checkers. They are imported only when they are first used, because LeRobot's
# commands import this package whether or not they record.
if TYPE_CHECKING:
    from lerobot_robot_backend.client import TelemetryClient as TelemetryClient
    from lerobot_robot_backend.shipper import ship_all as ship_all
    from lerobot_robot_backend.shipper import ship_stream as ship_stream
    from lerobot_robot_backend.spool.stream import SpoolError as SpoolError
else:
    # Hidden from type checkers: with it, they would believe that the module has every name.
    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)


__all__ = ["SpoolError", "TelemetryClient", "ship_all", "ship_stream"]

_HOMES = {
    "TelemetryClient": "lerobot_robot_backend.client",
    "SpoolError": "lerobot_robot_backend.spool.stream",
    "ship_all": "lerobot_robot_backend.shipper",
    "ship_stream": "lerobot_robot_backend.shipper",
}
# The function that LeRobot's commands call to import the installed plugins.
_REGISTRATION = "register_third_party_plugins"


def _is_plugin_import() -> bool:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == _REGISTRATION:
            return True
        frame = frame.f_back
    return False


if _is_plugin_import():
    from lerobot_robot_backend.lerobot.entrance import activate_or_tell

    activate_or_tell()
