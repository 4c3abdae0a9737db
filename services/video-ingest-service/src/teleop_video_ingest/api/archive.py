"""A dataset as a tar stream that is the same each time, using memory that does not grow with its size."""

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import PurePosixPath

from teleop_runtime.postgres.pool import Pool
from teleop_runtime.store import Store
from teleop_runtime.tar import end_bytes, padding, tar_header
from teleop_schema.errors import BackendError

from teleop_video_ingest.errors import Damaged
from teleop_video_ingest.files.verification import UnsoundObject, checked, report_damage
from teleop_video_ingest.tables.state_table import FileRow


def archive_bytes(root: str, files: Sequence[FileRow], *, modified_ns: int) -> int:
    """Length of the tar of `files` below the folder `root`. Takes about 20 us per file."""
    content = sum(len(header) + _padded(file) for header, file in _members(root, files, modified_ns))
    return content + end_bytes(content)


async def stream_archive(
    pool: Pool, store: Store, root: str, files: Sequence[FileRow], *, modified_ns: int
) -> AsyncIterator[bytes]:
    """The tar of `files` below the folder `root`; every byte is checked on its way.

    modified_ns  time of all files, ns since the Unix epoch

    Breaks off with Damaged, so that nobody takes a damaged file for a good one.
    """
    content = 0
    for header, file in _members(root, files, modified_ns):
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
        yield bytes(padding(file.size_bytes))
    yield bytes(end_bytes(content))


def _broken_off(path: str, error: UnsoundObject) -> BackendError:
    return Damaged(f"{path}: {error}", field="path")


def _members(root: str, files: Sequence[FileRow], modified_ns: int) -> Iterator[tuple[bytes, FileRow | None]]:
    """Header of each folder before its content, and of each file with its row."""
    made: set[PurePosixPath] = set()
    for file in files:
        path = PurePosixPath(root, file.path)
        for folder in reversed(path.parents[:-1]):
            if folder not in made:
                made.add(folder)
                yield tar_header(str(folder), size_bytes=None, modified_ns=modified_ns), None
        yield tar_header(str(path), size_bytes=file.size_bytes, modified_ns=modified_ns), file


def _padded(file: FileRow | None) -> int:
    return 0 if file is None else file.size_bytes + padding(file.size_bytes)
