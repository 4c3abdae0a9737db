"""Unpacks a tar archive of the backend while it downloads."""

import asyncio
import queue
import tarfile
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import BinaryIO, cast

from teleop_client.backend_http import BackendHttp, Interrupted, Refused
from teleop_client.persevering import persevere

PIECE_BYTES = 256 * 1024
# 4 MB in memory, so that the network and the disk seldom wait for each other.
PIECES_AHEAD = 16
# The backend writes the archive as it reads its files; a disk that wakes up takes some seconds.
STALL_S = 60.0
# How soon one side notices that the other has made room, has sent something, or has ended.
_ROOM_POLL_S = 0.01
_PIECE_POLL_S = 0.05
# A name of MAX_PATH_BYTES, and the time in full.
MAX_EXTENDED_BYTES = 64 * 1024
# What the backend writes: files, folders, and in front of each what its head has no room for. Another kind is
# a link to elsewhere, a device, or a list of any length.
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)
_KINDS = (*_FILES, tarfile.DIRTYPE, tarfile.XHDTYPE)


async def unpack_from(
    backend: BackendHttp,
    address: str,
    unpack: Callable[[tarfile.TarFile], None],
    advance: Callable[[int, int], None],
    report: Callable[[Interrupted], None],
    *,
    most_bytes: int | None = None,
) -> None:
    """Call `unpack`, in a thread, with the archive at `address`.

    A download that is interrupted is continued where it stopped, as long as `report` does not raise.

    advance  called with the size of what has been received, and that of the whole archive, in bytes
    report   called with the reason of each interruption
    most_bytes
             more than the archive can have, as announced before; None: as its own answer says

    Raises Refused, also for an archive that is longer than that, or unlike those of the backend; Interrupted
    if another attempt has to start from the beginning; and at once whatever `unpack` or `report` raises.
    """
    pipe = _Pipe()
    unpacking = asyncio.create_task(asyncio.to_thread(read_archive, cast(BinaryIO, pipe), unpack))
    download = _Download(backend, address)

    async def take(piece: bytes) -> bool:
        """Pass a piece on; False if no further one is wanted: unpacking failed, or has all that it wants."""
        while not pipe.offer(piece):
            if unpacking.done():
                return False
            await asyncio.sleep(_ROOM_POLL_S)
        if download.arrived_bytes > (most_bytes or download.total_bytes):
            raise Refused(f"{backend.url} sends more than it has announced: {address} is not believed")
        advance(len(piece), download.total_bytes)
        return not unpacking.done()

    try:
        # What was unpacked so far belongs to another archive, so all of it has to come again.
        if not await persevere(partial(download.go_on, take), report=report):
            raise Interrupted(f"{backend.url}{address} is another archive than before")
        pipe.end()
    except BaseException:
        # The thread waits for bytes that will not come, and nobody else would end it.
        pipe.break_off()
        await asyncio.gather(unpacking, return_exceptions=True)
        raise
    await unpacking


class _Download:
    """An archive that arrives in one or more requests.

    total_bytes    0: before the first answer
    arrived_bytes  in all requests together
    """

    def __init__(self, backend: BackendHttp, address: str) -> None:
        self.total_bytes = 0
        self._backend = backend
        self._address = address
        self._etag: str | None = None
        self.arrived_bytes = 0

    async def go_on(self, take: Callable[[bytes], Awaitable[bool]]) -> bool:
        """Request what has not arrived; returns True at the end, and False if the server can't continue where
        it stopped: the archive is another one, or an older backend sends it from its beginning only."""
        before = self.arrived_bytes
        if before and self._etag is None:
            return False
        # If-Range: of another archive the server sends all, instead of a part that does not fit.
        headers = {"Range": f"bytes={before}-", "If-Range": self._etag or ""} if before else {}
        try:
            async with self._backend.request("GET", self._address, headers=headers) as (response, deadline):
                if before and response.status != HTTPStatus.PARTIAL_CONTENT:
                    return False
                self._etag = response.headers.get("ETag")
                # Without it nobody could tell a whole archive from one that was cut off.
                if response.content_length is None:
                    raise Refused(f"{self._backend.url} does not say how long {self._address} is")
                self.total_bytes = self.total_bytes or response.content_length
                async for piece in response.content.iter_chunked(PIECE_BYTES):
                    deadline.reschedule(asyncio.get_running_loop().time() + STALL_S)
                    self.arrived_bytes += len(piece)
                    if not await take(piece):
                        break
        except Interrupted as error:
            error.progressed = self.arrived_bytes > before
            raise
        return True


class _Member(tarfile.TarInfo):
    """A member of an archive of the backend. tarfile reads what is in front of one into memory, however long
    that is said to be."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type not in _KINDS:
            raise Refused(f"the archive holds {self.name[:100]!r}, which is neither a file nor a folder")
        if self.type not in _FILES and self.size > MAX_EXTENDED_BYTES:
            raise Refused(f"the archive holds {self.size} bytes about a file")
        member: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return member

    def _refuse_sparse(self, *_about: object) -> None:
        raise Refused(f"the archive holds {self.name[:100]!r} with holes")

    # A list of the holes can have any length, too.
    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


def read_archive(stream: BinaryIO, unpack: Callable[[tarfile.TarFile], None]) -> None:
    """Call `unpack` with the archive in the stream, to be read once; raises Interrupted if it is cut off,
    Refused if it is none that the backend makes."""
    try:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive:
            unpack(archive)
    except tarfile.TarError as error:
        raise Interrupted(f"the archive was cut off: {error}") from error
    except RecursionError:
        # Each may describe the one after it, without end.
        raise Refused("the archive holds nothing but descriptions of files") from None


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
