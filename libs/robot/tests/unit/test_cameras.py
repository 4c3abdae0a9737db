"""When a picture was taken, and by which of the robot's cameras."""

from types import SimpleNamespace

import pytest
from lerobot_robot_backend.lerobot.cameras import find_camera, picture_time

OLD, NEW = object(), object()


@pytest.mark.parametrize(
    ("before", "after", "latest", "given_picture", "time"),
    [
        (1.0, 1.0, OLD, OLD, 1.0),
        (1.0, 2.0, NEW, NEW, 2.0),
        (1.0, 2.0, NEW, OLD, 1.0),  # the camera went on after the robot had read it
        (None, 2.0, NEW, NEW, 2.0),
        (1.0, 2.0, None, NEW, 2.0),  # a camera that does not show its latest picture
        (None, None, None, NEW, None),
    ],
)
def test_time_is_that_of_the_picture_that_was_given(before, after, latest, given_picture, time):
    """A camera that reads in the background may be one picture ahead of what the robot gave."""
    camera = SimpleNamespace(latest_timestamp=after, latest_frame=latest)
    assert picture_time(camera, given_picture, before) == time


def test_camera_without_a_clock_gives_no_time():
    """What is no number is no time."""
    assert picture_time(SimpleNamespace(latest_timestamp="noon"), NEW, "dawn") is None


def test_cameras_of_both_arms_are_told_apart():
    """Arms of a bimanual robot may have cameras of the same name: the observation's name says whose it is."""
    left, right, top = SimpleNamespace(), SimpleNamespace(), SimpleNamespace()
    robot = SimpleNamespace(
        left_arm=SimpleNamespace(cameras={"wrist": left, "top": top}),
        right_arm=SimpleNamespace(cameras={"wrist": right}),
        cameras={"wrist": right, "top": top},
    )
    assert find_camera(robot, "left_wrist") is left
    assert find_camera(robot, "right_wrist") is right
    assert find_camera(robot, "top") is top
    assert find_camera(robot, "left_elbow.pos") is None
    assert find_camera(SimpleNamespace(), "front") is None


@pytest.mark.parametrize(("given_picture", "time"), [(NEW, 2.0), (OLD, 1.0)])
@pytest.mark.parametrize("kept", ["latest_color_frame", "latest_depth_frame"])
def test_time_of_a_camera_that_gives_depth_too(kept, given_picture, time):
    """It keeps a picture of each; both are of one moment."""
    camera = SimpleNamespace(latest_timestamp=2.0, latest_color_frame=object(), latest_depth_frame=object())
    setattr(camera, kept, NEW)
    assert picture_time(camera, given_picture, 1.0) == time


def test_depth_comes_from_the_camera_of_that_name():
    """LeRobot's robots give it as `<camera>_depth`; a camera that is called so itself goes before."""
    both, colour = SimpleNamespace(use_depth=True), SimpleNamespace(use_depth=False)
    own = SimpleNamespace()
    cameras = {"front": both, "wrist": colour, "top": both, "top_depth": own}
    robot = SimpleNamespace(cameras=cameras, left_arm=SimpleNamespace(cameras={"front": both}))
    assert find_camera(robot, "front_depth") is find_camera(robot, "left_front_depth") is both
    assert find_camera(robot, "wrist_depth") is None
    assert find_camera(robot, "top_depth") is own
