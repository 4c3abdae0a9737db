"""A dataset's folder as a tar stream, and its files."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from pathlib import Path

from teleop_runtime.tar import TarMember, stream_tar, tar_bytes

# Read at a time; larger parts are not faster, and each download holds one.
READ_BYTES = 1024 * 1024


class FolderTar:
    """Everything below `folder`, uncompressed, under the name `name`; the same each time.

    size_bytes  of the whole archive
    etag        other archives have another one
    """

    def __init__(self, folder: Path, name: str) -> None:
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        self._members = [_member(path, f"{name}/{path.relative_to(folder)}") for path in files]
        headers = hashlib.sha256(b"".join(member.header for member in self._members))
        self.etag = f'"{headers.hexdigest()[:32]}"'
        self.size_bytes = tar_bytes(self._members)

    def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Bytes [start, end) in parts of at most READ_BYTES; raises OSError if a file can't be read."""
        return stream_tar(self._members, start, end)


def _member(path: Path, name: str) -> TarMember:
    found = path.stat()
    return TarMember.file(name, found.st_size, found.st_mtime_ns, partial(read_file, path))


async def read_file(path: Path, start: int, end: int | None = None) -> AsyncGenerator[bytes]:
    """Bytes [start, end) of a file, or all from `start` on, in parts of at most READ_BYTES."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        await asyncio.to_thread(file.seek, start)
        while part := await asyncio.to_thread(
            file.read, READ_BYTES if end is None else min(READ_BYTES, end - file.tell())
        ):
            yield part
    finally:
        await asyncio.to_thread(file.close)
