"""No real-time priority for tests and what they start.

The AV1 encoder that LeRobot records with, SVT-AV1, takes where root runs it the highest real-time
priority for its threads and for the one that calls it, for good; every process started from there inherits
it, and whatever else is to run on the machine starves.
"""

import ctypes
import os
import sys

# Of the Linux headers linux/capability.h and linux/prctl.h; Python has no names for them.
_CAP_SYS_NICE = 23
_PR_CAPBSET_DROP = 24
_CAPABILITY_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def renounce_real_time() -> None:
    """Take the right to it from this thread and from all that will be started; others never had it."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = _Header(_CAPABILITY_VERSION_3, 0), (_Sets * 2)()
    # The bounding set first: what is executed later gets no more than it holds.
    if libc.prctl(_PR_CAPBSET_DROP, _CAP_SYS_NICE, 0, 0, 0) or libc.capget(ctypes.byref(header), sets):
        raise OSError(ctypes.get_errno(), "the right to real-time priority can't be renounced")
    for name in ("effective", "permitted", "inheritable"):
        setattr(sets[0], name, getattr(sets[0], name) & ~(1 << _CAP_SYS_NICE))
    if libc.capset(ctypes.byref(header), sets):
        raise OSError(ctypes.get_errno(), "the right to real-time priority can't be renounced")
