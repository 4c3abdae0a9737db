"""Whether a dataset's folder is still as it was: a walk that keeps nothing but a hash."""

import hashlib
import os
from pathlib import Path

# As deep as `teleop_dataset.folder.look` goes.
MAX_DEPTH = 32


def fingerprint(folder: Path) -> str:
    """The same for as long as the names, sizes, times and inodes in the folder are; "" if it is gone.

    What LeRobot keeps there for a moment (`images/`, `tmp…/`) and hidden things are left out.
    """
    found = hashlib.sha256()
    if not folder.is_dir():
        return ""
    _walk(str(folder), found, 0)
    return found.hexdigest()


def _walk(folder: str, found: "hashlib._Hash", depth: int) -> None:
    try:
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        found.update(repr(error.errno).encode())
        return
    for entry in ordered:
        name = entry.name
        if name.startswith(".") or (depth == 0 and is_temporary(name)):
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                found.update(f"\0{name}/".encode(errors="surrogateescape"))
                if depth < MAX_DEPTH:
                    _walk(entry.path, found, depth + 1)
                found.update(b"\0/")
                continue
            now = entry.stat(follow_symlinks=False)
        except OSError as error:
            found.update(f"\0{error.errno}".encode())
            continue
        facts = f"\0{name}\0{now.st_mode} {now.st_size} {now.st_mtime_ns} {now.st_ctime_ns} {now.st_ino}"
        found.update(facts.encode(errors="surrogateescape"))


def is_temporary(name: str) -> bool:
    """Whether LeRobot removes what has that name in a dataset's folder itself."""
    return name == "images" or name.startswith("tmp")
