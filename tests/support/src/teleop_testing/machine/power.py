"""What a power cut leaves of a folder, worked out from the calls that were made: no root, no disk of its own.

A file system keeps what was synced, and of the rest whatever it likes. So each cut leaves three worlds, the
corners of all that may be: neither names nor contents are there that were not synced, all names without their
contents, all contents under the old names. Content is synced with its file, a name with its folder.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

WORLDS = ("nothing unsynced", "unsynced names", "unsynced contents")
_CALLS_THAT_NAME = ("rename", "replace", "link", "unlink", "mkdir", "rmdir")
_Names = dict[str, int]


class Disk:
    """A folder, as the file system and as the disk know it.

    calls  what was called, such as "fdatasync frames-000000.seg", in order
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[str] = []
        self.after_each: Callable[[str], None] = lambda _: None
        self._synced_names: dict[int, _Names] = {}
        self._synced_bytes: dict[int, bytes] = {}
        self._folders: set[int] = set()
        self._kept_fds: list[int] = []  # so that no inode's number is given again
        self._known: set[int] = set()
        for folder, _, files in os.walk(root):
            self._sync(Path(folder))
            for name in files:
                self._sync(Path(folder) / name)

    def cut(self, target: Path) -> Iterator[tuple[str, Path]]:
        """Put what a cut now would leave into folders below `target`; yields (which world, its folder)."""
        for world in WORLDS:
            folder = target / world.replace(" ", "-")
            self._restore(self.root, self.root.stat().st_ino, folder, world)
            yield world, folder

    def note(self, call: str, path: Path) -> None:
        """Take in that `call` was made on `path`, below the root or not."""
        if not path.is_relative_to(self.root):
            return
        if call in ("fsync", "fdatasync"):
            self._sync(path)
        self.calls.append(f"{call} {path.name}")
        self.after_each(self.calls[-1])

    def close(self) -> None:
        """Let go of the files that were kept open so that no inode is used twice."""
        for fd in self._kept_fds:
            os.close(fd)

    def _sync(self, path: Path) -> None:
        facts = path.stat()
        self._keep(path, facts.st_ino)
        if stat.S_ISDIR(facts.st_mode):
            self._synced_names[facts.st_ino] = self._names(path)
        else:
            self._synced_bytes[facts.st_ino] = path.read_bytes()

    def _names(self, folder: Path) -> _Names:
        names = {}
        with os.scandir(folder) as entries:
            for entry in entries:
                names[entry.name] = entry.inode()
                self._keep(folder / entry.name, entry.inode())
                if entry.is_dir():
                    self._folders.add(entry.inode())
        return names

    def _keep(self, path: Path, inode: int) -> None:
        if inode not in self._known:
            self._known.add(inode)
            self._kept_fds.append(os.open(path, os.O_PATH | os.O_CLOEXEC))

    def _restore(self, now: Path | None, inode: int, target: Path, world: str) -> None:
        """Make `target` the folder `inode`, which is `now` (None: gone), as it is in that world."""
        target.mkdir(parents=True)
        names = self._synced_names.get(inode, {})
        present = self._present(now)
        if world == "unsynced names":
            names = {name: path.stat().st_ino for name, path in present.items()}
        by_inode = {path.stat().st_ino: path for path in present.values()}
        for name, child in names.items():
            path = by_inode.get(child)
            if child in self._folders or (path is not None and path.is_dir()):
                self._restore(path, child, target / name, world)
            elif world == "unsynced contents" and path is not None:
                (target / name).write_bytes(path.read_bytes())
            else:
                (target / name).write_bytes(self._synced_bytes.get(child, b""))

    def _present(self, folder: Path | None) -> dict[str, Path]:
        return {path.name: path for path in folder.iterdir()} if folder is not None else {}


@contextmanager
def watched_disk(root: Path) -> Iterator[Disk]:
    """Follow what this process syncs and renames below `root`, which is taken as synced at first."""
    disk = Disk(root.resolve())
    with patch.multiple(os, **_followed(disk)):
        try:
            yield disk
        finally:
            disk.close()


def _followed(disk: Disk) -> dict[str, Any]:
    def follow_fd(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(fd: int) -> None:
            real(fd)
            disk.note(name, Path(os.readlink(f"/proc/self/fd/{fd}")))

        return call

    def follow_path(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            answer = real(*arguments, **options)
            where = arguments[1] if name in ("rename", "replace", "link") else arguments[0]
            disk.note(name, Path(os.path.abspath(where)))
            return answer

        return call

    return {name: follow_fd(name, getattr(os, name)) for name in ("fsync", "fdatasync")} | {
        name: follow_path(name, getattr(os, name)) for name in _CALLS_THAT_NAME
    }
