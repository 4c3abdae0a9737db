import pytest
from lerobot_robot_virtual.arm import JOINTS, NAMES, REST, VirtualArm, leader_positions


def test_leader_moves_the_same_on_every_run():
    """The leader's position depends on the time since its start alone."""
    assert leader_positions(1.25) == leader_positions(1.25)
    assert leader_positions(0.0) == REST
    assert tuple(leader_positions(2.0)) == NAMES
    assert len(NAMES) == len(JOINTS) == 6


def test_leader_moves_smoothly():
    """Between two samples at 60 Hz no joint jumps; the gripper stays between closed and open."""
    for tick in range(600):
        now, later = leader_positions(tick / 60), leader_positions((tick + 1) / 60)
        assert all(abs(later[name] - now[name]) < 2.5 for name in NAMES)
        assert 0.0 <= now["gripper.pos"] <= 100.0


def test_follower_lags_and_arrives():
    """A follower is on its way after one command, and there after many."""
    arm = VirtualArm()
    goal = REST | {"elbow_flex.pos": REST["elbow_flex.pos"] + 10.0}
    assert arm.command(goal) == goal
    assert REST["elbow_flex.pos"] < arm.positions["elbow_flex.pos"] < goal["elbow_flex.pos"]
    for _ in range(50):
        arm.command(goal)
    assert arm.positions == pytest.approx(goal)


def test_goal_too_far_away_is_clipped():
    """The arm tells the goal that it really took, at most max_relative_target from its position."""
    arm = VirtualArm(max_relative_target=5.0)
    position = arm.positions["shoulder_pan.pos"]
    assert arm.command({"shoulder_pan.pos": position + 90.0}) == {"shoulder_pan.pos": position + 5.0}
    position = arm.positions["shoulder_pan.pos"]
    assert arm.command({"shoulder_pan.pos": position - 90.0}) == {"shoulder_pan.pos": position - 5.0}


def test_unknown_joint_is_named():
    """A joint that the arm lacks is an error that names it."""
    with pytest.raises(ValueError, match=r"tail\.pos"):
        VirtualArm().command({"tail.pos": 1.0})
