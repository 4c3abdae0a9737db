"""The process of a PostgreSQL server, as this machine knows it, and where that server can be reached."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from teleop_backend.postgres.programs import PostgresFailed

DATABASE = "teleop"
DEFAULT_PORT = 5432
# It writes everything to disk first. One that takes longer is left to itself: killed, it would only have to
# recover at its next start.
STOP_TIMEOUT_S = 30.0
# How soon an end is noticed.
POLL_S = 0.02


@dataclass(frozen=True)
class RunningServer:
    """Where a server can be reached.

    sockets  folder of its socket
    address  that it listens on, "" if it has only the socket
    """

    sockets: str
    address: str
    port: int

    def socket_url(self, role: str, database: str = DATABASE) -> str:
        """Its `postgresql://` address by the socket."""
        port = "" if self.port == DEFAULT_PORT else f"&port={self.port}"
        return f"postgresql://{role}@/{database}?host={quote(self.sockets, safe='')}{port}"


def exists(pid: int) -> bool:
    """Whether a process has this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # It belongs to another account.
        pass
    return True


def identity_of(pid: int) -> str:
    """An identity that no other process has, even after a reboot: number, start time, and boot."""
    # The name before it, in brackets, may contain spaces; the start time is field 22 of proc(5).
    started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{pid} {started} {boot}\n"


def wait_gone(pid: int) -> None:
    """Return once the process has ended; raises PostgresFailed if it does not."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while time.monotonic() < deadline:
        if not exists(pid):
            return
        time.sleep(POLL_S)
    raise PostgresFailed(f"PostgreSQL (process {pid}) did not stop within {STOP_TIMEOUT_S:.0f} s")
