"""A dataset as a tar stream, in memory that does not grow with it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from teleop_runtime.tar import end_bytes, padding, tar_header

# At a time; `tar` streams pass through in little memory.
READ_BYTES = 1024 * 1024


class FolderTar:
    """Everything below `folder`, uncompressed, under the name `name`; the same each time.

    size_bytes  of the whole archive
    etag        other archives have another one
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._members = [_Member(path, f"{name}/{path.relative_to(folder)}") for path in _files(folder)]
        content = sum(len(member.header) + member.size_bytes + member.padding for member in self._members)
        headers = hashlib.sha256(b"".join(member.header for member in self._members))
        self.etag = f'"{headers.hexdigest()[:32]}"'
        self._end = end_bytes(content)
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
        found = path.stat()
        self.size_bytes = found.st_size
        self.padding = padding(self.size_bytes)
        self.header = tar_header(name, size_bytes=self.size_bytes, modified_ns=found.st_mtime_ns)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
