"""`sync-agent restore`: downloads a dataset from the server, byte for byte.

The tar stream is unpacked next to its final place. Each file is compared with the hash from the server. Only
when all files are there and durable does the folder get its name.
"""

import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from lerobot_robot_backend.spool.durable import sync_directory
from teleop_client.backend_http import BackendHttp, Interrupted, dataset_address
from teleop_client.tar_stream import unpack_from
from teleop_schema.errors import BadInput
from teleop_schema.identifiers import check_file_path, local_path
from teleop_schema.words import size_text

from teleop_sync_agent.errors import AgentError, DiskFull, Failed
from teleop_sync_agent.restoring.backups import StoredFile, stored_files

# Read, hashed and written at a time.
PIECE_BYTES = 256 * 1024
# What an archive has for each file besides its content: heads, a long name, the rest of its last block.
AROUND_A_FILE_BYTES = 16 * 1024


async def restore(
    backend: BackendHttp,
    robot_id: str,
    dataset: str,
    into: Path,
    *,
    version: int | None = None,
    advance: Callable[[int], None] = lambda _: None,
    report: Callable[[Interrupted], None],
) -> Path:
    """The folder `into/<dataset>`, new, with the version's files (None: the newest that is closed).

    advance  called with the size of what has been received
    report   called with the reason of each interruption; the download continues unless it raises

    Raises AgentError if the folder exists already, its disk has no room for the files, or the archive is not
    what the server listed; Interrupted, Refused.
    """
    target = into / dataset
    if target.exists():
        raise AgentError(f"{target} already exists: choose another --into, or move it away")
    # Asked before the archive, which has to match it: a hash that came with the bytes would prove nothing.
    files = await stored_files(backend, robot_id, dataset, version)
    target.parent.mkdir(parents=True, exist_ok=True)
    content_bytes = sum(each.size_bytes for each in files.values())
    _check_room(target.parent, content_bytes)
    unpacked = Path(tempfile.mkdtemp(prefix=".restoring-", dir=target.parent))
    try:
        address = dataset_address(robot_id, dataset, "restore")
        address += "" if version is None else f"?version={version}"
        write = partial(unpack, folder=unpacked, dataset=dataset, files=files)
        await unpack_from(
            backend,
            address,
            write,
            lambda came_bytes, _total: advance(came_bytes),
            report,
            most_bytes=content_bytes + AROUND_A_FILE_BYTES * (len(files) + 1),
        )
        # Every file and folder in it is on the disk by now.
        os.rename(unpacked, target)
        sync_directory(target.parent)
    except BaseException:
        shutil.rmtree(unpacked, ignore_errors=True)
        raise
    os.chmod(target, 0o755)  # noqa: S103 - as LeRobot makes its folders
    return target


def unpack(archive: tarfile.TarFile, folder: Path, dataset: str, files: dict[str, StoredFile]) -> None:
    """Write the archive's files below `folder`, durably.

    Raises AgentError unless they are exactly `files`: same paths, sizes and hashes.
    """
    left = dict(files)
    for member in archive:
        if member.isdir():
            continue
        path = _path_within(member.name, dataset)
        told = left.pop(path, None)
        content = archive.extractfile(member) if member.isreg() else None
        if told is None or content is None:
            raise Failed(f"the archive holds {member.name!r}, which is not a file of the dataset")
        if member.size != told.size_bytes:
            raise Failed(
                f"the archive holds {member.size} bytes of {told.path}; the server listed {told.size_bytes}"
            )
        _write(content, folder / local_path(path), told)
    if left:
        raise Failed(f"the archive lacks {min(left)}")
    for below, _, _ in os.walk(folder, topdown=False):
        sync_directory(Path(below))


def _check_room(folder: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise DiskFull(
            f"{folder} has {size_text(free_bytes)} free, and the dataset needs {size_text(needed_bytes)}: "
            "free some space, or choose another --into"
        )


def _path_within(name: str, dataset: str) -> str:
    """The member's path within the dataset; raises AgentError if it is not a plain one."""
    try:
        return check_file_path(PurePosixPath(name).relative_to(dataset).as_posix())
    except (ValueError, BadInput) as error:
        raise Failed(f"the archive holds {name!r}, outside of the dataset") from error


def _write(content: IO[bytes], path: Path, told: StoredFile) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    found = hashlib.sha256()
    # O_EXCL: two members of one name would overwrite each other; O_NOFOLLOW: nobody plants a link meanwhile.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        while piece := content.read(PIECE_BYTES):
            found.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
        size_bytes = file.tell()
    if (size_bytes, found.hexdigest()) != (told.size_bytes, told.sha256):
        raise Failed(f"{told.path} does not match the server: restore it again, or verify the dataset")
