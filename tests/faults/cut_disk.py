"""A disk whose power can be cut while it is written: needs root, and XFS and ext4 in the kernel.

The disk is an ext4 file system in a file on XFS. A reflink of that file, which XFS makes of one moment while
writes go on, is what a power cut at that moment leaves: caches in memory are lost. It is no model of disks
that lie about FLUSH, or that lose what they have taken in another order.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from teleop_testing.waiting import PATIENCE_S

FICLONE = 0x40049409
OUTER_BYTES = 4 * 1024**3  # sparse
DISK_BYTES = 1024**3
TOOLS = {"mkfs.xfs": "xfsprogs", "mkfs.ext4": "e2fsprogs", "mount": "mount"}


class CutDisk:
    """A mounted disk of its own; `path` is where it is."""

    def __init__(self, path: Path, image: Path, scratch: Path) -> None:
        self.path = path
        self._image = image
        self._scratch = scratch

    @contextmanager
    def cut(self) -> Iterator[tuple[Path, float]]:
        """What a power cut now leaves, mounted; yields (where, the cut's moment by the monotonic clock)."""
        copy = self._scratch / "cut.img"
        copy.unlink(missing_ok=True)
        with self._image.open("rb") as source, copy.open("wb") as target:
            moment_s = time.monotonic()
            fcntl.ioctl(target.fileno(), FICLONE, source.fileno())
        with _mounted(copy, self._scratch / "left") as left:
            yield left, moment_s


class CannotCut(RuntimeError):
    """No disk can be made here; the message says what to do."""


@contextmanager
def cut_disk() -> Iterator[CutDisk]:
    """A new, empty disk, gone afterwards. Raises CannotCut."""
    if os.geteuid() != 0:
        raise CannotCut("power cuts mount disks of their own: run this as root")
    if missing := [package for tool, package in TOOLS.items() if shutil.which(tool) is None]:
        raise CannotCut(f"power cuts need tools that are not here: apt-get install {' '.join(missing)}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="power-cut-")))
        folder.chmod(0o755)  # PostgreSQL runs as another user
        outer = _make_image(folder / "outer.img", OUTER_BYTES, "mkfs.xfs", "-q", "-m", "reflink=1")
        scratch = stack.enter_context(_mounted(outer, folder / "outer"))
        image = _make_image(scratch / "disk.img", DISK_BYTES, "mkfs.ext4", "-q", "-F")
        path = stack.enter_context(_mounted(image, folder / "disk"))
        yield CutDisk(path, image, scratch)


def _make_image(path: Path, size_bytes: int, *make: str) -> Path:
    with path.open("wb") as file:
        file.truncate(size_bytes)
    subprocess.run([*make, str(path)], check=True, timeout=PATIENCE_S)
    return path


@contextmanager
def _mounted(image: Path, where: Path) -> Iterator[Path]:
    where.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(where)], check=True, timeout=PATIENCE_S)
    try:
        yield where
    finally:
        _unmount(where)


def _unmount(where: Path) -> None:
    """Others (whoever lists all mounts) may hold it for a moment."""
    for _ in range(50):
        if subprocess.run(["umount", str(where)], capture_output=True, timeout=PATIENCE_S).returncode == 0:
            return
        time.sleep(0.2)
    subprocess.run(["umount", str(where)], check=True, timeout=PATIENCE_S)
