"""Processes of this package that a recording starts, and that outlive it and its terminal."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from teleop_schema.words import counted

# A child that lives this long has begun to work, even on a machine that needs seconds to start it; one that
# ends earlier, twice in a row, will not begin to work by itself.
SHORT_LIFE_S = 20.0
# One that has ended after a longer life is trusted again once it has lived twice as long, or for this long:
# an end every quarter of an hour is told for most of the session, and one of yesterday is not told forever.
CALM_S = 600.0
# A single end may be anybody's `kill`.
_FAILURES = 2
# The end of a log in which its last line is looked for, and how much of that line people are told.
_LOG_BYTES = 4096
_LINE_CHARACTERS = 300

# They outlive the session, so nobody waits for them; they are only polled.
_children: list["subprocess.Popen[bytes]"] = []


def start_child(
    module: str,
    arguments: Sequence[str],
    log_file: Path,
    *,
    environment: Mapping[str, str] | None = None,
    inherited_fds: Sequence[int] = (),
) -> "subprocess.Popen[bytes]":
    """Start `python -m module <arguments>` in its own session, in the folder of its log.

    It inherits no open device, no open files except `inherited_fds`, and this process's environment with
    the changes in `environment`. Raises OSError.
    """
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Not in the recording's folder, which a person may want to unmount or remove.
            cwd=log_file.parent,
            env={**os.environ, **(environment or {})},
            pass_fds=inherited_fds,
            # Ctrl-C in the terminal, and its end, must not reach it.
            start_new_session=True,
        )
    finally:
        os.close(log)
    # Polled, so that those that have ended do not stay behind as zombies.
    _children[:] = [child, *(other for other in _children if other.poll() is None)]
    return child


class Attempts:
    """Tells a child that was killed once, and is started again, from one that ends each time.

    trouble  what is wrong with it, for people; None while it works, and after a single end
    """

    def __init__(self, what: str, log_file: Path, *, fine: Container[int] = (0,)) -> None:
        """
        what      what the child does, after "the process that "
        log_file  where its last words are
        fine      exit codes with which it ends in order
        """
        self.trouble: str | None = None
        self._what = what
        self._log_file = log_file
        self._fine = fine
        self._failures = 0
        self._deaths = 0
        # From this life on, the child that runs now works.
        self._works_from_s = SHORT_LIFE_S
        self._began_at = 0
        self._judged: subprocess.Popen[bytes] | None = None
        # The thread that starts the child asks, and so does everybody who wants to know the trouble.
        self._judging = threading.Lock()

    def begin(self) -> None:
        """Call it before each start."""
        with suppress(OSError):
            self._began_at = self._log_file.stat().st_size

    def fail(self, why: str) -> None:
        """The child could not be started, or ended at once."""
        self._failures += 1
        self._works_from_s = SHORT_LIFE_S
        if self._failures >= _FAILURES:
            self.trouble = f"the process that {self._what} can't be started: {why}"

    def judge(self, child: "subprocess.Popen[bytes] | None", lived_s: float) -> None:
        """Look at the child, `lived_s` after its start; again and again."""
        with self._judging:
            if child is None or child is self._judged:
                return
            code = child.poll()
            if code is None:
                if lived_s >= self._works_from_s:
                    self._failures, self.trouble = 0, None
                return
            self._judged = child
            if code in self._fine:
                self._failures, self.trouble = 0, None
            elif lived_s < SHORT_LIFE_S:
                self.fail(self._last_words() or f"it ended with {code} and left no word in {self._log_file}")
            else:
                self._die(code, lived_s)

    def _die(self, code: int, lived_s: float) -> None:
        """The child has worked for a while before it ended."""
        self._failures = 0
        self._deaths += 1
        self._works_from_s = max(SHORT_LIFE_S, min(2 * lived_s, CALM_S))
        if self._deaths >= _FAILURES:
            end = signal.Signals(-code).name if code < 0 else code
            self.trouble = (
                f"the process that {self._what} has ended {counted(self._deaths, 'time')}, the last time "
                f"with {end}, {lived_s:.0f} s after its start; it is started again each time: "
                f"{self._last_words() or f'it left no word in {self._log_file}'}"
            )

    def _last_words(self) -> str | None:
        """The last line that the child wrote into its log."""
        try:
            with self._log_file.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(self._began_at, size - _LOG_BYTES))
                lines = file.read().decode("utf-8", "replace").split("\n")
        except OSError:
            return None
        return next((line.strip()[:_LINE_CHARACTERS] for line in reversed(lines) if line.strip()), None)
