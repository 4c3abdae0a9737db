"""Takes care of a session outside its loop: space for the next samples, a running encoder and shippers."""

import logging
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from teleop_client.credentials import Tokens
from teleop_schema.decoding import prepare_types

from lerobot_robot_backend.children import Attempts, start_child
from lerobot_robot_backend.shipping.commands import EXIT_LOCKED
from lerobot_robot_backend.spool.erased import describe_erased, read_erased
from lerobot_robot_backend.spool.flusher import SLOW_SYNC_S, Flusher
from lerobot_robot_backend.spool.stream import (
    SHIPPER_LOG,
    WriterState,
    WriterStateFile,
    describe_removed,
    find_streams,
    read_progress,
    read_video_trouble,
)
from lerobot_robot_backend.spool.writer import SpoolWriter
from lerobot_robot_backend.video.files import holds_video, how_far
from lerobot_robot_backend.waiting import Waiting

if TYPE_CHECKING:
    from lerobot_robot_backend.video.capture import VideoCapture

SAMPLES = "lerobot_robot_backend.shipper"
VIDEO = "lerobot_robot_backend.video_shipper"

# How long a dead child goes unnoticed; its work waits on the disk meanwhile.
_PERIOD_S = 0.5
# A child that ends at once and is started again must not take the processor from the loop.
_RESTART_S = 5.0
# Everything was sent, or another process is sending it, because a person started one.
_FINE = (0, EXIT_LOCKED)
# How often other programs learn how many frames there are.
_COUNT_S = 5.0
# How often to look at what the shippers have noted. A person is told in tens of seconds.
_SERVER_S = 2.0
# The end of the program waits no longer: nothing is lost with a thread that only supervises processes.
_JOIN_S = 2.0

log = logging.getLogger("lerobot_robot_backend")


def start_shipper(module: str, target: Path, tokens: Tokens, *options: str) -> "subprocess.Popen[bytes]":
    """Start `python -m module <options> <target>`, a shipper; raises OSError."""
    arguments = [*options, str(target.absolute())]
    return start_child(module, arguments, target / SHIPPER_LOG, environment=tokens.for_child())


class Upkeep:
    """A thread that takes care of one session twice a second; the session's loop never waits for it."""

    def __init__(
        self,
        writer: SpoolWriter,
        spool_dir: Path,
        tokens: Tokens,
        *,
        ship: bool,
        video: "VideoCapture | None" = None,
    ) -> None:
        """Start the thread and, if `ship`, the shippers of this session and of what older sessions left.

        Samples logged after this are synced to disk by themselves.
        """
        self._writer = writer
        self._spool_dir = spool_dir
        self._tokens = tokens
        self._video = video
        modules = [SAMPLES] if video is None else [SAMPLES, VIDEO]
        self._shippers = [_Shipper(module, writer.stream_dir, tokens) for module in modules if ship]
        self._disk = _DiskWatch(writer, lambda: self.trouble)
        self._server = _ServerWatch(writer, lambda: self.trouble)
        self._told: set[str] = set()
        self._stop = threading.Event()
        for shipper in self._shippers:
            shipper.start()
        prepare_types()
        self._thread = threading.Thread(target=self._run, name="telemetry upkeep", daemon=True)
        self._thread.start()

    @property
    def shipper_pid(self) -> int | None:
        """The shipper of the session's samples, None if it does not run."""
        return self._shippers[0].pid if self._shippers else None

    @property
    def trouble(self) -> str | None:
        """Which of the session's processes ends each time, or can't be started, or that the server has erased
        the session; None if all work."""
        why = read_erased(self._writer.stream_dir)
        told = [None if why is None else describe_erased(self._writer.stream_dir, why)]
        told += [shipper.trouble() for shipper in self._shippers]
        if self._video is not None:
            told.append(self._video.trouble)
        return next(filter(None, told), None)

    def commands_for_unsent(self, *, all_samples: bool) -> list[str]:
        """Commands that send what nothing sends now, because its shipper could not be started, or failed.

        all_samples  the server has all samples, so only video can be left
        """
        needed = self._shippers[1:] if all_samples else self._shippers
        return [shipper.command for shipper in needed if shipper.is_down]

    def stop(self) -> None:
        """End the thread; the shippers continue until everything is on the server."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join(_JOIN_S)
            for shipper in self._shippers:
                if shipper.pid is None:
                    shipper.start()

    def _run(self) -> None:
        duties = [self._disk.look_after, self._encode, *(shipper.keep_alive for shipper in self._shippers)]
        if self._shippers:
            self._do(self._ship_leftovers)
            # Without shippers nothing is to arrive, so there is nothing to complain of.
            duties.append(self._server.look)
        while not self._stop.wait(_PERIOD_S):
            for duty in duties:
                self._do(duty)
        self._disk.close()

    def _do(self, duty: Callable[[], None]) -> None:
        """Do one of the duties; if one fails, the others must continue for the rest of the session."""
        try:
            duty()
        except OSError:
            pass  # a full disk, or no more processes, descriptors or memory: tried again next time
        except Exception as error:
            if repr(error) not in self._told:
                self._told.add(repr(error))
                log.error("upkeep of the recording failed, trying again", exc_info=error)

    def _encode(self) -> None:
        if self._video is not None:
            self._video.keep_encoding()

    def _ship_leftovers(self) -> None:
        """Start shippers even if everything is confirmed:
        the server's database may have been restored or lost since."""
        others = [path for path in find_streams(self._spool_dir) if path != self._writer.stream_dir]
        if others:
            start_shipper(SAMPLES, self._spool_dir, self._tokens, "--all")
        if any(_may_hold_video(path) for path in others):
            start_shipper(VIDEO, self._spool_dir, self._tokens, "--all")


