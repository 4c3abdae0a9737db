"""The virtual arm as LeRobot sees it: a follower, a leader, and a camera of type `virtual`."""

# LeRobot ships no types: its classes and decorators are Any to a type checker.
# mypy: disable-error-code="misc, untyped-decorator, no-any-return"

import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lerobot.cameras import Camera, CameraConfig
from lerobot.robots import Robot, RobotConfig
from lerobot.teleoperators import Teleoperator, TeleoperatorConfig
from lerobot.utils.decorators import check_if_already_connected, check_if_not_connected

from lerobot_robot_virtual.arm import NAMES, VirtualArm, leader_positions
from lerobot_robot_virtual.scene import VIEWS, Depth, Picture, as_depth, render


@CameraConfig.register_subclass("virtual")
@dataclass(kw_only=True)
class VirtualCameraConfig(CameraConfig):
    """A camera that looks at the virtual arm.

    view          "front" or "wrist"; None: by the camera's name, "front" for any other name
    free_running  take a picture every 1/fps seconds, as a real camera does: until the next one, each reading
                  gives the same picture; else take one at each reading
    use_depth     give depth, too, of each picture's moment; the robot calls it <camera>_depth
    """

    fps: int | None = 30
    width: int | None = 320
    height: int | None = 240
    view: str | None = None
    free_running: bool = False
    use_depth: bool = False


@RobotConfig.register_subclass("virtual_so101_follower")
@dataclass(kw_only=True)
class VirtualSO101FollowerConfig(RobotConfig):
    """A virtual follower arm.

    cameras              name -> camera, for example {front: {type: virtual}, wrist: {type: virtual}}
    max_relative_target  clips each command to this distance from the position, degrees; None: never
    """

    cameras: dict[str, CameraConfig] = field(default_factory=dict)
    max_relative_target: float | None = None


@TeleoperatorConfig.register_subclass("virtual_so101_leader")
@dataclass(kw_only=True)
class VirtualSO101LeaderConfig(TeleoperatorConfig):
    """A virtual leader arm that moves by itself."""


class VirtualCamera(Camera):
    """Renders a new picture at each reading, or `free_running` at its own rate.

    The counter in a picture is the number of pictures that the camera has taken before.
    """

    def __init__(self, config: VirtualCameraConfig) -> None:
        super().__init__(config)
        self.config = config
        self.arm = VirtualArm()
        self.view = config.view or VIEWS[0]
        self.frame_number = 0
        self.use_depth = config.use_depth
        self.latest_frame: Picture | None = None
        self.latest_depth_frame: Depth | None = None
        self.latest_timestamp: float | None = None
        self._started_s = 0.0
        self._connected = False

    @property
    def is_connected(self) -> bool:
        """Whether `connect` was called, and `disconnect` not since."""
        return self._connected

    @staticmethod
    def find_cameras() -> list[dict[str, Any]]:
        """None: there is no hardware to look for."""
        return []

    def connect(self, warmup: bool = True) -> None:
        """Count pictures from 0 again; nothing has to warm up."""
        self._connected = True
        self.frame_number = 0
        self.latest_frame = self.latest_depth_frame = self.latest_timestamp = None
        self._started_s = time.perf_counter()

    @check_if_not_connected
    def read(self) -> Picture:
        """(height, width, 3) uint8, RGB: what the camera sees now, or saw when it took its last picture."""
        taken_s = time.perf_counter()
        if self.config.free_running and self.config.fps:
            periods = int((taken_s - self._started_s) * self.config.fps)
            if self.latest_frame is not None and periods < self.frame_number:
                return self.latest_frame
            self.frame_number = periods
            taken_s = self._started_s + periods / self.config.fps
        self.latest_frame = render(
            self.view,
            self.arm.positions,
            self.frame_number,
            height=self.config.height or 0,
            width=self.config.width or 0,
        )
        self.latest_depth_frame = as_depth(self.latest_frame) if self.use_depth else None
        self.latest_timestamp = taken_s
        self.frame_number += 1
        return self.latest_frame

    def async_read(self, timeout_ms: float = 200) -> Picture:
        """The same as `read`: a picture is made when it is asked for, so none is waited for."""
        return self.read()

    def read_latest(self, max_age_ms: int = 500) -> Picture:
        """The same as `read`: no picture is older than the question."""
        return self.read()

    def read_latest_depth(self, max_age_ms: int = 500) -> Depth:
        """(height, width, 1) uint16, mm: of the moment of the latest picture."""
        if self.latest_depth_frame is None:
            self.read()
        if self.latest_depth_frame is None:
            raise RuntimeError("this camera gives no depth: use_depth is false")
        return self.latest_depth_frame

    def disconnect(self) -> None:
        """It gives nothing any more until the next `connect`."""
        self._connected = False


