"""Disks that are small."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from teleop_testing.waiting import PATIENCE_S


@contextmanager
def disk_of(folder: Path, size_bytes: int) -> Iterator[Path]:
    """A file system in memory, mounted on the new `folder`; skips the test where none can be."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE_S)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True, timeout=PATIENCE_S)
