"""Folders in which such processes find what they read, and leave what they make."""

import os
import shutil
import time
from pathlib import Path


def clear(scratch: Path, older_than_s: float) -> None:
    """Create `scratch` if it is missing, and remove what killed processes left there so long ago."""
    scratch.mkdir(parents=True, exist_ok=True)
    for folder in scratch.iterdir():
        if folder.stat().st_mtime < time.time() - older_than_s:
            shutil.rmtree(folder, ignore_errors=True)


def lay(stored: Path, path: Path) -> None:
    """Have a stored file at `path`, too, whose folders are created; copied only to another file system."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(stored, path)
    except OSError:
        shutil.copyfile(stored, path)
