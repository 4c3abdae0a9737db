"""A dataset's folder as a tar stream."""

import hashlib
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path

from teleop_runtime.store.threads import read_file
from teleop_runtime.tar import TarMember, stream_tar, tar_bytes


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

    def read(self, start: int, end: int) -> AsyncGenerator[bytes]:
        """Bytes [start, end) in parts of at most 1 MiB; raises like `read_file`."""
        return stream_tar(self._members, start, end)


def _member(path: Path, name: str) -> TarMember:
    found = path.stat()
    return TarMember.file(name, found.st_size, found.st_mtime_ns, partial(read_file, path))