def _may_hold_video(stream_dir: Path) -> bool:
    try:
        return holds_video(stream_dir)
    except OSError:
        return True  # its shipper reports why this can't be read


class _DiskWatch:
    """Has samples synced, allocates space for the next ones, and reports what is wrong with the disk.

    It reports on the robot's terminal, and in the stream's folder for other programs.
    """

    def __init__(self, writer: SpoolWriter, others: Callable[[], str | None]) -> None:
        """others  the trouble with anything else, which is reported if there is none with the disk"""
        self._writer = writer
        self._others = others
        self._was_disk = False
        self._flusher = Flusher(writer.sync)
        self._flusher.start()
        self._told = WriterState()
        self._count_at_s = 0.0
        self._no_room: str | None = None
        self._file: WriterStateFile | None = None
        with suppress(OSError):  # the disk is full at this moment; the terminal still shows it
            self._file = WriterStateFile(writer.stream_dir)

    def look_after(self) -> None:
        """Allocate the next segment if it is time, and report what is new."""
        self._no_room = None
        with suppress(OSError):  # a broken disk: its syncs fail
            self._writer.look_for_files()
        if self._writer.wants_next and not self._writer.removed:
            try:
                self._writer.prepare_next()
            except OSError as error:  # tried again in the next round
                self._no_room = f"the spool can't grow: {error.strerror}"
        self._tell()

    def close(self) -> None:
        """End the syncs, and report for the last time."""
        self._flusher.stop()
        self._tell()
        if self._file is not None:
            self._file.close()

    def _tell(self) -> None:
        before = self._told
        of_disk, slowest_ms = self._trouble(), round(1e3 * self._flusher.slowest_s, 1)
        trouble = of_disk or self._others()
        self._told = WriterState(trouble=trouble, slowest_sync_ms=slowest_ms, logged=self._count())
        if self._told == before:
            return
        if trouble and trouble != before.trouble:
            log.warning("backend: %s", trouble)
        elif before.trouble and not trouble:
            again = "frames are being kept again" if self._was_disk else "everything is being recorded again"
            log.warning("backend: %s", again)
        self._was_disk = of_disk is not None
        if slowest_ms > max(1e3 * SLOW_SYNC_S, 2 * before.slowest_sync_ms):
            where = self._writer.stream_dir
            log.warning("backend: %s", describe_slow_sync(where, slowest_ms))
        if self._file is not None:
            with suppress(OSError):  # a disk error; the terminal still shows it
                self._file.write(self._told)

    def _count(self) -> int:
        """Frames so far, noted every few seconds and at the end."""
        now_s = time.monotonic()
        if now_s < self._count_at_s and not self._writer.closed:
            return self._told.logged
        self._count_at_s = now_s + _COUNT_S
        return self._writer.next_index

    def _trouble(self) -> str | None:
        if self._writer.removed:
            return describe_removed(self._writer.stream_dir)
        remedy = f"free some space on the disk of {self._writer.stream_dir}"
        if refusal := self._writer.refusal:
            return f"{refusal}, so frames are being lost; {remedy}"
        if self._no_room:
            return f"{self._no_room}; frames will be lost soon; {remedy}"
        return self._flusher.trouble


