"""Syncs logged samples to disk, so that a power loss takes at most the last moment.

This is a thread of the recording process, so it lives exactly as long as there is something to sync; a killed
shipper changes nothing. `fdatasync` releases the interpreter lock while the disk works. `msync` would hold
the lock, and so stop the recording loop.
"""

import logging
import threading
import time
from collections.abc import Callable

# Time from the start of one sync to the start of the next. With the sync itself (a few ms on an idle disk),
# it stays within the 50 ms that a power loss may take.
FLUSH_PERIOD_S = 0.04
# A slower sync is reported, because a power loss may take as much.
SLOW_SYNC_S = 0.1

log = logging.getLogger("lerobot_robot_backend")


class Flusher:
    """A thread that syncs 25 times a second, or as often as a slower disk allows.

    slowest_s  duration of the slowest sync so far, seconds
    trouble    the last error of a sync; reading the segment shows what was lost
    """

    def __init__(self, sync: Callable[[], bool]) -> None:
        """sync  writes everything to disk, and returns whether there was anything; whatever it raises
        becomes `trouble`, and the next sync follows"""
        self.slowest_s = 0.0
        self.trouble: str | None = None
        self._sync = sync
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spool flusher", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Return once the current sync is done; no other follows."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        took_s = 0.0
        while not self._stop.wait(max(0.0, FLUSH_PERIOD_S - took_s)):
            started_s = time.monotonic()
            try:
                synced = self._sync()
            except OSError as error:
                why = error.strerror or error
                # `sync` does not try the same bytes again, which would succeed although they are lost.
                synced, self.trouble = True, f"the disk of the spool returned an error: {why}"
            except Exception as error:
                synced = True
                self._note_defect(error)
            took_s = time.monotonic() - started_s
            if synced:
                self.slowest_s = max(self.slowest_s, took_s)

    def _note_defect(self, error: Exception) -> None:
        """Without memory, or after a defect, later samples must be synced all the same."""
        trouble = f"samples could not be synced to disk: {type(error).__name__}: {error}".rstrip(": ")
        # The same defect comes 25 times a second: one line.
        if trouble != self.trouble:
            self.trouble = trouble
            log.error("the sync of the spool failed, trying again", exc_info=error)
