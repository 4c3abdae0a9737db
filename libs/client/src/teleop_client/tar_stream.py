"""Unpacks a tar archive of the backend while it downloads."""

import asyncio
import queue
import tarfile
from collections.abc import Callable
from typing import BinaryIO, cast

from teleop_client.backend_http import BackendHttp, Interrupted

PIECE_BYTES = 256 * 1024
# 4 MB in memory, so that the network and the disk seldom wait for each other.
PIECES_AHEAD = 16
# The backend writes the archive as it reads its files; a disk that wakes up takes some seconds.
STALL_S = 60.0
# How soon one side notices that the other has made room, has sent something, or has ended.
_ROOM_POLL_S = 0.01
_PIECE_POLL_S = 0.05


async def unpack_from(
    backend: BackendHttp,
    address: str,
    unpack: Callable[[tarfile.TarFile], None],
    advance: Callable[[int, int], None],
) -> None:
    """Call `unpack`, in a thread, with the archive at `address`.

    advance  called with the bytes received so far, and those of the whole answer (0: not known)

    Raises Refused, Interrupted (also if the answer is not an archive), and at once whatever `unpack` raises.
    """
    pipe = _Pipe()
    unpacking = asyncio.create_task(asyncio.to_thread(read_archive, cast(BinaryIO, pipe), unpack))
    try:
        async with backend.request("GET", address) as (response, deadline):
            total_bytes = response.content_length or 0
            async for piece in response.content.iter_chunked(PIECE_BYTES):
                deadline.reschedule(asyncio.get_running_loop().time() + STALL_S)
                while not pipe.offer(piece):
                    if unpacking.done():
                        break
                    await asyncio.sleep(_ROOM_POLL_S)
                if unpacking.done():  # it failed, or has all that it wants: the rest need not arrive
                    break
                advance(len(piece), total_bytes)
        pipe.end()
    except BaseException:
        pipe.break_off()
        await asyncio.gather(unpacking, return_exceptions=True)
        raise
    await unpacking


def read_archive(stream: BinaryIO, unpack: Callable[[tarfile.TarFile], None]) -> None:
    """Call `unpack` with the archive in the stream, to be read once; raises Interrupted if it is cut off."""
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            unpack(archive)
    except tarfile.TarError as error:
        raise Interrupted(f"the archive was cut off: {error}") from error


class _Pipe:
    """Passes bytes from the event loop to a thread that reads them as a file."""

    def __init__(self) -> None:
        self._pieces: queue.Queue[bytes] = queue.Queue(PIECES_AHEAD)
        self._rest = b""
        self._broken = False
        self._ended = False

    def offer(self, piece: bytes) -> bool:
        """Queue the piece; returns whether there was space for it."""
        try:
            self._pieces.put_nowait(piece)
        except queue.Full:
            return False
        return True

    def end(self) -> None:
        self._ended = True

    def break_off(self) -> None:
        self._broken = True

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end."""
        while not self._rest:
            if self._broken:
                raise tarfile.ReadError("interrupted")
            try:
                self._rest = self._pieces.get(timeout=_PIECE_POLL_S)
            except queue.Empty:
                if self._ended and self._pieces.empty():
                    return b""
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece
