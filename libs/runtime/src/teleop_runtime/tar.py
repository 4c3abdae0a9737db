"""Tar archives that are streamed without being assembled first, in memory that does not grow with them."""

import tarfile
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Self

FILE_MODE, FOLDER_MODE = 0o644, 0o755
NS_PER_S = 1_000_000_000


@dataclass(frozen=True)
class TarMember:
    """A file of an archive, or a folder, which has no content.

    content  reads its bytes from a position on
    """

    header: bytes
    size_bytes: int = 0
    content: Callable[[int], AsyncGenerator[bytes]] | None = None

    @classmethod
    def file(
        cls, name: str, size_bytes: int, modified_ns: int, content: Callable[[int], AsyncGenerator[bytes]]
    ) -> Self:
        """
        modified_ns  the unpacked file's time, ns since the Unix epoch: `datasets`, and so LeRobot,
                     takes two files at one path for the same if their times are
        """
        entry = tarfile.TarInfo(name)
        entry.mode, entry.size = FILE_MODE, size_bytes
        return cls(_header(entry, modified_ns), size_bytes, content)

    @classmethod
    def folder(cls, name: str, modified_ns: int) -> Self:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = tarfile.DIRTYPE, FOLDER_MODE
        return cls(_header(entry, modified_ns))

    @property
    def all_bytes(self) -> int:
        """How much of the archive it takes: header, content and padding."""
        return len(self.header) + self.size_bytes + self.padding_bytes

    @property
    def padding_bytes(self) -> int:
        """How many zero bytes follow its content."""
        return -self.size_bytes % tarfile.BLOCKSIZE


def tar_bytes(members: Iterable[TarMember]) -> int:
    """Length of the archive of `members`."""
    content_bytes = sum(member.all_bytes for member in members)
    return content_bytes + _end_bytes(content_bytes)


async def stream_tar(members: Iterable[TarMember], start: int, end: int) -> AsyncGenerator[bytes]:
    """Bytes [start, end) of the archive of `members`; breaks off with whatever reading a content raises."""
    left = end - start
    async with aclosing(_stream_from(members, start)) as parts:
        async for part in parts:
            yield part[:left]
            left -= len(part)
            if left <= 0:
                return


async def _stream_from(members: Iterable[TarMember], start: int) -> AsyncGenerator[bytes]:
    """The archive from `start` on; of members before it, nothing is read."""
    offset = 0
    for member in members:
        skipped = min(max(start - offset, 0), member.all_bytes)
        offset += member.all_bytes
        if skipped == member.all_bytes:
            continue
        content_end = len(member.header) + member.size_bytes
        yield member.header[skipped:]
        if member.content is not None and skipped <= max(content_end - 1, len(member.header)):
            # Closed here and not when it is collected: a client that goes away leaves no file open.
            async with aclosing(member.content(max(skipped - len(member.header), 0))) as parts:
                async for part in parts:
                    yield part
        yield bytes(member.all_bytes - max(skipped, content_end))
    end_bytes = _end_bytes(offset)
    yield bytes(end_bytes - min(max(start - offset, 0), end_bytes))


def _header(entry: tarfile.TarInfo, modified_ns: int) -> bytes:
    entry.mtime, rest_ns = divmod(modified_ns, NS_PER_S)
    entry.pax_headers = {"mtime": f"{entry.mtime}.{rest_ns:09}"}
    return entry.tobuf(tarfile.PAX_FORMAT)


def _end_bytes(content_bytes: int) -> int:
    """How many zero bytes end an archive of this size: two blocks, and the rest of the last record."""
    end = 2 * tarfile.BLOCKSIZE
    return end + -(content_bytes + end) % tarfile.RECORDSIZE
