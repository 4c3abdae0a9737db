"""Whether a dataset's folder is still as it was: a walk that keeps nothing but a hash."""

import hashlib
import os
from pathlib import Path

from teleop_dataset.folder import is_passed_over
from teleop_schema.identifiers import MAX_PATH_PARTS


def fingerprint(folder: Path) -> str:
    """A hash that changes with the names, sizes, times or inodes in the folder; "" if the folder is gone.

    Looks where `teleop_dataset.folder.look` does.
    """
    found = hashlib.sha256()
    if not folder.is_dir():
        return ""
    _walk(str(folder), "", found, MAX_PATH_PARTS)
    return found.hexdigest()


def _walk(dataset: str, folder: str, found: "hashlib._Hash", depth: int) -> None:
    try:
        with os.scandir(f"{dataset}/{folder}") as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        # A folder that can't be read now looks other than one that can: it is looked at once it can.
        found.update(repr(error.errno).encode())
        return
    for entry in ordered:
        name = entry.name
        path = f"{folder}/{name}" if folder else name
        try:
            if entry.is_dir(follow_symlinks=False):
                if is_passed_over(path):
                    continue
                found.update(f"\0{name}/".encode(errors="surrogateescape"))
                if depth:
                    _walk(dataset, path, found, depth - 1)
                found.update(b"\0/")
                continue
            now = entry.stat(follow_symlinks=False)
        except OSError as error:
            found.update(f"\0{error.errno}".encode())
            continue
        # With ctime and inode: `cp -p` and rsync set the other times as they were.
        facts = f"\0{name}\0{now.st_mode} {now.st_size} {now.st_mtime_ns} {now.st_ctime_ns} {now.st_ino}"
        found.update(facts.encode(errors="surrogateescape"))
