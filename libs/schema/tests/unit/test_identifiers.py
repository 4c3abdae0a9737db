"""Names that come from outside."""

import pytest
from teleop_schema.errors import BadInput, BadRobotId
from teleop_schema.identifiers import check_repo_id, check_robot_id


@pytest.mark.parametrize("robot_id", ["a", "robot_A", "_x", "7", "so101.left-2", "x" * 64])
def test_robot_id_is_taken(robot_id):
    """1 to 64 letters, digits, underscores, dots and dashes name a robot."""
    assert check_robot_id(robot_id) == robot_id


@pytest.mark.parametrize(
    "robot_id",
    [
        *("", ".", "..", ".a", "-a", "a/b", "../a", "a\\b", "%2e%2e", "a b", "a\0", "a\n", "\x1b[2J"),
        *("x" * 65, "rоbot", "ｒobot", "robot\u202e", "로봇", "'; DROP TABLE robot--"),
    ],
)
def test_robot_id_is_refused(robot_id):
    """Everything else is no name: it would end up in paths, addresses and somebody's terminal."""
    with pytest.raises(BadRobotId) as caught:
        check_robot_id(robot_id)
    assert (caught.value.code, caught.value.field, caught.value.status) == ("bad_robot_id", "robot_id", 422)


@pytest.mark.parametrize("repo_id", ["user/name", "my-user/my_new.dataset"])
def test_repo_id_is_taken(repo_id):
    """`user/name`, as the Hub takes it."""
    assert check_repo_id(repo_id) == repo_id


@pytest.mark.parametrize(
    "repo_id", ["", "name", "a/b/c", "../x", "a/..", "a/b--c", "a/b.git", "a/b.", "/b", "a/ü"]
)
def test_repo_id_is_refused(repo_id):
    """What the Hub would refuse, or a folder could be escaped with, is no repo_id."""
    with pytest.raises(BadInput) as caught:
        check_repo_id(repo_id)
    assert caught.value.field == "repo_id"
