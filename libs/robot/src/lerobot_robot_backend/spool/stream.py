"""The folder of one stream, `<spool>/<robot_id>/<stream uuid>/`, and its files.

session.json       what is recorded and where to send it; written once, before the first sample
frames-NNNNNN.seg  the samples, see `segment` and `record`
address            the corrected address, if there is one
acked              how far the server has confirmed, replaced atomically by the shipper
writer.state       the recording process's trouble with its disk, overwritten in place
erased             what the server said when an admin had erased the stream; usually there is none
video.trouble      why video can't be sent at present, written by its shipper; usually there is none
writer.lock        locked by the recording process for as long as it lives
shipper.lock       locked by the process that sends the stream; contains its process number
shipper.log        what the shipper did
"""

import errno
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import UUID, uuid4

import msgspec
from msgspec import Struct
from teleop_client.address import check_backend_url
from teleop_schema.decoding import DECODE_ERRORS
from teleop_schema.disk.opening import read_small
from teleop_schema.messages import Event
from teleop_schema.session import SessionDescription
from teleop_schema.words import counted, size_text

from lerobot_robot_backend.spool.durable import NOTE_BYTES, make_directory, replace_file, sync_directory
from lerobot_robot_backend.spool.erased import read_erased
from lerobot_robot_backend.spool.locks import is_locked
from lerobot_robot_backend.spool.segment import has_records

SESSION_FILE = "session.json"
ADDRESS_FILE = "address"
ACKED_FILE = "acked"
WRITER_LOCK = "writer.lock"
WRITER_STATE = "writer.state"
VIDEO_TROUBLE = "video.trouble"
SHIPPER_LOCK = "shipper.lock"
SHIPPER_LOG = "shipper.log"
# Reason of the gap that the server is told of where records are missing without a word why.
GONE = "the spool has lost the records of these frames"
# More than anybody can guess, and the server keeps only a hash of it.
SECRET_BYTES = 32
# One page, so it is read and written as a whole.
_STATE_BYTES = 4096
# A folder on every mounted disk, which only root may read.
LOST_AND_FOUND = "lost+found"
SHIPPER = "python -m lerobot_robot_backend.shipper"
# Typed as it is, it must not send to whatever listens on this machine.
CORRECTION = f"{SHIPPER} --backend_url ws://SERVER:8000"
# JSON that nests too deeply raises RecursionError.
UNREADABLE = (OSError, *DECODE_ERRORS)

UNDESCRIBED = (
    "is missing, so nobody knows where the samples beside it belong: bring it back from a copy, or move its "
    "folder out of the spool"
)
log = logging.getLogger("lerobot_robot_backend.spool.stream")


class SpoolError(RuntimeError):
    """The spool can't store or read samples; the message says what to do."""


class StreamFile(Struct, frozen=True, kw_only=True):
    """Content of session.json, which only its user may read.

    secret  lets nobody else go on with the stream on the server; None: made by an older release
    """

    stream: UUID
    robot_id: str
    backend_url: str
    session: SessionDescription
    secret: str | None = None

    @classmethod
    def new(cls, robot_id: str, backend_url: str, session: SessionDescription) -> "StreamFile":
        """Of a stream that begins now; raises ValueError for a bad address."""
        return cls(
            stream=uuid4(),
            robot_id=robot_id,
            backend_url=check_backend_url(backend_url),
            session=session,
            secret=secrets.token_urlsafe(SECRET_BYTES),
        )


class StreamProgress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The progress of a stream; the shipper keeps its part in `acked`.

    next             every frame below it is durable on the server
    session_id       the server's number of this session; None before the first `welcome`
    ended            the server has the whole session
    trouble          why nothing can be recorded or sent at present
    slowest_sync_ms  duration of the slowest sync; not in `acked`
    once             every frame below it was durable before the server lost some; 0: it lost none
    logged           about how many frames there are, as the recording process last noted; not in `acked`
    """

    next: int = 0
    session_id: int | None = None
    ended: bool = False
    trouble: str | None = None
    slowest_sync_ms: float = 0.0
    once: int = 0
    logged: int = 0

    def summary(
        self, logged: int, stream_dir: Path, shipper_pid: int | None, *, of_processes: str | None = None
    ) -> str:
        """One or two lines for people: what is safe where, as long as the stream's folder is there.

        logged       number of frames in the stream; the text says how many of them have arrived
        shipper_pid  the process that sends the rest, if there is one
        of_processes the trouble, if it is with a process of the recording
        """
        done = f"{counted(logged, 'frame')} logged, {min(self.next, logged)} acknowledged by the server"
        if self.session_id is not None:
            done += f" (session {self.session_id})"
        if self.ended:
            return f"{done}: complete"
        if self.trouble and self.trouble != of_processes and self.session_id is None:
            # No server has ever answered. The command ends the line, and names the folder.
            keeps = f", and process {shipper_pid} keeps trying" if shipper_pid else ""
            remedy = f"if the address is wrong: {CORRECTION} {stream_dir}"
            return f"{done}: {self.trouble}\nthe rest is safe on this disk{keeps}; {remedy}"
        rest = f"the rest is safe in {stream_dir}"
        rest += f" and is being shipped by process {shipper_pid}" if shipper_pid else ""
        rest += f" (now: {self.trouble})" if self.trouble else ""
        return f"{done}; {rest}"


@dataclass(frozen=True)
class StreamEnd:
    """The stream has `frames` frames; `events` are those after the last one."""

    frames: int
    reason: Literal["closed", "writer_died"]
    events: tuple[Event, ...]


class WriterState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Content of `writer.state`: `trouble` prevents frames from being recorded, or soon will.

    logged  frames so far, every few seconds and at the end
    """

    trouble: str | None = None
    slowest_sync_ms: float = 0.0
    logged: int = 0


