"""A dataset's files at one moment, held open, so that later reads give what was there then.

A file that is replaced (mp4) stays readable through its descriptor. A file that is appended to (Parquet) is
read up to its size at that moment. Small files that are rewritten in place (info.json) are read at once.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from teleop_client.uploading import ByteSource, FileBytes
from teleop_dataset.folder import FileSeen, TableSeen
from teleop_schema.disk.opening import open_regular

from teleop_sync_agent.errors import LeftChanged

# Files held open at a time; further ones (a dataset of single pictures) are opened when it is their turn.
MAX_HELD_FILES = 256
# Bytes of rewritten files that are kept in memory, for one state of one dataset.
MAX_HELD_BYTES = 32 * 1024 * 1024
# Rewritten in place by LeRobot after every episode.
REWRITTEN = (".json", ".jsonl", "tasks.parquet")
# Largest rewritten file: LeRobot's have some kB, `stats.json` of many features some MB.
MAX_REWRITTEN_BYTES = 8 * 1024 * 1024


class HeldBytes:
    """Bytes in memory."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read_at(self, offset: int, size: int) -> bytes:
        return self._content[offset : offset + size]


class Snapshot:
    """Files of `folder` as they were seen. Use it as a context, which closes them at its end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._contents: dict[str, HeldBytes] = {}
        self._held_bytes = 0

    def __enter__(self) -> "Snapshot":
        return self

    def __exit__(self, *_: object) -> None:
        for path in list(self._files):
            self.close(path)

    def hold(self, files: Iterable[FileSeen]) -> None:
        """Open what may change soon, as far as the limits allow; raises LeftChanged."""
        # First what is rewritten in place: its old bytes are gone with the next episode, while others stay.
        for file in sorted(files, key=lambda file: not file.path.endswith(REWRITTEN)):
            if len(self._files) + len(self._contents) >= MAX_HELD_FILES:
                return
            self.open(file)

    def open(self, file: FileSeen) -> ByteSource:
        """The file's bytes as they were seen; raises LeftChanged if the file has been replaced."""
        if file.path in self._contents:
            return self._contents[file.path]
        if file.path not in self._files:
            try:
                opened = open_regular(self._folder / file.own_path)
            except OSError as error:
                raise LeftChanged(f"{file.path} can't be opened: {error.strerror}") from error
            self._files[file.path] = opened
        opened = self._files[file.path]
        self.check(file)
        if not self._is_worth_holding(file):
            return FileBytes(opened.fileno())
        # Between two checks, so that no half of a rewrite is kept.
        held = HeldBytes(FileBytes(opened.fileno()).read_at(0, file.size_bytes))
        self.check(file)
        self._contents[file.path] = held
        self._held_bytes += file.size_bytes
        self.close(file.path)
        return held

    def check(self, file: FileSeen) -> None:
        """Raise LeftChanged unless the opened file's first bytes are still those that were seen."""
        opened = self._files.get(file.path)
        if opened is None:
            return
        now = os.fstat(opened.fileno())
        if is_appended_to(file):
            # Its beginning stays as it was, so what has been appended since does not matter.
            same = now.st_ino == file.inode and now.st_size >= file.size_bytes
        else:
            same = (now.st_size, now.st_mtime_ns, now.st_ino) == file.state
        if not same:
            raise LeftChanged(f"{file.path} changed while it was read")

    def close(self, path: str) -> None:
        """Close a file."""
        opened = self._files.pop(path, None)
        if opened is not None:
            with suppress(OSError):
                opened.close()

    def _is_worth_holding(self, file: FileSeen) -> bool:
        return (
            file.path.endswith(REWRITTEN)
            and file.size_bytes <= MAX_REWRITTEN_BYTES
            and self._held_bytes + file.size_bytes <= MAX_HELD_BYTES
        )


def is_appended_to(file: FileSeen) -> bool:
    """Whether the file only grows: a Parquet file without a footer."""
    return isinstance(file.content, TableSeen) and file.content.row_groups is None
