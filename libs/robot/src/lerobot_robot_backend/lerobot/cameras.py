"""LeRobot's cameras: which of them gave a picture of an observation, and when it was taken."""

from typing import Any

from teleop_schema.session import Camera

# The arms of LeRobot's bimanual robots, and the prefix of their names in the observation.
_ARMS = {"left_": "left_arm", "right_": "right_arm"}


# The suffix that LeRobot's robots add to a camera's name for its depth.
_DEPTH = "_depth"
# Attributes in which cameras keep their last picture: most cameras; cameras with depth; the depth itself.
_LATEST = ("latest_frame", "latest_color_frame", "latest_depth_frame")


def find_camera(robot: Any, name: str) -> Any:
    """The camera that gives this name of the observation, None if none does."""
    camera = _named_camera(robot, name)
    if camera is None and name.endswith(_DEPTH):
        both = _named_camera(robot, name.removesuffix(_DEPTH))
        camera = both if getattr(both, "use_depth", False) else None
    return camera


def describe_cameras(robot: Any) -> dict[str, Camera]:
    """The session's description of the robot's cameras, by their names in the observation."""
    cameras = {}
    for name, shape in robot.observation_features.items():
        if isinstance(shape, tuple) and len(shape) in (2, 3) and shape[0] and shape[1]:
            fps = getattr(find_camera(robot, name), "fps", None)
            channels = int(shape[2]) if len(shape) == 3 else 1
            cameras[name] = Camera(int(shape[0]), int(shape[1]), float(fps) if fps else None, channels)
    return cameras


def _named_camera(robot: Any, name: str) -> Any:
    for prefix, part in _ARMS.items():
        if name.startswith(prefix):
            cameras = getattr(getattr(robot, part, None), "cameras", None)
            if isinstance(cameras, dict) and (camera := cameras.get(name.removeprefix(prefix))) is not None:
                return camera
    cameras = getattr(robot, "cameras", None)
    return cameras.get(name) if isinstance(cameras, dict) else None


def picture_time(camera: Any, picture: Any, before: float | None) -> float | None:
    """When `picture` was taken, by `time.perf_counter()`; None if the camera does not say.

    before  the camera's `latest_timestamp` when the observation began

    A camera that reads in the background may already have taken its next picture.
    """
    after = camera.latest_timestamp
    if after is None or before is None or after == before:
        return _number(after)
    latest = [frame for each in _LATEST if (frame := getattr(camera, each, None)) is not None]
    gone_on = bool(latest) and not any(frame is picture for frame in latest)
    return _number(before if gone_on else after)


def _number(moment: Any) -> float | None:
    return float(moment) if isinstance(moment, int | float) else None
