"""How much memory a confined process may take: a part of what the machine, or its container, has."""

import contextlib
import os
from pathlib import Path

# Where a container sees its own limit (cgroup version 2, version 1).
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
# Of the memory that there is; the service, the database and other such processes need theirs.
PART = 4
# Enough for 4K: ten pictures, each in several planes and copies.
LEAST_BYTES = 512 * 1024**2


def memory_bytes(limits: tuple[Path, ...] = LIMITS) -> int:
    """What this process's container may take, or where there is none, what the machine has."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in limits:
        # "max" is no number: there is no limit.
        with contextlib.suppress(OSError, ValueError):
            found.append(int(path.read_text()))
    return min(found)


def budget_bytes(most_bytes: int, available_bytes: int) -> int:
    """What one confined process may take beyond what its program needs."""
    return min(most_bytes, max(LEAST_BYTES, available_bytes // PART))