class VirtualSO101Follower(Robot):
    """The virtual follower arm with its cameras."""

    config_class = VirtualSO101FollowerConfig
    name = "virtual_so101_follower"

    def __init__(self, config: VirtualSO101FollowerConfig) -> None:
        super().__init__(config)
        self.config = config
        self._arm = VirtualArm(config.max_relative_target)
        self.cameras: dict[str, VirtualCamera] = {}
        for name, camera_config in config.cameras.items():
            if not isinstance(camera_config, VirtualCameraConfig):
                raise ValueError(f"camera {name!r}: a virtual robot supports only cameras of type virtual")
            camera = VirtualCamera(camera_config)
            camera.arm = self._arm
            camera.view = camera_config.view or (name if name in VIEWS else VIEWS[0])
            self.cameras[name] = camera
        self._connected = False

    @cached_property
    def observation_features(self) -> dict[str, type | tuple[int | None, ...]]:
        """float of each joint, degrees (the gripper: 0 to 100); (height, width, channels) of each camera."""
        pictures: dict[str, tuple[int | None, ...]] = {}
        for name, camera in self.cameras.items():
            pictures[name] = (camera.height, camera.width, 3)
            if camera.use_depth:
                pictures[f"{name}_depth"] = (camera.height, camera.width, 1)
        return {**dict.fromkeys(NAMES, float), **pictures}

    @cached_property
    def action_features(self) -> dict[str, type]:
        """float of each joint, in the same units."""
        return dict.fromkeys(NAMES, float)

    @property
    def is_connected(self) -> bool:
        """Whether `connect` was called, and `disconnect` not since."""
        return self._connected

    @check_if_already_connected
    def connect(self, calibrate: bool = True) -> None:
        """Connect the cameras, too."""
        for camera in self.cameras.values():
            camera.connect()
        self._connected = True

    @property
    def is_calibrated(self) -> bool:
        """Always: a virtual arm needs no calibration."""
        return True

    def calibrate(self) -> None:
        """A virtual arm needs no calibration."""

    def configure(self) -> None:
        """A virtual arm has nothing to configure."""

    @check_if_not_connected
    def get_observation(self) -> dict[str, Any]:
        """Where each joint is, and what each camera sees now; depth as `<camera>_depth`, in mm."""
        pictures: dict[str, Picture | Depth] = {}
        for name, camera in self.cameras.items():
            pictures[name] = camera.read_latest()
            if camera.use_depth:
                pictures[f"{name}_depth"] = camera.read_latest_depth()
        return {**self._arm.positions, **pictures}

    @check_if_not_connected
    def send_action(self, action: dict[str, float]) -> dict[str, float]:
        """Move towards `action`; returns what was really done, within `max_relative_target`."""
        return self._arm.command({name: float(value) for name, value in action.items()})

    @check_if_not_connected
    def disconnect(self) -> None:
        """Disconnect the cameras, too."""
        for camera in self.cameras.values():
            camera.disconnect()
        self._connected = False


class VirtualSO101Leader(Teleoperator):
    """The virtual leader arm: the same motion from each `connect` on."""

    config_class = VirtualSO101LeaderConfig
    name = "virtual_so101_leader"

    def __init__(self, config: VirtualSO101LeaderConfig) -> None:
        super().__init__(config)
        self.config = config
        self._started_s: float | None = None

    @property
    def action_features(self) -> dict[str, type]:
        """float of each joint, in the same units."""
        return dict.fromkeys(NAMES, float)

    @property
    def feedback_features(self) -> dict[str, type]:
        """None: it has no motors."""
        return {}

    @property
    def is_connected(self) -> bool:
        """Whether `connect` was called, and `disconnect` not since."""
        return self._started_s is not None

    @check_if_already_connected
    def connect(self, calibrate: bool = True) -> None:
        """Begin the motion again."""
        self._started_s = time.monotonic()

    @property
    def is_calibrated(self) -> bool:
        """Always: a virtual arm needs no calibration."""
        return True

    def calibrate(self) -> None:
        """A virtual arm needs no calibration."""

    def configure(self) -> None:
        """A virtual arm has nothing to configure."""

    @check_if_not_connected
    def get_action(self) -> dict[str, float]:
        """Where the motion is by now, since `connect`."""
        return leader_positions(time.monotonic() - (self._started_s or 0.0))

    def send_feedback(self, feedback: dict[str, Any]) -> None:
        """A virtual leader has no motors to feel feedback with."""

    @check_if_not_connected
    def disconnect(self) -> None:
        """It gives nothing any more until the next `connect`."""
        self._started_s = None
