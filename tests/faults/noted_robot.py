"""A recording that notes what it has logged, and what its spool has synced.

The notes lie on another disk than the spool, in memory that both processes share.
"""

import argparse
import mmap
import os
import signal
import struct
import time
from pathlib import Path

import lerobot_robot_backend.client as client_module
from lerobot_robot_backend.client import TelemetryClient
from lerobot_robot_backend.spool.record import MAX_RECORD_BYTES
from lerobot_robot_backend.spool.writer import SpoolWriter

RATE_HZ = 60
MAX_FRAMES = 200_000
SMALL_SEGMENT_BYTES = 2 * MAX_RECORD_BYTES
# With it a small segment is full after a third of a second.
LARGE = {"note": "x" * 7_000}
NOBODY = "ws://127.0.0.1:9"
_COUNT = struct.Struct("<q")
_MOMENT = struct.Struct("<d")
_NOTES_BYTES = 2 * _COUNT.size + MAX_FRAMES * _MOMENT.size


class Notes:
    """Shared: how many frames were logged, how many a sync has returned for, and when each was logged."""

    def __init__(self, path: Path) -> None:
        with path.open("a+b") as file:
            file.truncate(_NOTES_BYTES)
            self._map = mmap.mmap(file.fileno(), _NOTES_BYTES)

    @property
    def logged(self) -> int:
        return int(_COUNT.unpack_from(self._map, 0)[0])

    @property
    def synced(self) -> int:
        return int(_COUNT.unpack_from(self._map, _COUNT.size)[0])

    def logged_at_s(self, index: int) -> float:
        """When `log()` returned for that frame, by the monotonic clock."""
        return float(_MOMENT.unpack_from(self._map, 2 * _COUNT.size + index * _MOMENT.size)[0])

    def note_logged(self, index: int) -> None:
        _MOMENT.pack_into(self._map, 2 * _COUNT.size + index * _MOMENT.size, time.monotonic())
        _COUNT.pack_into(self._map, 0, index + 1)

    def note_synced(self, frames: int) -> None:
        _COUNT.pack_into(self._map, _COUNT.size, frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spool", type=Path)
    parser.add_argument("notes", type=Path)
    parser.add_argument("--small", action="store_true", help="segments that are soon full")
    chosen = parser.parse_args()
    notes = Notes(chosen.notes)
    sabotaged = os.environ.get("SABOTAGE") == "no_sync"

    class NotedWriter(SpoolWriter):
        def sync(self) -> bool:
            frames = self.next_index
            synced = True if sabotaged else super().sync()
            notes.note_synced(frames)
            return synced

    options = {"segment_bytes": SMALL_SEGMENT_BYTES} if chosen.small else {}
    client_module.SpoolWriter = lambda *arguments: NotedWriter(*arguments, **options)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with TelemetryClient(
        NOBODY, "robot_A", state_names=("a",), action_names=("b",), fps=RATE_HZ, spool_dir=chosen.spool,
        min_free_bytes=0,
    ) as client:  # fmt: skip
        print(client.stream_dir, flush=True)
        begun_s = time.monotonic()
        try:
            while True:
                number = float(client.logged)
                extra = LARGE if chosen.small else None
                notes.note_logged(client.log({"a": number}, {"b": number}, extra=extra))
                time.sleep(max(0.0, begun_s + client.logged / RATE_HZ - time.monotonic()))
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