def default_spool_dir() -> Path:
    """LEROBOT_BACKEND_SPOOL; default: lerobot_backend/spool in $XDG_STATE_HOME or ~/.local/state.

    Raises SpoolError if that needs a home folder and the user has none.
    """
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    chosen = os.environ.get("LEROBOT_BACKEND_SPOOL") or f"{state}/lerobot_backend/spool"
    try:
        return Path(chosen).expanduser()
    except RuntimeError as error:
        raise SpoolError(
            f"there is no folder {chosen} for samples: {error} Choose one with LEROBOT_BACKEND_SPOOL"
        ) from error


def write_stream(stream_dir: Path, description: StreamFile) -> None:
    """Write session.json, durable on disk; from now on others see the stream."""
    replace_file(stream_dir / SESSION_FILE, msgspec.json.encode(description), durable=True)
    # The names of the stream's and the robot's folder must survive a power loss as well, or nobody finds the
    # stream.
    for folder in (stream_dir.parent, stream_dir.parent.parent):
        sync_directory(folder)


def read_stream(stream_dir: Path) -> StreamFile:
    """The content of session.json, with the stream's current address.

    Raises SpoolError if there is none or it is damaged.
    """
    try:
        stream = msgspec.json.decode(read_small(stream_dir / SESSION_FILE, NOTE_BYTES), type=StreamFile)
    except UNREADABLE as error:
        raise SpoolError(f"{stream_dir / SESSION_FILE} can't be read: {error}") from error
    with suppress(OSError, ValueError):  # the address was never corrected, which is nearly always the case
        corrected = check_backend_url(read_small(stream_dir / ADDRESS_FILE, NOTE_BYTES).decode())
        stream = msgspec.structs.replace(stream, backend_url=corrected)
    return stream


def send_to(stream_dir: Path, backend_url: str) -> None:
    """Set the stream's address from the next connection on, whichever process sends it.
    Raises SpoolError, OSError."""
    backend_url = check_backend_url(backend_url)
    if read_stream(stream_dir).backend_url != backend_url:
        replace_file(stream_dir / ADDRESS_FILE, backend_url.encode(), durable=True)


def read_progress(stream_dir: Path) -> StreamProgress:
    """What has been acknowledged; nothing if the file is missing or damaged, because the server knows
    better."""
    try:
        return msgspec.json.decode(read_small(stream_dir / ACKED_FILE, NOTE_BYTES), type=StreamProgress)
    except UNREADABLE:
        return StreamProgress()


def write_progress(stream_dir: Path, progress: StreamProgress) -> None:
    """Replace `acked`. Not synced, because an older one only costs a question to the server."""
    replace_file(stream_dir / ACKED_FILE, msgspec.json.encode(progress), durable=False)