class _ServerWatch:
    """Reports on the robot's terminal that data is only on this PC, and why, and when that is over."""

    def __init__(self, writer: SpoolWriter, of_processes: Callable[[], str | None]) -> None:
        """of_processes  the trouble with the processes that send it"""
        self._writer = writer
        self._of_processes = of_processes
        self._look_at_s = 0.0
        self._frames = Waiting("frame", writer.stream_dir)
        self._segments = Waiting("video segment", writer.stream_dir)

    def look(self) -> None:
        """Read what the shippers have noted, every few seconds."""
        now_s = time.monotonic()
        if now_s < self._look_at_s or self._writer.removed or read_erased(self._writer.stream_dir):
            return
        self._look_at_s = now_s + _SERVER_S
        stream_dir, logged = self._writer.stream_dir, self._writer.next_index
        progress = read_progress(stream_dir)
        why = progress.trouble or self._of_processes() or "the server confirms nothing"
        left = max(logged - progress.next, 0)
        self._say(self._frames.look(now_s, done=progress.next, waiting=left, trouble=why))
        video, why_not = how_far(stream_dir), read_video_trouble(stream_dir)
        self._say(self._segments.look(now_s, done=video.stored, waiting=video.waiting, trouble=why_not))

    def _say(self, line: str | None) -> None:
        if line is not None:
            log.warning("backend: %s", line)


def describe_slow_sync(folder: Path, slowest_ms: float) -> str:
    """Text for people: what a sync that took longer than SLOW_SYNC_S means."""
    return (
        f"the disk of {folder} took {slowest_ms:.0f} ms to sync, and a power loss may lose as "
        f"much of what was logged; put the spool on a disk of its own (LEROBOT_BACKEND_SPOOL)"
    )


class _Shipper:
    """One of the session's shippers, started again if it was killed.

    command  does the same by hand
    """

    def __init__(self, module: str, stream_dir: Path, tokens: Tokens) -> None:
        what = "sends samples" if module == SAMPLES else "sends video"
        self.command = f"python -m {module} {stream_dir}"
        self._attempts = Attempts(what, stream_dir / SHIPPER_LOG, fine=_FINE)
        self._module = module
        self._stream_dir = stream_dir
        self._tokens = tokens
        self._started_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its process, None if it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        self._started_s = time.monotonic()
        self._attempts.begin()
        try:
            self._process = start_shipper(self._module, self._stream_dir, self._tokens)
        except (OSError, MemoryError, subprocess.SubprocessError) as error:
            self._process = None  # out of processes or memory, or without a Python: tried again later
            self._attempts.fail(str(error) or type(error).__name__)

    def keep_alive(self) -> None:
        self.trouble()
        if read_erased(self._stream_dir) is not None:
            return
        if self.pid is None and time.monotonic() >= self._started_s + _RESTART_S:
            self.start()

    def trouble(self) -> str | None:
        """Why it can't be started, or that it ends each time, as far as it has been tried."""
        self._attempts.judge(self._process, time.monotonic() - self._started_s)
        return self._attempts.trouble

    @property
    def is_down(self) -> bool:
        """Whether nothing sends what it should send."""
        process = self._process
        return process is None or (process.poll() is not None and process.returncode not in _FINE)
