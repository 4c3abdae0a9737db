"""Which files a process may still open: Landlock (Linux 5.13 and later), without any privilege.

Format: linux/landlock.h.
"""

import contextlib
import ctypes
import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

from teleop_runtime.confined.syscalls import Unconfinable

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_ASK_VERSION = 1
_BENEATH = 1
_NO_NEW_PRIVILEGES = 38
_EXECUTE, _WRITE, _READ_FILE, _READ_FOLDER = 1, 2, 4, 8
# All that its first version knows, and what later ones add: to rename and link between folders, to truncate.
_ALL_V1, _ALL_V2, _ALL_V3 = (1 << 13) - 1, (1 << 14) - 1, (1 << 15) - 1
_READ = _EXECUTE | _READ_FILE | _READ_FOLDER
# What is allowed of a file that is not a folder.
_OF_FILES = _EXECUTE | _WRITE | _READ_FILE | 1 << 14


def allow_only(*, read: Sequence[Path], write: Sequence[Path]) -> None:
    """From now on this thread, and those that it starts, open nothing outside of these folders and files.

    raises  Unconfinable
    """
    if sys.platform != "linux":
        raise Unconfinable(f"files are not shut off on {sys.platform}")
    library = ctypes.CDLL(None, use_errno=True)
    version = library.syscall(_CREATE, None, ctypes.c_size_t(0), _ASK_VERSION)
    if version < 1:
        raise Unconfinable(f"the kernel has no Landlock: {os.strerror(ctypes.get_errno())}")
    handled = {1: _ALL_V1, 2: _ALL_V2}.get(version, _ALL_V3)
    rules = library.syscall(_CREATE, struct.pack("=Q", handled), ctypes.c_size_t(8), 0)
    if rules < 0:
        raise Unconfinable(f"the kernel refuses: {os.strerror(ctypes.get_errno())}")
    try:
        for paths, access in ((read, _READ), (write, handled)):
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    _allow(library, rules, path, access & handled)
        # The kernel lets only those restrict themselves who can't gain rights by a program they start.
        library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        if library.syscall(_RESTRICT, rules, 0):
            raise Unconfinable(f"the kernel refuses: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(rules)


def programs() -> list[Path]:
    """Where Python, its packages and the system's libraries are, and what they read about the machine."""
    found = [sys.prefix, sys.base_prefix, *(each for each in sys.path if each)]
    found += ["/usr", "/lib", "/lib64", "/etc", "/proc", "/sys", "/dev/null", "/dev/urandom"]
    return [Path(each) for each in dict.fromkeys(found)]


def _allow(library: ctypes.CDLL, rules: int, path: Path, access: int) -> None:
    # O_PATH: the place alone, which needs no right to read it.
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not path.is_dir():
            access &= _OF_FILES
        if library.syscall(_ADD, rules, _BENEATH, struct.pack("=Qi", access, place), 0):
            raise Unconfinable(f"the kernel refuses {path}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(place)
