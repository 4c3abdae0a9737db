"""The virtual arm as LeRobot finds and drives it."""

import time

import numpy as np
import pytest
from lerobot_robot_virtual.arm import NAMES, REST
from lerobot_robot_virtual.scene import depth_as_picture, read_frame_counter

SIZES = ("width", "height", "fps")
CAMERAS = {"front": {"type": "virtual"}, "wrist": {"type": "virtual", "width": 640, "height": 480}}


@pytest.fixture(scope="module", autouse=True)
def registered(tmp_path_factory):
    """The devices known to LeRobot, whose calibration files go to a folder of the test's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_LEROBOT_HOME", str(tmp_path_factory.mktemp("lerobot")))
        import lerobot_robot_virtual.devices  # noqa: F401

        yield


def make_robot(**fields: object):
    import draccus
    from lerobot.robots import RobotConfig, make_robot_from_config

    return make_robot_from_config(draccus.decode(RobotConfig, {"type": "virtual_so101_follower", **fields}))


def make_leader():
    import draccus
    from lerobot.teleoperators import TeleoperatorConfig, make_teleoperator_from_config

    return make_teleoperator_from_config(draccus.decode(TeleoperatorConfig, {"type": "virtual_so101_leader"}))


def test_lerobot_makes_the_devices_by_their_type():
    """Stock factories find both devices; without cameras only joints are observed."""
    robot, leader = make_robot(id="follower"), make_leader()
    assert robot.name == "virtual_so101_follower"
    assert tuple(robot.observation_features) == tuple(robot.action_features) == NAMES
    assert tuple(leader.action_features) == NAMES


def test_follower_follows_the_leader():
    """A teleoperation step by step: observe, act, and see the arm move."""
    robot, leader = make_robot(), make_leader()
    leader.connect()
    robot.connect()
    assert robot.get_observation() == REST
    for _ in range(20):
        goal = leader.get_action()
        assert robot.send_action(goal) == goal
    assert robot.get_observation() != REST
    robot.disconnect()
    leader.disconnect()
    assert not robot.is_connected
    assert not leader.is_connected


def test_commands_are_clipped_as_configured():
    """send_action returns what was really sent."""
    robot = make_robot(max_relative_target=1.0)
    robot.connect()
    sent = robot.send_action(REST | {"wrist_roll.pos": 50.0})
    assert sent == REST | {"wrist_roll.pos": 1.0}
    robot.disconnect()


def test_cameras_show_which_observation_they_belong_to():
    """Both cameras have their size, and draw the index of the observation into their pictures."""
    robot = make_robot(cameras=CAMERAS)
    assert robot.observation_features["front"] == (240, 320, 3)
    assert robot.observation_features["wrist"] == (480, 640, 3)
    robot.connect()
    for index in range(3):
        observation = robot.get_observation()
        assert [read_frame_counter(observation[name]) for name in CAMERAS] == [index, index]
        robot.send_action(REST)
    assert observation["wrist"].shape == (480, 640, 3)
    assert np.any(observation["front"] != observation["wrist"][::2, ::2])
    assert robot.cameras["front"].latest_timestamp is not None
    robot.disconnect()


def test_free_running_camera_keeps_its_own_rate():
    """Between two pictures each reading gives the same one; the counter counts also those nobody read."""
    robot = make_robot(cameras={"front": {"type": "virtual", "fps": 20, "free_running": True}})
    robot.connect()
    camera = robot.cameras["front"]
    pictures, times = [], []
    while len(pictures) < 3:
        picture = robot.get_observation()["front"]
        if not pictures or picture is not pictures[-1]:
            pictures.append(picture)
            times.append(camera.latest_timestamp)
    steps = [round((taken_s - times[0]) * 20, 6) for taken_s in times]
    first = read_frame_counter(pictures[0])
    assert [read_frame_counter(picture) - first for picture in pictures] == steps
    assert steps == sorted(set(steps))
    assert times[-1] <= time.perf_counter()
    robot.disconnect()


def test_real_camera_is_refused():
    """A virtual arm can't be seen by a real camera; the mistake is named."""
    import lerobot.cameras.opencv  # noqa: F401

    with pytest.raises(ValueError, match="only cameras of type virtual"):
        make_robot(
            cameras={"front": {"type": "opencv", "index_or_path": 0, "width": 1, "height": 1, "fps": 1}}
        )


def test_unconnected_robot_says_so():
    """As with a real robot, nothing can be read before `connect`."""
    from lerobot.utils.errors import DeviceNotConnectedError

    with pytest.raises(DeviceNotConnectedError):
        make_robot().get_observation()


def test_depth_is_of_the_picture_beside_it():
    """As LeRobot's robots give it: another observation, of one channel, in mm, of the same moment."""
    robot = make_robot(
        cameras={"front": {"type": "virtual", "use_depth": True}, "wrist": {"type": "virtual"}}
    )
    assert robot.observation_features["front_depth"] == (240, 320, 1)
    assert "wrist_depth" not in robot.observation_features
    robot.connect()
    for number in range(3):
        observation = robot.get_observation()
        depth = observation["front_depth"]
        assert (depth.shape, depth.dtype) == ((240, 320, 1), np.uint16)
        assert 400 <= depth.min() < 500 < 1500 < depth.max() < 2000
        counters = [read_frame_counter(each) for each in (observation["front"], depth_as_picture(depth))]
        assert counters == [number, number]
    with pytest.raises(RuntimeError, match="use_depth"):
        robot.cameras["wrist"].read_latest_depth()
    robot.disconnect()
