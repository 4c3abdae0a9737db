"""Messages with open files to a confined process, which could not open them itself.

A message is its length (4 bytes, big-endian) and its bytes; files come with the length.
"""

import array
import io
import os
import socket
import struct
from collections.abc import Sequence

_LENGTH = struct.Struct(">I")
# A message brings one; what comes beyond these, the kernel closes.
MAX_FILES = 2
# More than the table of ten million pictures.
MAX_MESSAGE_BYTES = 512 * 1024**2


def send(to: socket.socket, message: bytes, files: Sequence[int] = ()) -> None:
    """Raises OSError if the other end is gone."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
    # Files come with some byte; with the length, the reader has them before it reads the rest.
    to.sendmsg([_LENGTH.pack(len(message))], ancillary)
    to.sendall(message)


def receive(origin: socket.socket) -> tuple[bytes, list[int]] | None:
    """The next message, and what came with it; None once the other end has closed."""
    head, files, _, _ = socket.recv_fds(origin, _LENGTH.size, MAX_FILES)
    while head and len(head) < _LENGTH.size:
        if not (more := origin.recv(_LENGTH.size - len(head))):
            return None
        head += more
    if not head:
        return None
    message = _exactly(origin, _LENGTH.unpack(head)[0])
    return None if message is None else (message, files)


def _exactly(origin: socket.socket, size: int) -> bytes | None:
    """The next `size` bytes; None if the other end closed before."""
    if size > MAX_MESSAGE_BYTES:
        raise ConnectionError(f"a message of {size} bytes")
    parts = bytearray(size)
    view = memoryview(parts)
    while view:
        count = origin.recv_into(view)
        if not count:
            return None
        view = view[count:]
    return bytes(parts)


class HandedFile(io.RawIOBase):
    """An open file that was handed over, read from a position of its own.

    Several of the same file do not disturb each other, as two who share a descriptor's own position would.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._at = 0
        self.size_bytes = os.fstat(descriptor).st_size

    def fileno(self) -> int:
        return self._descriptor

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        size = self.size_bytes - self._at if size is None or size < 0 else size
        data = os.pread(self._descriptor, max(0, size), self._at)
        self._at += len(data)
        return data

    def seek(self, offset: int, relative_to: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size_bytes}[relative_to]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at
