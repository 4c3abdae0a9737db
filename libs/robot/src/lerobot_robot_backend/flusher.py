"""Brings a stream's newest records to the disk, so that a power loss takes at most the last moment.

Done in the shipper's process: `msync` in the recording process would hold the interpreter's lock, and a
flush from another process delays the recording loop no more than the system's own write-back does.
"""

import os
import threading
from contextlib import suppress
from pathlib import Path

from lerobot_robot_backend.segment import find_segments

# With the flush itself (a few ms on an idle disk) below the 50 ms that a power loss may take.
FLUSH_PERIOD_S = 0.04


# Number and modification time (ns) of the newest segment.
Seen = tuple[int, int]


class Flusher:
    """A thread that flushes the stream's newest segment whenever it has changed."""

    def __init__(self, stream_dir: Path) -> None:
        self._stream_dir = stream_dir
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spool flusher", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Flush once more and end."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        seen: Seen | None = None
        changed_before = False
        while True:
            stopping = self._stop.wait(FLUSH_PERIOD_S)
            with suppress(FileNotFoundError):  # removed meanwhile: the shipper finds out by itself
                seen, changed_before = self._flush_changed(seen, changed_before)
            if stopping:
                return

    def _flush_changed(self, seen: Seen | None, changed_before: bool) -> tuple[Seen | None, bool]:
        """Flush what is new since `seen`; returns what is seen now, and whether that was a change."""
        segments = find_segments(self._stream_dir)
        if not segments:
            return seen, False
        number, path = segments.popitem()
        if seen is not None and number != seen[0] and (previous := segments.get(seen[0])):
            _flush(previous)
        # The modification time is that of the first store into a clean page. Two changes within its
        # resolution look like one: so each change is followed by a second flush.
        now = number, path.stat().st_mtime_ns
        if now != seen or changed_before:
            _flush(path)
        return now, now != seen


def _flush(path: Path) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # acknowledged long ago and removed
    try:
        os.fdatasync(fd)
    except OSError:
        pass  # a disk with errors: reading the segment tells which frames it took
    finally:
        os.close(fd)
