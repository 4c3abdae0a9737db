"""Receipts: `<watched root>/.uploaded/<relative path>.json` says that the server has that file for good.

A receipt is written, durably, only after the server has sent its own. It is removed when its file changes. It
stays when the file is removed, and then says that the server still has it. Datasets themselves are never
changed.
"""

from contextlib import suppress
from pathlib import Path

import msgspec
from lerobot_robot_backend.spool.durable import NOTE_BYTES, make_directory, replace_file
from lerobot_robot_backend.spool.locks import FileLock
from lerobot_robot_backend.spool.stream import UNREADABLE
from msgspec import Struct
from teleop_schema.disk.opening import read_small
from teleop_schema.files import Receipt

from teleop_sync_agent.errors import Taken, not_written

RECEIPTS_FOLDER = ".uploaded"
LOCK_FILE = "sync-agent.lock"
RECLAIMED_FILE = "reclaimed.json"
_SUFFIX = ".json"


class LocalReceipt(Struct, frozen=True, kw_only=True):
    """Content of a receipt.

    path         of the file, relative to the watched root
    mtime_ns     modification time of the file when it was read
    uploaded_at  ISO 8601, UTC: when the server stored it
    receipt      the server's own receipt
    """

    path: str
    size_bytes: int
    sha256: str
    mtime_ns: int
    uploaded_at: str
    server: str
    receipt: Receipt


class Receipts:
    """The receipts of one watched root, locked by one agent at a time."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / RECEIPTS_FOLDER
        self._lock: FileLock | None = None

    def hold(self) -> bool:
        """Lock the root for this process; returns whether it had to be created.

        Raises Taken, or AgentError if it can't be written.
        """
        made = not self._root.exists()
        try:
            make_directory(self._folder, exist_ok=True)
            lock = FileLock(self._folder / LOCK_FILE)
            held = lock.acquire()
        except OSError as error:
            raise not_written(f"{self._folder}, where the agent keeps its receipts,", error) from error
        if not held:
            raise Taken(f"another sync-agent watches {self._root}; stop it first, or watch another folder")
        self._lock = lock
        return made

    def release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def write(self, receipt: LocalReceipt) -> None:
        """Store a receipt; it is on disk when this returns. Raises OSError."""
        _write_durably(self._path(receipt.path), msgspec.json.encode(receipt))

    def note_reclaimed(self, dataset: str, note: Struct) -> None:
        """Store a note on a dataset, in the folder of its receipts. Raises OSError."""
        _write_durably(self._folder / dataset / RECLAIMED_FILE, msgspec.json.encode(note))

    def forget_reclaimed(self, dataset: str) -> None:
        """Remove the note on a dataset. Raises OSError."""
        (self._folder / dataset / RECLAIMED_FILE).unlink(missing_ok=True)

    def is_reclaimed(self, dataset: str) -> bool:
        """Whether there is a note on a dataset."""
        return (self._folder / dataset / RECLAIMED_FILE).exists()

    def read(self, path: str) -> LocalReceipt | None:
        """The receipt of a file; None if there is no readable one."""
        try:
            return msgspec.json.decode(read_small(self._path(path), NOTE_BYTES), type=LocalReceipt)
        except UNREADABLE:
            return None

    def remove(self, path: str) -> None:
        """Remove the receipt of a file that has changed."""
        with suppress(OSError):
            self._path(path).unlink()

    def _path(self, path: str) -> Path:
        return self._folder / (path + _SUFFIX)


def _write_durably(path: Path, content: bytes) -> None:
    make_directory(path.parent, exist_ok=True)
    replace_file(path, content, durable=True)
