"""A dataset as a tar stream that is the same each time, in memory that does not grow with its bytes."""

import tarfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import PurePosixPath

from teleop_runtime.database import Pool
from teleop_runtime.store import Store
from teleop_schema.errors import BackendError

from video_ingest_service.errors import Damaged
from video_ingest_service.state_table import FileRow
from video_ingest_service.verification import UnsoundObject, checked, report_damage

MODIFIED_AT = 0
FILE_MODE, FOLDER_MODE = 0o644, 0o755


def archive_bytes(root: str, files: Sequence[FileRow]) -> int:
    """Length of the tar of `files` below the folder `root`. Takes about 20 us a file."""
    content = sum(len(header) + _padded(file) for header, file in _members(root, files))
    return content + _end_bytes(content)


async def stream_archive(
    pool: Pool, store: Store, root: str, files: Sequence[FileRow]
) -> AsyncIterator[bytes]:
    """The tar of `files` below the folder `root`; every byte is checked on its way.

    Breaks off with Damaged, so that nobody takes a damaged file for a good one.
    """
    content = 0
    for header, file in _members(root, files):
        yield header
        content += len(header) + _padded(file)
        if file is None:
            continue
        try:
            async for part in checked(store, file.sha256, file.size_bytes):
                yield part
        except UnsoundObject as error:
            await report_damage(pool, file.sha256, str(error))
            raise _broken_off(file.path, error) from error
        yield bytes(-file.size_bytes % tarfile.BLOCKSIZE)
    yield bytes(_end_bytes(content))


def _broken_off(path: str, error: UnsoundObject) -> BackendError:
    return Damaged(f"{path}: {error}", field="path")


def _members(root: str, files: Sequence[FileRow]) -> Iterator[tuple[bytes, FileRow | None]]:
    """Header of each folder before what is in it, and of each file with its row."""
    made: set[PurePosixPath] = set()
    for file in files:
        path = PurePosixPath(root, file.path)
        for folder in reversed(path.parents[:-1]):
            if folder not in made:
                made.add(folder)
                yield _header(str(folder), tarfile.DIRTYPE, FOLDER_MODE, 0), None
        yield _header(str(path), tarfile.REGTYPE, FILE_MODE, file.size_bytes), file


def _header(name: str, kind: bytes, mode: int, size_bytes: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size, entry.mtime = kind, mode, size_bytes, MODIFIED_AT
    return entry.tobuf(tarfile.PAX_FORMAT)


def _padded(file: FileRow | None) -> int:
    return 0 if file is None else file.size_bytes + -file.size_bytes % tarfile.BLOCKSIZE


def _end_bytes(content: int) -> int:
    """Two empty blocks, and what fills the last record."""
    end = 2 * tarfile.BLOCKSIZE
    return end + -(content + end) % tarfile.RECORDSIZE
