"""Opens files in folders that others can write to, where anything may have any name."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """Opens the file for reading; raises OSError if it is something else by now, for example a symbolic link,
    or a FIFO, whose opening would wait for whoever writes into it."""
    return os.fdopen(open_descriptor(path), "rb")


def open_descriptor(path: Path) -> int:
    """The same as a descriptor, which the caller closes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_small(path: Path, most_bytes: int) -> bytes:
    """The content of a file that is known to be small; raises OSError if it has more than `most_bytes`, or is
    something else than a file."""
    with open_regular(path) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"has more than {most_bytes} bytes")
    return content
