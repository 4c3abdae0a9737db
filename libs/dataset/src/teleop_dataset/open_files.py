"""Which processes are writing to given files at this moment."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")
# lsof may hang on a network file system.
LSOF_PATIENCE_S = 5.0
_WRITING = os.O_WRONLY | os.O_RDWR


def writers(files: Iterable[Path]) -> frozenset[int] | None:
    """Ids of the visible processes that have one of the files open for writing.

    None if this machine does not show them. Processes of other users and other containers are not visible.
    """
    paths = [str(path) for path in files]
    if not paths:
        return frozenset()
    if _PROC.joinpath("self", "fd").is_dir():
        return _writers_by_proc(paths)
    lsof = shutil.which("lsof")
    return _writers_by_lsof(lsof, paths) if lsof else None


def _writers_by_proc(paths: list[str]) -> frozenset[int]:
    wanted = set()
    for path in paths:
        try:
            found = os.stat(path)
        except OSError:
            continue
        wanted.add((found.st_dev, found.st_ino))
    endings = tuple({os.path.splitext(path)[1] for path in paths})
    return frozenset(
        int(process)
        for process in os.listdir(_PROC)
        if process.isdecimal() and _writes(process, wanted, endings)
    )


def _writes(process: str, wanted: set[tuple[int, int]], endings: tuple[str, ...]) -> bool:
    folder = f"{_PROC}/{process}/fd"
    try:
        for number in os.listdir(folder):
            # Check the name first, because stat of a pipe or a dead network mount would be slow.
            if os.readlink(f"{folder}/{number}").endswith(endings):
                found = os.stat(f"{folder}/{number}")
                if (found.st_dev, found.st_ino) in wanted and _opened_for_writing(process, number):
                    return True
    except OSError:
        # The process has ended, or belongs to someone else.
        pass
    return False


def _opened_for_writing(process: str, number: str) -> bool:
    described = Path(f"{_PROC}/{process}/fdinfo/{number}").read_text("ascii")
    flags = next(line.split()[1] for line in described.splitlines() if line.startswith("flags:"))
    return bool(int(flags, 8) & _WRITING)


def _writers_by_lsof(lsof: str, paths: list[str]) -> frozenset[int] | None:
    """`lsof -F pa` prints, a line each, `p` and a process, then for its files `a` and r, w or u (both)."""
    try:
        printed = subprocess.run(
            [lsof, "-F", "pa", "--", *paths],
            capture_output=True,
            text=True,
            timeout=LSOF_PATIENCE_S,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = set()
    process = 0
    for line in printed.splitlines():
        if line.startswith("p"):
            process = int(line[1:])
        elif line.startswith("a") and line[1:2] in ("w", "u"):
            found.add(process)
    return frozenset(found)