class WriterStateFile:
    """The file in which the recording process reports its state to others.

    Its space is allocated at the start, so it can be written on a full disk.
    """

    def __init__(self, stream_dir: Path) -> None:
        """Raises OSError."""
        self._fd = os.open(stream_dir / WRITER_STATE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.write(WriterState())

    def write(self, state: WriterState) -> None:
        """Replace its content. Raises OSError."""
        os.pwrite(self._fd, msgspec.json.encode(state)[:_STATE_BYTES].ljust(_STATE_BYTES), 0)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


def read_writer_state(stream_dir: Path) -> WriterState:
    """The last report of the recording process; nothing if it can't be read."""
    try:
        return msgspec.json.decode(read_small(stream_dir / WRITER_STATE, NOTE_BYTES), type=WriterState)
    except UNREADABLE:
        return WriterState()


def read_whole_progress(stream_dir: Path) -> StreamProgress:
    """The last reports of the shippers and the recording process; a living writer's trouble comes first."""
    progress, state = read_progress(stream_dir), read_writer_state(stream_dir)
    # What a dead writer complained of is over: its last words must not hide why nothing can be sent.
    trouble = state.trouble if state.trouble and is_locked(stream_dir / WRITER_LOCK) else progress.trouble
    return msgspec.structs.replace(
        progress,
        trouble=trouble or read_video_trouble(stream_dir),
        slowest_sync_ms=state.slowest_sync_ms,
        logged=state.logged,
    )


def note_video_trouble(stream_dir: Path, trouble: str | None) -> None:
    """Note why the stream's video can't be sent at present, or None: it can."""
    with suppress(OSError):  # a full disk; the shipper's log has it
        if trouble is None:
            (stream_dir / VIDEO_TROUBLE).unlink(missing_ok=True)
        else:
            replace_file(stream_dir / VIDEO_TROUBLE, trouble.encode(), durable=False)


def read_video_trouble(stream_dir: Path) -> str | None:
    """What was noted last."""
    try:
        return read_small(stream_dir / VIDEO_TROUBLE, NOTE_BYTES).decode("utf-8", "replace") or None
    except OSError:
        return None


def has_stream(stream_dir: Path) -> bool:
    """Whether the folder of a stream is there, with its description. Raises OSError of a broken disk."""
    try:
        os.stat(stream_dir / SESSION_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def describe_removed(stream_dir: Path) -> str:
    """Text for people: what it means that a stream is no longer where it was recorded into."""
    return (
        f"the spool was removed or moved: {stream_dir} or its samples are no longer there, and what the "
        f"server has not confirmed may be lost; start a new recording; if it was moved, {SHIPPER} --all "
        f"<its new place> sends what is in it"
    )


def find_streams(spool_dir: Path, refused: Callable[[OSError], None] = lambda _error: None) -> Iterator[Path]:
    """Directories of all streams in the spool, oldest first within a robot.

    refused  called with the error of each folder that can't be read, because it may contain streams,
             and of each stream whose description is missing
    """
    found = []
    for robot_dir in _folders(spool_dir, refused):
        for stream_dir in _folders(robot_dir, refused):
            try:
                found.append((robot_dir, (stream_dir / SESSION_FILE).stat().st_mtime_ns, stream_dir))
            except FileNotFoundError:
                _tell_undescribed(stream_dir, refused)
            except OSError as error:
                refused(error)
    for *_, stream_dir in sorted(found):
        yield stream_dir


def _tell_undescribed(stream_dir: Path, refused: Callable[[OSError], None]) -> None:
    """Whether a stream has samples but no description. It gets that before its first sample,
    so it was lost."""
    try:
        if not has_records(stream_dir) or is_locked(stream_dir / WRITER_LOCK):
            return
    except OSError as error:
        refused(error)
        return
    refused(FileNotFoundError(errno.ENOENT, UNDESCRIBED, str(stream_dir / SESSION_FILE)))


def _folders(folder: Path, refused: Callable[[OSError], None]) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir() and entry.name != LOST_AND_FOUND]
    except FileNotFoundError:
        return []
    except OSError as error:
        refused(error)
        return []


def left_by_server(
    spool_dir: Path, backend_url: str | None = None, *, failed: Callable[[Exception], None]
) -> dict[str, list[Path]]:
    """Streams that no process records any more, grouped by their server; not those erased there.

    backend_url  address to use instead of the recorded ones
    failed       called with the error of each stream or folder that can't be read, which is logged

    Raises SpoolError if there is no spool.
    """

    def tell(error: Exception) -> None:
        log.error("%s", error)
        failed(error)

    if not spool_dir.is_dir():
        raise SpoolError(f"{spool_dir} is not a folder, so there is nothing to ship")
    found: dict[str, list[Path]] = {}
    for stream_dir in find_streams(spool_dir, tell):
        try:
            if not is_locked(stream_dir / WRITER_LOCK) and read_erased(stream_dir) is None:
                url = backend_url or read_stream(stream_dir).backend_url
                found.setdefault(url, []).append(stream_dir)
        except (SpoolError, OSError) as error:
            tell(error)
    return found


def check_spool(spool_dir: Path, robot_id: str, min_free_bytes: int) -> None:
    """Raise SpoolError unless the spool can store a session of that robot; creates the spool
    if it is missing.

    It really writes, because a folder's mode does not show everything (read-only disks, quotas, other users).
    If there is no space for a session, it creates nothing.
    """
    home = spool_dir.absolute() / robot_id
    another = "choose another folder with LEROBOT_BACKEND_SPOOL"
    try:
        existing = next(path for path in (home, *home.parents) if path.exists())
        free_bytes = shutil.disk_usage(existing).free
        if free_bytes >= min_free_bytes:
            make_directory(home, exist_ok=True)
            # Without a name it vanishes by itself, even if this process is killed right here.
            with tempfile.TemporaryFile(dir=home):
                sync_directory(home)
                sync_directory(spool_dir)
    except OSError as error:
        why = "it exists, but is not a folder" if isinstance(error, FileExistsError) else error.strerror
        raise SpoolError(
            f"can't record into {home}: {why}; give the recording user read and write access, or {another}"
        ) from error
    if free_bytes < min_free_bytes:
        raise SpoolError(
            f"only {size_text(free_bytes)} are free on the disk of {spool_dir}, but a session needs at least "
            f"{size_text(min_free_bytes)} to start; free some space, or {another}"
        )
