"""How old something in the spool is, by a clock that nobody can set.

The wall clock of a robot jumps: at its first contact with a time server, by hand, by a flat battery. So an
age is counted in seconds that this computer has been running, suspended or not, and what has been counted is
noted in the spool. While the computer is off, nothing ages: files stay longer than they need, never shorter.

A file's moment is kept as its modification time, in these seconds.
"""

import os
import socket
import threading
import time
from pathlib import Path

import msgspec

NOTE = ".running"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Goes on while the computer sleeps, unlike CLOCK_MONOTONIC; macOS has no other that is not set.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Noted(msgspec.Struct):
    """What was counted when it was last looked.

    boot      which start of which computer
    at_s      what its clock showed, since that start
    total_s   seconds counted by then
    """

    boot: str
    at_s: float
    total_s: float = 0.0


def running_s(spool_dir: Path) -> float:
    """Seconds that computers have been running with this spool, as far as they were noted. Raises OSError."""
    path = spool_dir / NOTE
    boot, at_s = _boot(), time.clock_gettime(_CLOCK)
    try:
        noted = msgspec.json.decode(path.read_bytes(), type=Noted)
    except (FileNotFoundError, msgspec.MsgspecError):
        noted = Noted(boot, at_s)
    # After a start, or on another computer, nobody knows how long it has been.
    passed_s = max(0.0, at_s - noted.at_s) if noted.boot == boot else 0.0
    total_s = noted.total_s + passed_s
    # Several shippers may do so at once; each notes the same.
    made = path.with_name(f"{NOTE}.{os.getpid()}-{threading.get_native_id()}")
    made.write_bytes(msgspec.json.encode(Noted(boot, at_s, total_s)))
    made.replace(path)
    return total_s


def stamp(path: Path, now_s: float) -> None:
    """Let the file's age begin now. Raises OSError."""
    os.utime(path, (now_s, now_s))


def age_s(path: Path, now_s: float) -> float:
    """Seconds since `stamp`; of a file with another time than that its age begins now. Raises OSError."""
    stamped_s = path.stat().st_mtime
    if stamped_s > now_s:
        stamp(path, now_s)
        return 0.0
    return now_s - stamped_s


def _boot() -> str:
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return socket.gethostname()
