"""`sync-agent restore`: a dataset back from the server, byte for byte.

The tar stream is unpacked beside its place, each file is compared with the hash that the server tells, and
only when all of them are there and durable the folder gets its name.
"""

import asyncio
import hashlib
import os
import queue
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

from lerobot_robot_backend.spool.durable import sync_directory
from teleop_client.backend_http import BackendHttp, dataset_address
from teleop_client.uploading import Interrupted
from teleop_schema.errors import BadInput
from teleop_schema.identifiers import check_file_path, local_path

from teleop_sync_agent.errors import AgentError, Failed
from teleop_sync_agent.restoring.backups import StoredFile, stored_files

PIECE_BYTES = 256 * 1024
PIECES_AHEAD = 16
STALL_S = 60.0


async def restore(
    backend: BackendHttp,
    robot_id: str,
    dataset: str,
    into: Path,
    *,
    version: int | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Path:
    """The folder `into/<dataset>`, new, with the version's files (None: the newest that is closed).

    Raises AgentError if the folder is there already or the archive is not what the server told, Interrupted,
    Refused.
    """
    target = into / dataset
    if target.exists():
        raise AgentError(f"{target} already exists: choose another --into, or move it away")
    files = await stored_files(backend, robot_id, dataset, version)
    target.parent.mkdir(parents=True, exist_ok=True)
    unpacked = Path(tempfile.mkdtemp(prefix=".restoring-", dir=target.parent))
    try:
        address = dataset_address(robot_id, dataset, "restore")
        address += "" if version is None else f"?version={version}"
        await _unpack(backend, address, unpacked, dataset, files, advance)
        os.rename(unpacked, target)
        sync_directory(target.parent)
    except BaseException:
        shutil.rmtree(unpacked, ignore_errors=True)
        raise
    os.chmod(target, 0o755)  # noqa: S103 - as LeRobot makes its folders
    return target


async def _unpack(
    backend: BackendHttp,
    address: str,
    folder: Path,
    dataset: str,
    files: dict[str, StoredFile],
    advance: Callable[[int], None],
) -> None:
    """Unpack in a thread what comes in here."""
    pipe = _Pipe()
    unpacking = asyncio.create_task(asyncio.to_thread(unpack, pipe, folder, dataset, files))
    try:
        async with backend.request("GET", address) as (response, deadline):
            async for piece in response.content.iter_chunked(PIECE_BYTES):
                deadline.reschedule(asyncio.get_running_loop().time() + STALL_S)
                while not pipe.offer(piece):
                    if unpacking.done():
                        break
                    await asyncio.sleep(0.01)
                advance(len(piece))
        pipe.end()
    except BaseException:
        pipe.break_off()
        await asyncio.gather(unpacking, return_exceptions=True)
        raise
    await unpacking


class _Pipe:
    """Bytes from the event loop to a thread that reads them as a file."""

    def __init__(self) -> None:
        self._pieces: queue.Queue[bytes] = queue.Queue(PIECES_AHEAD)
        self._rest = b""
        self._broken = False
        self._ended = False

    def offer(self, piece: bytes) -> bool:
        """Whether there was room for the piece."""
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
                self._rest = self._pieces.get(timeout=0.05)
            except queue.Empty:
                if self._ended and self._pieces.empty():
                    return b""
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece


def unpack(stream: "_Pipe | BinaryIO", folder: Path, dataset: str, files: dict[str, StoredFile]) -> None:
    """Write the archive's files below `folder`, durably.

    Raises AgentError unless they are exactly `files`: same paths, sizes and hashes.
    """
    left = dict(files)
    try:
        with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|") as archive:
            for member in archive:
                if member.isdir():
                    continue
                path = _path_within(member.name, dataset)
                told = left.pop(path, None)
                content = archive.extractfile(member) if member.isreg() else None
                if told is None or content is None:
                    raise Failed(f"the archive holds {member.name!r}, which is not a file of the dataset")
                _write(content, folder / local_path(path), told)
    except tarfile.TarError as error:
        raise Interrupted(f"the archive was cut off: {error}") from error
    if left:
        raise Failed(f"the archive lacks {min(left)}")
    for below, _, _ in os.walk(folder, topdown=False):
        sync_directory(Path(below))


def _path_within(name: str, dataset: str) -> str:
    """The member's path within the dataset; raises AgentError if it is not a plain one."""
    try:
        return check_file_path(PurePosixPath(name).relative_to(dataset).as_posix())
    except (ValueError, BadInput) as error:
        raise Failed(f"the archive holds {name!r}, outside of the dataset") from error


def _write(content: IO[bytes], path: Path, told: StoredFile) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    found = hashlib.sha256()
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
