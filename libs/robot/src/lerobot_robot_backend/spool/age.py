"""How old something in the spool is, by a clock that nobody can set.

The wall clock of a robot jumps: at its first contact with a time server, when somebody sets it, when its
battery is flat. Therefore an age is counted in seconds for which this computer has been running, suspended or
not, and the count is kept in the spool. While the computer is off, nothing ages: files stay longer than they
need to, never shorter.

The moment at which a file's age began is its modification time, in these seconds.
"""

import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgspec
from teleop_schema.decoding import DECODE_ERRORS
from teleop_schema.disk.opening import read_small

from lerobot_robot_backend.spool.durable import FULL, NOTE_BYTES

NOTE = ".running"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Runs while the computer sleeps, unlike CLOCK_MONOTONIC; on macOS it is the only clock that nobody sets.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Noted(msgspec.Struct):
    """The count at the last look.

    boot      identifies one start of one computer
    at_s      seconds on its clock since that start
    total_s   seconds counted until then
    """

    boot: str
    at_s: float
    total_s: float = 0.0


def running_s(spool_dir: Path) -> float:
    """Seconds for which computers have been running with this spool, as far as known. Raises OSError.

    On a full disk the count goes on from the last note, so that what is old can be removed; a restart of the
    computer before the next note makes everything younger, never older.
    """
    path = spool_dir / NOTE
    boot, at_s = _boot(), time.clock_gettime(_CLOCK)
    try:
        noted = msgspec.json.decode(read_small(path, NOTE_BYTES), type=Noted)
    except (FileNotFoundError, *DECODE_ERRORS):
        noted = Noted(boot, at_s)
    # After a restart, or on another computer, nobody knows how much time has passed.
    passed_s = max(0.0, at_s - noted.at_s) if noted.boot == boot else 0.0
    total_s = noted.total_s + passed_s
    # Several shippers may do this at once; all write the same.
    # A name for each thread, so that no two of them write into one file.
    made = path.with_name(f"{NOTE}.{os.getpid()}-{threading.get_native_id()}")
    try:
        made.write_bytes(msgspec.json.encode(Noted(boot, at_s, total_s)))
        made.replace(path)
    except OSError as error:
        with suppress(OSError):
            made.unlink()
        if error.errno not in FULL:
            raise
    return total_s


def stamp(path: Path, now_s: float) -> None:
    """Let the file's age begin now. Raises OSError."""
    os.utime(path, (now_s, now_s))


def age_s(path: Path, now_s: float) -> float:
    """Seconds since `stamp`; a file that was never stamped is stamped now. Raises OSError."""
    stamped_s = path.stat().st_mtime
    # The wall clock of whoever made the file lies far beyond these seconds, so it was never stamped.
    if stamped_s > now_s:
        stamp(path, now_s)
        return 0.0
    return now_s - stamped_s


def _boot() -> str:
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return socket.gethostname()
