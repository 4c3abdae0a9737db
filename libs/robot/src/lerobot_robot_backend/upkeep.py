"""What a recording session needs beside its loop: room for the next segment, and a living shipper."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from lerobot_robot_backend.spool import SpoolWriter
from lerobot_robot_backend.stream import SHIPPER_LOG, find_streams, read_progress

TOKEN_VARIABLE = "LEROBOT_BACKEND_TOKEN"  # noqa: S105

_PERIOD_S = 0.5
_RESTART_S = 5.0
_JOIN_S = 2.0
# Shippers outlive the session: they are never waited for, only looked at.
_children: list["subprocess.Popen[bytes]"] = []


def start_shipper(target: Path, token: str | None, *options: str) -> "subprocess.Popen[bytes]":
    """Start `python -m lerobot_robot_backend.shipper <options> <target>` in a session of its own.

    It outlives this process and its terminal, and inherits no open device.
    """
    environment = dict(os.environ)
    if token:
        environment[TOKEN_VARIABLE] = token
    log = os.open(target / SHIPPER_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "lerobot_robot_backend.shipper", *options, str(target.absolute())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=target,
            env=environment,
            start_new_session=True,
        )
    finally:
        os.close(log)
    _children.append(child)
    return child


class Upkeep:
    """A thread that looks after one session twice a second; the session's loop never waits for it."""

    def __init__(self, writer: SpoolWriter, spool_dir: Path, token: str | None, *, ship: bool) -> None:
        """Start the thread, and if `ship` the session's shipper, and one for what older sessions left."""
        self._writer = writer
        self._stream_dir = writer.stream_dir
        self._spool_dir = spool_dir
        self._token = token
        self._ship = ship
        self._restart_at_s = 0.0
        self._shipper: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()
        if ship:
            self._start_shipper()
        self._thread = threading.Thread(target=self._run, name="telemetry upkeep", daemon=True)
        self._thread.start()

    @property
    def shipper_pid(self) -> int | None:
        """The session's shipper, None if it does not run."""
        shipper = self._shipper
        return shipper.pid if shipper is not None and shipper.poll() is None else None

    def stop(self) -> None:
        """End the thread; the shipper goes on until everything is on the server."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join(_JOIN_S)
            if self._ship and self.shipper_pid is None:
                self._start_shipper()

    def _run(self) -> None:
        if self._ship and self._has_leftovers():
            start_shipper(self._spool_dir, self._token, "--all")
        while not self._stop.wait(_PERIOD_S):
            if self._writer.wants_next:
                try:
                    self._writer.prepare_next()
                except OSError:
                    continue  # the disk is full: asked again in the next round
            if self._ship and self.shipper_pid is None and time.monotonic() >= self._restart_at_s:
                self._start_shipper()

    def _start_shipper(self) -> None:
        self._restart_at_s = time.monotonic() + _RESTART_S
        try:
            self._shipper = start_shipper(self._stream_dir, self._token)
        except OSError:
            self._shipper = None  # out of processes or memory: tried again later

    def _has_leftovers(self) -> bool:
        return any(
            stream_dir != self._stream_dir and not read_progress(stream_dir).ended
            for stream_dir in find_streams(self._spool_dir)
        )
