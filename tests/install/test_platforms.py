"""What runs on which machine: Linux is tested, here on x86_64; macOS is not, but nothing is in the way."""

import ast
import re
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[2]
SOURCES = ("libs/*/src", "services/*/src", "deploy/local/src")
# Names of Python's os, resource and time that macOS lacks, or where they do something else.
LINUX_NAMES = {
    *("CLOCK_BOOTTIME", "MFD_CLOEXEC", "O_DIRECT", "O_NOATIME", "O_PATH", "O_TMPFILE", "POSIX_FADV_DONTNEED"),
    *(
        "RLIMIT_AS",
        "copy_file_range",
        "epoll",
        "eventfd",
        "fdatasync",
        "getrandom",
        "getxattr",
        "memfd_create",
    ),
    *("pidfd_open", "posix_fadvise", "posix_fallocate", "prlimit", "sched_getaffinity", "sched_setaffinity"),
    *("sched_setscheduler", "sendfile", "setxattr", "splice", "sync_file_range", "unshare"),
}
LINUX_PATHS = ("/proc", "/sys/", "/dev/shm")
# Where they stand, and what another system does instead.
USED = {
    "deploy/local/src/teleop_backend/postgres/process.py": ({"/proc"}, "notes no identity of its PostgreSQL"),
    "deploy/local/src/teleop_backend/postgres/server.py": (
        {"/proc"},
        "takes a process with the number in PostgreSQL's file for PostgreSQL, and gives it the path itself",
    ),
    "libs/dataset/src/teleop_dataset/folder.py": ({"CLOCK_BOOTTIME"}, "counts with CLOCK_MONOTONIC"),
    "libs/dataset/src/teleop_dataset/open_files.py": ({"/proc"}, "asks lsof who writes to a file"),
    "libs/dataset/src/teleop_dataset/repair/__main__.py": ({"/proc", "RLIMIT_AS"}, "no limit of memory"),
    "libs/robot/src/lerobot_robot_backend/spool/age.py": (
        {"CLOCK_BOOTTIME", "/proc"},
        "counts with CLOCK_MONOTONIC, and knows a computer by its name",
    ),
    "libs/robot/src/lerobot_robot_backend/spool/durable.py": (
        {"fdatasync", "posix_fallocate"},
        "F_FULLFSYNC; segments take their space as they are written",
    ),
    "libs/robot/src/lerobot_robot_backend/video/picture_ring.py": (
        {"MFD_CLOEXEC", "memfd_create", "posix_fallocate"},
        "a file without a name",
    ),
    "libs/runtime/src/teleop_runtime/access/far_end.py": (
        {"/proc"},
        "nobody is told apart, which is said at start",
    ),
    "libs/runtime/src/teleop_runtime/confined/memory.py": ({"/sys/"}, "no container: the machine's memory"),
    "libs/runtime/src/teleop_runtime/confined/paths.py": (
        {"/proc", "O_PATH"},
        "Unconfinable, which the log and /readyz tell",
    ),
    "libs/runtime/src/teleop_runtime/confined/sandbox.py": ({"/proc", "RLIMIT_AS"}, "no limit of memory"),
    "libs/runtime/src/teleop_runtime/confined/syscalls.py": (
        {"pidfd_open", "setxattr", "unshare"},
        "Unconfinable, which the log and /readyz tell",
    ),
    "libs/runtime/src/teleop_runtime/store/durable.py": ({"fdatasync"}, "F_FULLFSYNC"),
    "services/video-ingest-service/src/teleop_video_ingest/files/probe_worker.py": (
        {"RLIMIT_AS"},
        "no limit of memory",
    ),
    "services/export-service/src/teleop_export/making/mp4_writer.py": (
        {"POSIX_FADV_DONTNEED", "posix_fadvise", "sendfile"},
        "reads and writes; the disk begins when it likes",
    ),
}
# What people install, on the machines that it is meant for.
REQUIREMENTS = ("local", "sync-agent", "telemetry-service", "video-ingest-service", "export-service")
MACHINES = [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")]


def of_linux_in(source: str) -> set[str]:
    """Names and paths that only Linux has, but for those that a docstring mentions."""
    tree = ast.parse(source)
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & LINUX_NAMES
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            found |= {node.value} & LINUX_NAMES
            found |= {path for path in LINUX_PATHS if node.value.startswith(path)}
    return found


def test_what_only_linux_has_is_known():
    """A new use needs an answer to what macOS does there."""
    used = {
        str(path.relative_to(REPOSITORY)): found
        for pattern in SOURCES
        for folder in REPOSITORY.glob(pattern)
        for path in folder.rglob("*.py")
        if (found := of_linux_in(path.read_text()))
    }
    assert used == {path: names for path, (names, _) in USED.items()}


@pytest.mark.parametrize(("system", "machine"), MACHINES)
@pytest.mark.parametrize("requirements", REQUIREMENTS)
def test_the_lock_is_one_for_all_machines(requirements, system, machine):
    """Each package of it once there, in one version; `make lock` asks the index for the wheels of each."""
    there = {**default_environment(), "sys_platform": system, "platform_machine": machine}
    text = (REPOSITORY / f"requirements/{requirements}.txt").read_text()
    lines = re.findall(r"^([A-Za-z0-9][^\\\n]*?) \\$", text, re.MULTILINE)
    locked = [Requirement(line) for line in lines]
    names = [each.name for each in locked if each.marker is None or each.marker.evaluate(there)]
    assert len(names) == len(set(names))
    assert {"msgspec", "google-crc32c"} <= set(names)
