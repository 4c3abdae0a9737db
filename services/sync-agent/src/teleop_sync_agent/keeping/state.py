"""The agent's state, in SQLite: the facts of each file when the server took it, and the state of each
dataset.

If it is lost, everything must be read and hashed once more; the server's plans then say what it has. Only the
agent that has locked it writes it; `status`, `pause` and `resume` read it and set its flags.
"""

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from lerobot_robot_backend.spool.locks import FileLock
from msgspec import Struct
from teleop_schema.decoding import DECODE_ERRORS

from teleop_sync_agent.errors import DiskFull, Failed, Taken, not_read, not_written

# Increased when the tables change: an older file is put aside, which costs hashing, never data.
SCHEMA_VERSION = 1
# Waits for another program's lock, a bit at a time, so that other threads can read meanwhile.
BUSY_PATIENCE_S = 60.0
BUSY_TRY_S = 0.2
# SQLite restarts its log after this many pages of 4096 bytes, so that it never needs more than the reserve.
WAL_PAGES = 64
# That log and some rows more.
RESERVE_BYTES = 1024 * 1024
# A file that changed this shortly before it was read may have changed again without a new time.
CLOCK_TICK_NS = 2_000_000_000

SCHEMA = """
CREATE TABLE file (
    folder TEXT NOT NULL, path TEXT NOT NULL, size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    changed_ns INTEGER NOT NULL, inode INTEGER NOT NULL, read_at_ns INTEGER NOT NULL, sha256 TEXT NOT NULL,
    anchored BLOB NOT NULL, stored_at TEXT NOT NULL, known_to_server INTEGER NOT NULL,
    PRIMARY KEY (folder, path)) WITHOUT ROWID;
CREATE TABLE failure (
    folder TEXT NOT NULL, path TEXT NOT NULL, error TEXT NOT NULL,
    PRIMARY KEY (folder, path)) WITHOUT ROWID;
CREATE TABLE dataset (folder TEXT PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE agent (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""

FILES = """
SELECT path, size_bytes, mtime_ns, changed_ns, inode, read_at_ns, sha256, anchored, stored_at, known_to_server
  FROM file
"""


class BackedUpFile(Struct, frozen=True, array_like=True):
    """A file's content that the server has given a receipt for.

    changed_ns       last change of its content or name, ns since the Unix epoch
    read_at_ns       when it was read, likewise
    anchored         see `chunking.Digest`
    known_to_server  False once the server has said that it lacks it
    """

    path: str
    size_bytes: int
    mtime_ns: int
    changed_ns: int
    inode: int
    read_at_ns: int
    sha256: str
    anchored: bytes
    stored_at: str
    known_to_server: bool = True

    def is_still(self, size_bytes: int, mtime_ns: int, changed_ns: int, inode: int) -> bool:
        """Whether a file with these facts has the same bytes, as far as the file system shows."""
        same = self.has_stat(size_bytes, mtime_ns, inode) and changed_ns == self.changed_ns
        # Git has the same problem, and the same answer ("racily clean").
        return same and self.read_at_ns - changed_ns > CLOCK_TICK_NS

    def has_stat(self, size_bytes: int, mtime_ns: int, inode: int) -> bool:
        """Whether these are the facts of the file as it was read."""
        return (size_bytes, mtime_ns, inode) == (self.size_bytes, self.mtime_ns, self.inode)


class DatasetRow(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The state of a dataset.

    state           "waiting", "sending", "stored", "failed", "unsupported", "gone", "reclaimed" or "lost"
    verdict         last verdict on its folder: "busy", "commit", "finalised", "dead", …
    saved_episodes  episodes in the version that the server has
    fingerprint     fingerprint of the folder when that version was made, see `folders.fingerprint`
    bytes_done      bytes sent of `bytes_total`, the size of all files of this state that the server lacked
    manifest_sha256 of the version that the server has; "": the server can't be asked whether it still has it
    again           why it is sent again; "": it is not
    kept            why it was not deleted the last time that space was needed; "": it can be deleted
    overtaken_by    number of the newest version under its name, if another computer has stored that
    """

    folder: str
    root: str
    name: str
    state: str = "waiting"
    verdict: str = ""
    reason: str = ""
    error: str | None = None
    total_episodes: int = 0
    total_frames: int = 0
    saved_episodes: int = 0
    finalised: bool = False
    version: int | None = None
    fingerprint: str = ""
    files: int = 0
    size_bytes: int = 0
    bytes_total: int = 0
    bytes_done: int = 0
    bytes_per_s: float = 0.0
    updated_at: float = 0.0
    committed_at: float | None = None
    flags: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    manifest_sha256: str = ""
    again: str = ""
    kept: str = ""
    overtaken_by: int | None = None


