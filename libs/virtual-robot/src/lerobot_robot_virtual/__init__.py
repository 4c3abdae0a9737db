"""A simulated SO-101 leader and follower with two cameras, for LeRobot.

`arm` and `scene` need numpy only. The LeRobot devices are loaded when LeRobot itself imports this
package (as it does with every installed plugin), or when one of their names is asked for.
"""

import sys
from typing import Any

DEVICES = (
    "VirtualCamera",
    "VirtualCameraConfig",
    "VirtualSO101Follower",
    "VirtualSO101FollowerConfig",
    "VirtualSO101Leader",
    "VirtualSO101LeaderConfig",
)


def __getattr__(name: str) -> Any:
    if name in DEVICES:
        from lerobot_robot_virtual import devices

        return getattr(devices, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if "lerobot" in sys.modules:
    from lerobot_robot_virtual import devices as devices
