"""Processes of this package that a recording starts, and that outlive it and its terminal."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TOKEN_VARIABLE = "LEROBOT_BACKEND_TOKEN"  # noqa: S105

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
