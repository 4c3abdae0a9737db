"""Names that come from outside and end up in addresses, paths and tables."""

import re
import unicodedata

from teleop_schema.errors import BadInput, BadRobotId

_ROBOT_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_REPO_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}", re.ASCII)


def check_robot_id(robot_id: str, *, field: str = "robot_id") -> str:
    """`robot_id` as it is; raises BadRobotId unless it is 1-64 of [A-Za-z0-9_.-], no leading . or -.

    field  where it was told
    """
    if not _ROBOT_ID.fullmatch(robot_id):
        raise BadRobotId(f"robot_id {robot_id!r}: {BadRobotId.__doc__}", field=field, limit=64)
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


# Last part of a dataset's name: taken by addresses below `/datasets/{robot}/{name}`.
RESERVED_NAMES = frozenset({"versions", "verify", "restore", "repair", "files"})
# First part of a dataset's name: the robot's sessions lie there.
SESSIONS_FOLDER = "sessions"
MAX_NAME_PARTS = 8
MAX_PATH_PARTS = 32
MAX_PART_BYTES = 255
MAX_PATH_BYTES = 1024
# What a dataset consists of; anything else in its folder stays on the robot.
FILE_ENDINGS = (
    ".parquet", ".mp4", ".json", ".jsonl", ".md", ".txt", ".png", ".jpg", ".jpeg",
    ".yaml", ".yml", ".csv", ".safetensors", ".tiff",
)  # fmt: skip
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.ASCII | re.IGNORECASE)
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f\\:*?"<>|\u200e\u200f\u202a-\u202e\u2066-\u2069]')


def check_dataset_name(name: str) -> str:
    """`name` as it is; raises BadInput unless it is 1 to MAX_NAME_PARTS plain parts joined by /."""
    parts = _check_path(name, "dataset", MAX_NAME_PARTS)
    if parts[-1] in RESERVED_NAMES or parts[0] == SESSIONS_FOLDER:
        raise BadInput(f"dataset {name!r}: this name is taken by the backend", field="dataset")
    return name


def check_file_path(path: str) -> str:
    """`path` as it is; raises BadInput unless it is relative, plain, and has one of FILE_ENDINGS."""
    parts = _check_path(path, "path", MAX_PATH_PARTS)
    if not parts[-1].lower().endswith(FILE_ENDINGS):
        raise BadInput(
            f"path {path!r}: datasets have no such files",
            field="path",
            hint="one of " + " ".join(FILE_ENDINGS),
        )
    return path


def check_camera_key(camera_key: str) -> str:
    """`camera_key` as it is; raises BadInput unless it could be the name of a folder."""
    _check_path(camera_key, "camera_key", 1)
    return camera_key


def _check_path(path: str, field: str, max_parts: int) -> list[str]:
    def refuse(why: str, limit: int | None = None) -> BadInput:
        return BadInput(f"{field} {path!r}: {why}", field=field, limit=limit)

    try:
        size_bytes = len(path.encode())
    except UnicodeEncodeError:
        raise refuse("it is not Unicode text") from None
    if size_bytes > MAX_PATH_BYTES:
        raise refuse(f"it has more than {MAX_PATH_BYTES} bytes", MAX_PATH_BYTES)
    if unicodedata.normalize("NFC", path) != path:
        raise refuse("it is not in Unicode's normal form C")
    if _FORBIDDEN.search(path):
        raise refuse("it holds a character that is a control or forbidden in file names")
    parts = path.split("/")
    if len(parts) > max_parts:
        raise refuse(f"it has more than {max_parts} parts", max_parts)
    for part in parts:
        if not part:
            raise refuse("it is empty, absolute, or has an empty part")
        if part.startswith(".") or part.endswith((".", " ")) or part.startswith(" "):
            raise refuse("a part begins with a dot or a space, or ends with one")
        if len(part.encode()) > MAX_PART_BYTES:
            raise refuse(f"a part has more than {MAX_PART_BYTES} bytes", MAX_PART_BYTES)
        if _DEVICE.fullmatch(part):
            raise refuse("a part is the name of a device")
    return parts
