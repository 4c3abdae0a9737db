"""Names that come from outside and end up in addresses, paths and tables."""

import re

from teleop_schema.errors import BadInput, BadRobotId

_ROBOT_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_REPO_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}", re.ASCII)


def check_robot_id(robot_id: str) -> str:
    """`robot_id` as it is; raises BadRobotId unless it is 1-64 of [A-Za-z0-9_.-], no leading . or -."""
    if not _ROBOT_ID.fullmatch(robot_id):
        raise BadRobotId(f"robot_id {robot_id!r}: {BadRobotId.__doc__}", field="robot_id", limit=64)
    return robot_id


def check_repo_id(repo_id: str) -> str:
    """Return `repo_id` unchanged; raise BadInput unless it is `user/name` as the Hub takes it."""
    if (
        not _REPO_ID.fullmatch(repo_id)
        or ".." in repo_id
        or "--" in repo_id
        or repo_id.endswith((".git", "."))
    ):
        raise BadInput(
            f"repo_id {repo_id!r} is not of the form user/name",
            field="repo_id",
            hint="letters, digits, _ . - on both sides of one slash, for example my-user/my-new-dataset",
        )
    return repo_id
