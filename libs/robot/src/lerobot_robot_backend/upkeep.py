"""What a session needs beside its loop: room for its next samples, an encoder and shippers that live."""

import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lerobot_robot_backend.children import start_child
from lerobot_robot_backend.spool import SpoolWriter
from lerobot_robot_backend.stream import SHIPPER_LOG, find_streams, read_progress
from lerobot_robot_backend.video_spool import has_unstored_video

if TYPE_CHECKING:
    from lerobot_robot_backend.video_capture import VideoCapture

SAMPLES = "lerobot_robot_backend.shipper"
VIDEO = "lerobot_robot_backend.video_shipper"

_PERIOD_S = 0.5
_RESTART_S = 5.0
_JOIN_S = 2.0


def start_shipper(module: str, target: Path, token: str | None, *options: str) -> "subprocess.Popen[bytes]":
    """Start `python -m module <options> <target>`, a shipper; raises OSError."""
    return start_child(module, [*options, str(target.absolute())], target / SHIPPER_LOG, token=token)


class Upkeep:
    """A thread that looks after one session twice a second; the session's loop never waits for it."""

    def __init__(
        self,
        writer: SpoolWriter,
        spool_dir: Path,
        token: str | None,
        *,
        ship: bool,
        video: "VideoCapture | None" = None,
    ) -> None:
        """Start the thread, and if `ship` the session's shippers, and those for what older sessions left."""
        self._writer = writer
        self._spool_dir = spool_dir
        self._token = token
        self._video = video
        modules = [SAMPLES] if video is None else [SAMPLES, VIDEO]
        self._shippers = [_Shipper(module, writer.stream_dir, token) for module in modules if ship]
        self._stop = threading.Event()
        for shipper in self._shippers:
            shipper.start()
        self._thread = threading.Thread(target=self._run, name="telemetry upkeep", daemon=True)
        self._thread.start()

    @property
    def shipper_pid(self) -> int | None:
        """The shipper of the session's samples, None if it does not run."""
        return self._shippers[0].pid if self._shippers else None

    def stop(self) -> None:
        """End the thread; the shippers go on until everything is on the server."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join(_JOIN_S)
            for shipper in self._shippers:
                if shipper.pid is None:
                    shipper.start()

    def _run(self) -> None:
        if self._shippers:
            self._ship_leftovers()
        while not self._stop.wait(_PERIOD_S):
            if self._writer.wants_next:
                # The disk is full: asked again in the next round.
                with suppress(OSError):
                    self._writer.prepare_next()
            if self._video is not None:
                with suppress(OSError):  # out of processes or memory: tried again later
                    self._video.keep_encoding()
            for shipper in self._shippers:
                shipper.keep_alive()

    def _ship_leftovers(self) -> None:
        others = [path for path in find_streams(self._spool_dir) if path != self._writer.stream_dir]
        if any(not read_progress(path).ended for path in others):
            start_shipper(SAMPLES, self._spool_dir, self._token, "--all")
        if any(has_unstored_video(path) for path in others):
            start_shipper(VIDEO, self._spool_dir, self._token, "--all")


class _Shipper:
    """One of the session's shippers, started again when it was killed."""

    def __init__(self, module: str, stream_dir: Path, token: str | None) -> None:
        self._module = module
        self._stream_dir = stream_dir
        self._token = token
        self._restart_at_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its process, None if it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        self._restart_at_s = time.monotonic() + _RESTART_S
        try:
            self._process = start_shipper(self._module, self._stream_dir, self._token)
        except OSError:
            self._process = None  # out of processes or memory: tried again later

    def keep_alive(self) -> None:
        if self.pid is None and time.monotonic() >= self._restart_at_s:
            self.start()
