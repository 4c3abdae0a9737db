"""Robots that LeRobot drives and that are built in other ways than its own arms.

lerobot-teleoperate --robot.discover_packages_path=odd_robots --robot.type=without_super …
"""

from dataclasses import dataclass
from typing import Any

from lerobot.robots import Robot, RobotConfig
from lerobot_robot_virtual import VirtualSO101Follower, VirtualSO101FollowerConfig


class _Delegate(Robot):
    """Does all that a robot does by way of its arms, whose names stand before those of their joints."""

    def __init__(self, config: RobotConfig) -> None:
        self.config = config

    @property
    def arms(self) -> dict[str, VirtualSO101Follower]:
        return {"": self.arm}

    @property
    def observation_features(self) -> dict[str, type]:
        return {prefix + name: float for prefix, arm in self.arms.items() for name in arm.action_features}

    action_features = observation_features

    @property
    def is_connected(self) -> bool:
        return all(arm.is_connected for arm in self.arms.values())

    def connect(self, calibrate: bool = True) -> None:
        for arm in self.arms.values():
            arm.connect()

    is_calibrated = True

    def calibrate(self) -> None:
        pass

    def configure(self) -> None:
        pass

    def get_observation(self) -> dict[str, Any]:
        return {
            prefix + name: value
            for prefix, arm in self.arms.items()
            for name, value in arm.get_observation().items()
        }

    def send_action(self, action: dict[str, float]) -> dict[str, float]:
        for prefix, arm in self.arms.items():
            arm.send_action(
                {name: action.get(prefix + name, action.get(name)) for name in arm.action_features}
            )
        return action

    def disconnect(self) -> None:
        for arm in self.arms.values():
            arm.disconnect()


@RobotConfig.register_subclass("without_super")
@dataclass(kw_only=True)
class WithoutSuperConfig(RobotConfig):
    """Of a robot that never calls `Robot.__init__`."""


class WithoutSuper(_Delegate):
    """Never calls `Robot.__init__`."""

    config_class = WithoutSuperConfig
    name = "without_super"

    def __init__(self, config: WithoutSuperConfig) -> None:
        self.config = config
        self.id = config.id
        self.arm = VirtualSO101Follower(VirtualSO101FollowerConfig(id="inner"))


@RobotConfig.register_subclass("arms_first")
@dataclass(kw_only=True)
class ArmsFirstConfig(RobotConfig):
    """Of a robot whose arms are made before it calls `Robot.__init__`."""


class ArmsFirst(_Delegate):
    """Two arms, made before `Robot.__init__` is called."""

    config_class = ArmsFirstConfig
    name = "arms_first"

    def __init__(self, config: ArmsFirstConfig) -> None:
        self.left = VirtualSO101Follower(VirtualSO101FollowerConfig(id="left"))
        self.right = VirtualSO101Follower(VirtualSO101FollowerConfig(id="right"))
        Robot.__init__(self, config)

    @property
    def arms(self) -> dict[str, VirtualSO101Follower]:
        return {"left_": self.left, "right_": self.right}


@RobotConfig.register_subclass("no_relation")
@dataclass(kw_only=True)
class NoRelationConfig(RobotConfig):
    """Of a robot whose class does not derive from `Robot`."""


class NoRelation:
    """Does what a robot does without being a `Robot`."""

    name = "no_relation"

    def __init__(self, config: NoRelationConfig) -> None:
        self.id = config.id
        self.inner = VirtualSO101Follower(VirtualSO101FollowerConfig(id="inner"))
        self.observation_features = self.action_features = self.inner.action_features

    @property
    def is_connected(self) -> bool:
        return self.inner.is_connected

    def connect(self, calibrate: bool = True) -> None:
        self.inner.connect()

    def get_observation(self) -> dict[str, Any]:
        return self.inner.get_observation()

    def send_action(self, action: dict[str, float]) -> dict[str, float]:
        return self.inner.send_action(action)

    def disconnect(self) -> None:
        self.inner.disconnect()


@RobotConfig.register_subclass("sealed")
@dataclass(kw_only=True)
class SealedConfig(RobotConfig):
    """Of a robot that takes no attributes."""


class Sealed(NoRelation):
    """Takes no attributes from others once it is made."""

    name = "sealed"

    def __init__(self, config: SealedConfig) -> None:
        super().__init__(config)
        self.ready = True

    def __setattr__(self, name: str, value: Any) -> None:
        if getattr(self, "ready", False):
            raise AttributeError(f"{name} can't be set")
        super().__setattr__(name, value)
