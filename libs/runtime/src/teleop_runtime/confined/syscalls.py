"""A filter of system calls for a process that handles untrusted bytes. Linux on x86-64 and ARM64.

Format: classic BPF over `struct seccomp_data` (linux/seccomp.h): number of the call, architecture, address,
arguments. What is denied fails with EPERM, as if the right to do it were missing, so that libraries say what
they could not do and go on.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

# (x86-64, ARM64) numbers; None: that architecture has no such call.
Numbers = dict[str, tuple[int | None, int | None]]

# Nothing leaves the process but by the descriptors that it has.
_OUTSIDE: Numbers = {
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200),
    "listen": (50, 201), "accept": (43, 202), "accept4": (288, 242),
    "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190),
    # These carry out other calls, which no filter sees.
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
}  # fmt: skip
# No other program, and nothing about other processes.
_PROCESSES: Numbers = {
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kill": (62, 129), "tkill": (200, 130), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438), "unshare": (272, 97), "setns": (308, 268), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "move_mount": (429, 429), "open_tree": (428, 428),
    "fsopen": (430, 430), "mount_setattr": (442, 442),
}  # fmt: skip
# No file by its name: those that it may read are handed to it open.
_NAMES: Numbers = {
    "open": (2, None), "openat": (257, 56), "openat2": (437, 437), "creat": (85, None),
    "open_by_handle_at": (304, 265), "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None),
    "renameat": (264, 38), "renameat2": (316, 276), "link": (86, None), "linkat": (265, 37),
    "symlink": (88, None), "symlinkat": (266, 36), "mkdir": (83, None), "mkdirat": (258, 34),
    "rmdir": (84, None), "mknod": (133, None), "mknodat": (259, 33), "truncate": (76, 45),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
}  # fmt: skip
_CLONE, _CLONE3, _TGKILL, _PRLIMIT = (56, 220), (435, 435), (234, 131), (302, 261)
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
# Calls of x86-64 with addresses of 32 bits have numbers from here on.
_X32 = 0x40000000
_CLONE_THREAD = 0x00010000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_AT_NUMBER, _AT_ARCHITECTURE, _AT_ARGUMENT = 0, 4, 16
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000
_SECCOMP = (317, 277)
_SET_FILTER, _ALL_THREADS = 1, 1
_NO_NEW_PRIVILEGES = 38


class Unconfinable(Exception):
    """The system does not confine processes in this way; the text says why."""


def forbid(*, names: bool) -> None:
    """From now on this process and its threads reach no network, no other process and no program.

    names   nor any file that is not open yet
    raises  Unconfinable
    """
    machine = _ARCHITECTURES.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        raise Unconfinable(f"system calls are not filtered on {sys.platform} {platform.machine()}")
    column, architecture = machine
    program = b"".join(_program(column, architecture, names=names))
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: how many instructions, and where they are.
    what = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise Unconfinable(f"the kernel refuses: {os.strerror(ctypes.get_errno())}")
    if library.syscall(_SECCOMP[column], _SET_FILTER, _ALL_THREADS, ctypes.c_char_p(what)):
        raise Unconfinable(f"the kernel does not filter system calls: {os.strerror(ctypes.get_errno())}")


def _program(column: int, architecture: int, *, names: bool) -> list[bytes]:
    """The filter's instructions."""
    denied = {**_OUTSIDE, **_PROCESSES, **(_NAMES if names else {})}
    numbers = [number for each in denied.values() if (number := each[column]) is not None]
    # Jumps count the instructions between, so what is decided lies at the end, in this order:
    # allow, deny, "there is no such call" (libraries then use an older one), kill.
    checks: list[tuple[int, int, str, str]] = [(_EQUAL, number, "deny", "next") for number in numbers]
    # Its flags are behind a pointer, which no filter can follow: libraries fall back to `clone`.
    checks.append((_EQUAL, _CLONE3[column], "missing", "next"))
    # The same calls under other numbers would pass every check below.
    if column == 0:
        checks.insert(0, (_AT_LEAST, _X32, "deny", "next"))
    # These are allowed for threads, and where they concern this process alone.
    special = [
        (_CLONE[column], _ANY_BIT, _CLONE_THREAD),
        (_TGKILL[column], _EQUAL, os.getpid()),
        (_PRLIMIT[column], _EQUAL, 0),
    ]
    length = 3 + len(checks) + 3 * len(special) + 1
    ends = {"allow": length - 1, "deny": length, "missing": length + 1, "kill": length + 2}
    lines = [_step(_LOAD, 0, 0, _AT_ARCHITECTURE), _jump(_EQUAL, architecture, 1, "next", "kill", ends)]
    lines.append(_step(_LOAD, 0, 0, _AT_NUMBER))
    for test, value, then, otherwise in checks:
        lines.append(_jump(test, value, len(lines), then, otherwise, ends))
    for number, test, value in special:
        lines.append(_step(_EQUAL, 0, 2, number))
        lines.append(_step(_LOAD, 0, 0, _AT_ARGUMENT))
        lines.append(_jump(test, value, len(lines), "allow", "deny", ends))
    lines += [_step(_RETURN, 0, 0, end) for end in (_ALLOW, _FAIL | errno.EPERM, _FAIL | errno.ENOSYS, _KILL)]
    return lines


def _jump(test: int, value: int, at: int, then: str, otherwise: str, ends: dict[str, int]) -> bytes:
    """An instruction at position `at` that goes to one of the `ends`, or to the next one."""
    if_true, if_false = (0 if to == "next" else ends[to] - at - 1 for to in (then, otherwise))
    return _step(test, if_true, if_false, value)


def _step(code: int, if_true: int, if_false: int, value: int) -> bytes:
    """struct sock_filter."""
    return struct.pack("=HBBI", code, if_true, if_false, value)
