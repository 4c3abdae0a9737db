"""Brings what was logged to the disk, so that a power loss takes at most the last moment.

A thread of the recording process, so that it lives exactly as long as there is something to flush: a
killed shipper changes nothing. `fdatasync` lets go of the interpreter's lock while the disk works; `msync`
would hold it, and the recording loop with it.
"""

import threading
import time
from collections.abc import Callable

# From the start of one sync to that of the next: with the sync itself (a few ms on an idle disk) within the
# 50 ms that a power loss may take.
FLUSH_PERIOD_S = 0.04
# A sync that takes longer is told: a power loss may take as much.
SLOW_SYNC_S = 0.1


class Flusher:
    """A thread that syncs 25 times a second; while a sync takes longer, as often as the disk lets it.

    slowest_s  longest that a sync has taken so far, seconds
    trouble    the disk's last error; what it took is found out when the segment is read
    """

    def __init__(self, sync: Callable[[], bool]) -> None:
        """sync  brings everything to the disk; whether there was anything; raises OSError"""
        self.slowest_s = 0.0
        self.trouble: str | None = None
        self._sync = sync
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spool flusher", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Return once the sync under way is done; there is none after it."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        took_s = 0.0
        while not self._stop.wait(max(0.0, FLUSH_PERIOD_S - took_s)):
            started_s = time.monotonic()
            try:
                synced = self._sync()
            except OSError as error:
                synced, self.trouble = True, f"the disk of the spool returned an error: {error.strerror}"
            took_s = time.monotonic() - started_s
            if synced:
                self.slowest_s = max(self.slowest_s, took_s)