class AgentState:
    """The database of one robot's agent; every change is on disk when its method returns.

    Methods wait while another process has it locked, and raise Failed if it can't be used.
    """

    def __init__(self, path: Path, *, hold: bool = False) -> None:
        """Open or create it.

        hold  lock it, as the agent does; a damaged file, or one of another version, is then put aside

        Raises Taken if another agent holds it, AgentError.
        """
        self.path = path
        self._lock = threading.Lock()
        self._holder = FileLock(path.with_name(f"{path.name}.lock")) if hold else None
        self._reserve = path.with_name(f"{path.name}.reserve")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if self._holder and not self._holder.acquire():
                raise Taken(
                    f"another sync-agent is already running for {path.stem} here, with its memory in "
                    f"{path}: let one agent watch all folders (repeat --watch), or give this one "
                    "its own --state-dir"
                )
            self._connection = self._open()
        except OSError as error:
            self._release()
            raise not_written(f"{path.parent}, where the agent keeps its memory,", error) from error
        except sqlite3.Error as error:
            self._release()
            raise self._failure(error) from error

    def _open(self) -> sqlite3.Connection:
        try:
            return self._patiently(self._connect)
        except sqlite3.DatabaseError as error:
            if not self._holder or not _is_damage(error):
                raise
        for suffix in ("", "-wal", "-shm"):
            # Put aside, not removed: a person may want to know what was in it.
            stale = self.path.with_name(self.path.name + suffix)
            if stale.exists():
                os.replace(stale, stale.with_name(f"{stale.name}.put-aside"))
        return self._patiently(self._connect)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TRY_S, isolation_level=None, check_same_thread=False
        )
        try:
            os.chmod(self.path, 0o600)
            # So that `status` reads while the agent writes.
            connection.execute("PRAGMA journal_mode=WAL")
            # Some builds of SQLite have a weaker default, with which a power cut takes the last changes in
            # WAL mode.
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                connection.executescript(f"BEGIN;{SCHEMA}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
            elif version != SCHEMA_VERSION:
                raise sqlite3.DatabaseError(f"it is of version {version}")
            # Only the agent, which can put a damaged file aside; `status` need not read all of it each time.
            elif self._holder:
                _read_all(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _ask(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        def ask() -> list[tuple[Any, ...]]:
            with self._lock:
                return self._connection.execute(statement, values).fetchall()

        try:
            return self._patiently(ask)
        # A mistake of ours, which must not pass for a damaged file.
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.DatabaseError as error:
            raise self._failure(error) from error

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        try:
            yield
        except DECODE_ERRORS as error:
            raise self._failure(sqlite3.DatabaseError(f"a row is none: {error}")) from error

    def _patiently[T](self, work: Callable[[], T]) -> T:
        """The result of `work`; retried while another process has the file locked, and once there is
        space."""
        give_up_s = time.monotonic() + BUSY_PATIENCE_S
        while True:
            try:
                return work()
            except sqlite3.OperationalError as error:
                busy = _code(error) == sqlite3.SQLITE_BUSY and time.monotonic() < give_up_s
                if not busy and not (self._is_full(error) and self._use_reserve()):
                    raise

    def set_room_aside(self) -> None:
        """Reserve some disk space, so that the state can be written while a full disk is being cleared.

        Nothing is reserved if the disk has hardly more than that.
        """
        with suppress(OSError):
            if not self._reserve.exists() and _free_bytes(self.path) > 10 * RESERVE_BYTES:
                self._reserve.write_bytes(bytes(RESERVE_BYTES))

    def _use_reserve(self) -> bool:
        if self._holder:
            with suppress(OSError):
                self._reserve.unlink()
                return True
        return False

    def _is_full(self, error: sqlite3.Error) -> bool:
        code = _code(error)
        # If SQLite can't create or grow a file next to the database,
        # that is reported like any other disk error.
        unclear = code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
        return code == sqlite3.SQLITE_FULL or (unclear and _free_bytes(self.path) < RESERVE_BYTES)

    def _failure(self, error: sqlite3.Error) -> Failed:
        kind = DiskFull if self._is_full(error) else Failed
        remedy = "; an agent moves it aside when it starts" if _is_damage(error) else ""
        return kind(f"the agent's memory {self.path} can't be used: {error}{remedy}")

    def _release(self) -> None:
        if self._holder:
            self._holder.release()

    def close(self) -> None:
        # A call in a thread continues if the function that waits for it is cancelled, and SQLite crashes the
        # process if its connection is closed meanwhile.
        with self._lock:
            self._connection.close()
        self._release()

    def files(self, folder: str) -> dict[str, BackedUpFile]:
        """The files of a dataset that the server has, by path."""
        rows = self._ask(f"{FILES} WHERE folder = ?", (folder,))
        with self._decoding():
            return {row[0]: msgspec.convert(row, BackedUpFile, strict=False) for row in rows}

    def note_stored(self, folder: str, row: BackedUpFile) -> None:
        """The server has given a receipt for this file."""
        values = folder, *msgspec.structs.astuple(row)
        self._ask("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    def doubt(self, folder: str) -> None:
        """The server lacks some of the files that it once took, so all of them must be planned again."""
        self._ask("UPDATE file SET known_to_server = 0 WHERE folder = ?", (folder,))

    def use_server(self, server: str) -> None:
        """For another server (or another address of the same one), ask again for everything
        that the last one had."""
        if self.note("server") != server.encode():
            self._ask("UPDATE file SET known_to_server = 0")
            for row in self.datasets():
                changes: dict[str, object] = {"fingerprint": ""}
                # Files that are not here any more can't be sent,
                # so the other server must be asked for that version.
                if Path(row.folder).exists():
                    changes |= {"version": None, "saved_episodes": 0, "manifest_sha256": "", "size_bytes": 0}
                    if row.state == "stored":
                        changes |= {"state": "waiting", "reason": f"{server} has not been asked for it yet"}
                self.note_dataset(msgspec.structs.replace(row, **changes))
            self.set_note("server", server.encode())

    def note_failure(self, folder: str, path: str, error: str) -> None:
        """Record that the server, or the disk, refuses this file for good."""
        self._ask("INSERT OR REPLACE INTO failure VALUES (?, ?, ?)", (folder, path, error))

    def forget_failures(self, folder: str) -> None:
        """Clear the refusals of a dataset, so that all files are tried again."""
        self._ask("DELETE FROM failure WHERE folder = ?", (folder,))

    def failures(self, folder: str) -> dict[str, str]:
        """Why files of a dataset were refused, by path."""
        rows = self._ask("SELECT path, error FROM failure WHERE folder = ?", (folder,))
        return dict(rows)

    def dataset(self, folder: str) -> DatasetRow | None:
        """The state of a dataset; None if it is not known."""
        rows = self._ask("SELECT row FROM dataset WHERE folder = ?", (folder,))
        with self._decoding():
            return msgspec.json.decode(rows[0][0], type=DatasetRow) if rows else None

    def datasets(self) -> list[DatasetRow]:
        """All datasets, by folder."""
        rows = self._ask("SELECT row FROM dataset ORDER BY folder")
        with self._decoding():
            return [msgspec.json.decode(row, type=DatasetRow) for (row,) in rows]

    def note_dataset(self, row: DatasetRow) -> None:
        """Store the state of a dataset."""
        row = msgspec.structs.replace(row, updated_at=time.time())
        self._ask("INSERT OR REPLACE INTO dataset VALUES (?, ?)", (row.folder, msgspec.json.encode(row)))

    @property
    def paused(self) -> bool:
        """Whether `sync-agent pause` was called, and not `resume` since."""
        return self.note("paused") == b"1"

    @paused.setter
    def paused(self, paused: bool) -> None:
        self.set_note("paused", b"1" if paused else b"0")

    def note(self, name: str) -> bytes | None:
        """The last value stored under `name`."""
        rows = self._ask("SELECT value FROM agent WHERE name = ?", (name,))
        return bytes(rows[0][0]) if rows else None

    def set_note(self, name: str, value: bytes) -> None:
        """Store a value for other processes to read."""
        self._ask("INSERT OR REPLACE INTO agent VALUES (?, ?)", (name, value))


def _read_all(connection: sqlite3.Connection) -> None:
    """Raise DatabaseError unless all of it can be read; opening it reads only its first page."""
    (told,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if told != "ok":
        raise sqlite3.DatabaseError(told)
    try:
        for (row,) in connection.execute("SELECT row FROM dataset"):
            msgspec.json.decode(row, type=DatasetRow)
        for row in connection.execute(FILES):
            msgspec.convert(row, BackedUpFile, strict=False)
    except DECODE_ERRORS as error:
        raise sqlite3.DatabaseError(f"a row is none: {error}") from error


def _code(error: sqlite3.Error) -> int:
    """SQLite's error code without its details; our own errors, and invalid text, mean damage."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)) & 0xFF


def _is_damage(error: sqlite3.Error) -> bool:
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(path.parent).free


def default_state_dir() -> Path:
    """lerobot_backend/sync-agent in $XDG_STATE_HOME or ~/.local/state."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "lerobot_backend" / "sync-agent"


def state_path(state_dir: Path, robot_id: str) -> Path:
    """The file in which the agent of that robot keeps its state."""
    return state_dir / f"{robot_id}.sqlite"


def find_states(state_dir: Path) -> list[str]:
    """Robots for which an agent has run on this machine. Raises AgentError."""
    try:
        names = os.listdir(state_dir)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise not_read(f"{state_dir}, where agents keep their memory,", error) from error
    return sorted(name.removesuffix(".sqlite") for name in names if name.endswith(".sqlite"))
