"""What a process for untrusted files does first, before it has seen any of them."""

import contextlib
import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from teleop_runtime.confined.memory import budget_bytes, memory_bytes
from teleop_runtime.confined.paths import allow_only, programs
from teleop_runtime.confined.syscalls import Unconfinable, forbid

# Uploads and samples have priority.
NICE = 5


@dataclass(frozen=True)
class Bounds:
    """What the process may take.

    memory_bytes  beyond what its program takes; less where the machine has little (memory.PART)
    file_bytes    of any file that it writes
    open_files    at a time
    cpu_s         processor time in all; None: `allow_cpu` says it, piece of work by piece of work
    """

    memory_bytes: int
    file_bytes: int
    open_files: int
    cpu_s: int | None = None


def confine(bounds: Bounds, *, write: Sequence[Path] | None = None, read: Sequence[Path] = ()) -> list[str]:
    """Confine this process for good; all that it imports is imported by now.

    write    folders in which it makes files, as programs for whole datasets do, and `read`: those that it
             reads; by default it opens no file any more, and uses those that are handed to it
    returns  what this system does not do, in words
    """
    missing = _limit_resources(bounds)
    try:
        if write is not None:
            allow_only(read=[*programs(), *read], write=write)
    except Unconfinable as why:
        missing.append(str(why))
    try:
        forbid(names=write is None)
    except Unconfinable as why:
        missing.append(str(why))
    return missing


def allow_cpu(more_s: int) -> None:
    """From now on so much processor time is left; what needs more ends with SIGXCPU."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    # The limit counts from the process's beginning, in whole seconds.
    _limit(resource.RLIMIT_CPU, int(spent.ru_utime + spent.ru_stime) + 1 + more_s, hard=False)


def taken_bytes() -> int | None:
    """Address space that this process has; None where the system does not say."""
    statm = _statm()
    return None if statm is None else int(os.pread(statm, 256, 0).split()[0]) * resource.getpagesize()


@cache
def _statm() -> int | None:
    """Open for good: `confine` asks for it, and after that it could not be opened."""
    with contextlib.suppress(OSError):
        return os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    return None


def _limit_resources(bounds: Bounds) -> list[str]:
    missing = []
    taken = taken_bytes()
    limit = budget_bytes(bounds.memory_bytes, memory_bytes()) + (taken or 0)
    if taken is None or not _limit(resource.RLIMIT_AS, limit):
        missing.append("the memory of a process can't be limited")
    _limit(resource.RLIMIT_NOFILE, bounds.open_files)
    _limit(resource.RLIMIT_FSIZE, bounds.file_bytes)
    # A core dump of a crash would hold what robots sent, and fill the disk.
    _limit(resource.RLIMIT_CORE, 0)
    if bounds.cpu_s is not None:
        _limit(resource.RLIMIT_CPU, bounds.cpu_s)
    # A machine that runs out of memory ends this process first. Only Linux has that.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with contextlib.suppress(OSError):
        os.nice(NICE)
    return missing


def _limit(kind: int, value: int, *, hard: bool = True) -> bool:
    """Set a limit; whether that was possible: not every system knows every limit."""
    try:
        resource.setrlimit(kind, (value, value if hard else resource.getrlimit(kind)[1]))
    except (ValueError, OSError):
        return False
    return True
