"""Processes of this package that a recording starts, and that outlive it and its terminal."""

import os
import subprocess
import sys
from collections.abc import Container, Sequence
from contextlib import suppress
from pathlib import Path

TOKEN_VARIABLE = "LEROBOT_BACKEND_TOKEN"  # noqa: S105

# A child that lives this long works, even on a machine that needs seconds to start it; one that ends earlier,
# twice in a row, will not begin to work by itself.
SHORT_LIFE_S = 20.0
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
    token: str | None = None,
    inherited_fds: Sequence[int] = (),
) -> "subprocess.Popen[bytes]":
    """Start `python -m module <arguments>` in its own session, in the folder of its log.

    It inherits no open device, and no open files except `inherited_fds`. Raises OSError.
    """
    environment = dict(os.environ)
    if token:
        environment[TOKEN_VARIABLE] = token
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=log_file.parent,
            env=environment,
            pass_fds=inherited_fds,
            start_new_session=True,
        )
    finally:
        os.close(log)
    _children[:] = [child, *(other for other in _children if other.poll() is None)]
    return child


class Attempts:
    """Tells a child that was killed once, and is started again, from one that ends at once each time.

    trouble  why it can't be started, for people; None while it works, and after a single failure
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
        self._began_at = 0
        self._judged: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Call it before each start."""
        with suppress(OSError):
            self._began_at = self._log_file.stat().st_size

    def fail(self, why: str) -> None:
        """The child could not be started, or ended at once."""
        self._failures += 1
        if self._failures >= _FAILURES:
            self.trouble = f"the process that {self._what} can't be started: {why}"

    def judge(self, child: "subprocess.Popen[bytes] | None", lived_s: float) -> None:
        """Look at the child, `lived_s` after its start; again and again."""
        if child is None or child is self._judged:
            return
        code = child.poll()
        if code is not None:
            self._judged = child
        if lived_s >= SHORT_LIFE_S or (code is not None and code in self._fine):
            self._failures, self.trouble = 0, None
        elif code is not None:
            self.fail(self._last_words() or f"it ended with {code} and left no word in {self._log_file}")

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
