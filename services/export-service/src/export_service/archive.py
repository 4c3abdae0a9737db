"""A dataset as a tar stream, in memory that does not grow with it."""

import asyncio
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

READ_BYTES = 1024 * 1024
# tar keeps modification times; a fixed one makes the archive of a dataset the same each time.
MODIFIED_AT = 0


class Archive:
    """Everything below `folder`, uncompressed, under the name `name`.

    size_bytes  of the whole archive
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._members = [_Member(path, f"{name}/{path.relative_to(folder)}") for path in _files(folder)]
        content = sum(len(member.header) + member.size_bytes + member.padding for member in self._members)
        self._end = 2 * tarfile.BLOCKSIZE
        self._end += -(content + self._end) % tarfile.RECORDSIZE
        self.size_bytes = content + self._end

    async def stream(self) -> AsyncIterator[bytes]:
        """The archive, READ_BYTES at a time; files are read in a thread."""
        for member in self._members:
            yield member.header
            file = await asyncio.to_thread(member.path.open, "rb")
            try:
                while part := await asyncio.to_thread(file.read, READ_BYTES):
                    yield part
            finally:
                await asyncio.to_thread(file.close)
            yield bytes(member.padding)
        yield bytes(self._end)


class _Member:
    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.size_bytes = path.stat().st_size
        self.padding = -self.size_bytes % tarfile.BLOCKSIZE
        entry = tarfile.TarInfo(name)
        entry.size, entry.mtime, entry.mode = self.size_bytes, MODIFIED_AT, 0o644
        self.header = entry.tobuf(tarfile.PAX_FORMAT)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
