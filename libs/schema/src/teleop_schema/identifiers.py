"""Names that come from outside and end up in addresses, paths and tables."""

import re
import unicodedata
from typing import Annotated
from urllib.parse import quote, unquote_to_bytes

from msgspec import Meta

from teleop_schema.errors import BadInput, BadRobotId

# The largest number that a row can have: PostgreSQL's bigint.
MAX_ID = 2**63 - 1
_ROBOT_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_REPO_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}", re.ASCII)
_PATH_LENGTH = {"minLength": 1, "maxLength": 1024}


def _whole(pattern: re.Pattern[str]) -> dict[str, str]:
    """JSON Schema of a text that matches as a whole."""
    return {"pattern": f"^{pattern.pattern}$"}


# What descriptions say of such names. The functions below check them: their errors say what is wrong.
RobotId = Annotated[
    str,
    Meta(
        description="Name of the robot",
        examples=["so101_lab"],
        extra_json_schema=_whole(_ROBOT_ID),
    ),
]
RepoId = Annotated[
    str,
    Meta(
        description="Name of a dataset on the Hugging Face Hub, user/name",
        examples=["my-user/my-new-dataset"],
        extra_json_schema=_whole(_REPO_ID),
    ),
]
DatasetName = Annotated[
    str,
    Meta(
        description="Name of the dataset: its path below the folder that is watched, as a rule user/name",
        examples=["my-user/my-dataset"],
        extra_json_schema=_PATH_LENGTH,
    ),
]
FilePath = Annotated[
    str,
    Meta(
        description="Path of the file within the dataset, with slashes; NFC, at most 1024 bytes of UTF-8",
        examples=["meta/info.json"],
        extra_json_schema=_PATH_LENGTH,
    ),
]


def check_robot_id(robot_id: str, *, field: str = "robot_id") -> str:
    """`robot_id` as it is; raises BadRobotId unless it is 1-64 of [A-Za-z0-9_.-], no leading . or -.

    field  name of the field for the error
    """
    if not _ROBOT_ID.fullmatch(robot_id):
        allowed = "1 to 64 of A-Z a-z 0-9 _ . -, not starting with a dot or a dash"
        raise BadRobotId(f"robot_id {robot_id!r} is not {allowed}", field=field, limit=64)
    return robot_id


def check_repo_id(repo_id: str) -> str:
    """Return `repo_id` unchanged; raise BadInput unless it is `user/name` in a form that the Hub accepts."""
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


# Not allowed as the last part of a dataset's name: used by addresses below `/datasets/{robot}/{name}`.
RESERVED_NAMES = frozenset({"versions", "verify", "restore", "repair", "import", "files"})
# Not allowed as the first part of a dataset's name: the folder of the robot's sessions.
SESSIONS_FOLDER = "sessions"
# `organisation/group/dataset`, and some to spare.
MAX_NAME_PARTS = 8
MAX_PATH_PARTS = 32
# Limits of Linux file systems: for a name, and for a path with space for the store's own folders.
MAX_PART_BYTES = 255
MAX_PATH_BYTES = 1024
# Ending of escaped names. A file whose own name has this ending is escaped too.
ESCAPED = ".escaped"
# Endings of a dataset's files; all other files in its folder are stored under an escaped name.
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
        raise BadInput(f"dataset {name!r}: the backend uses this name itself", field="dataset")
    return name


def check_file_path(path: str) -> str:
    """`path` as it is; raises BadInput unless it is relative, plain, ends as FILE_ENDINGS or is escaped."""
    parts = _check_path(path, "path", MAX_PATH_PARTS)
    if is_escaped(path):
        local_path(path)
    elif not parts[-1].lower().endswith(FILE_ENDINGS):
        raise BadInput(
            f"path {path!r}: datasets have no such file",
            field="path",
            hint="one of " + " ".join(FILE_ENDINGS),
        )
    return path


def stored_path(path: str) -> str:
    """The path under which the server keeps a dataset's file: its own, or an escaped one.

    path     relative, as in the folder; bytes that are not UTF-8 in the form of Python's file functions
    returns  a path that `check_file_path` accepts; `local_path` converts it back to `path`
    raises   BadInput if there is no such path
    """
    if not is_escaped(path):
        try:
            return check_file_path(path)
        except BadInput:
            pass
    escaped = "/".join(map(_escape, path.split("/"))) + ESCAPED
    try:
        return check_file_path(escaped)
    except BadInput as error:
        raise BadInput(f"{error.detail} (escaped, as its own name can't be stored)", field="path") from error


def local_path(path: str) -> str:
    """The name, in its folder, of a file that the server keeps under `path`; the reverse of `stored_path`.

    Raises BadInput if `stored_path` never returns this path, or if it would leave the folder.
    """
    if not is_escaped(path):
        return path
    escaped = path.removesuffix(ESCAPED).split("/")
    parts = [unquote_to_bytes(part).decode(errors="surrogateescape") for part in escaped]
    # One file must have only one name: `%41` for `A` would be a second one.
    if list(map(_escape, parts)) != escaped or any(
        part in ("", ".", "..") or "/" in part or "\0" in part for part in parts
    ):
        raise BadInput(
            f"path {path!r}: the part before {ESCAPED} is not an escaped name",
            field="path",
            hint=(
                "write spaces and all bytes other than A-Z a-z 0-9 _ . - ~ as % and two uppercase hex digits"
            ),
        )
    return "/".join(parts)


def is_escaped(path: str) -> bool:
    """Whether a stored path is the escaped one of a file with another name."""
    return path.endswith(ESCAPED)


def _escape(part: str) -> str:
    """One part of a path in ASCII. This must never change:
    `local_path` has to understand everything stored."""
    escaped = quote(part.encode(errors="surrogateescape"), safe=" ")
    if escaped.startswith((" ", ".")) or _DEVICE.fullmatch(escaped):
        escaped = f"%{ord(escaped[0]):02X}{escaped[1:]}"
    if escaped.endswith((".", " ")):
        escaped = f"{escaped[:-1]}%{ord(escaped[-1]):02X}"
    return escaped


def check_camera_key(camera_key: str) -> str:
    """`camera_key` unchanged; raises BadInput unless it can be the name of a folder."""
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
        raise refuse("it is not in Unicode Normalization Form C")
    if _FORBIDDEN.search(path):
        raise refuse("it contains a control character, or one that file names can't hold")
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
            raise refuse("a part is a reserved device name")
    return parts
