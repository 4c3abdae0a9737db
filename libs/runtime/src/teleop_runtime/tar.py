"""Headers of tar archives that are streamed without being assembled first."""

import tarfile

FILE_MODE, FOLDER_MODE = 0o644, 0o755
NS_PER_S = 1_000_000_000


def tar_header(name: str, *, size_bytes: int | None, modified_ns: int) -> bytes:
    """The header before a file's content, or of a folder.

    size_bytes   None: a folder
    modified_ns  the unpacked file's time, ns since the Unix epoch: `datasets`, and so LeRobot,
                 takes two files at one path for the same if their times are
    """
    entry = tarfile.TarInfo(name)
    if size_bytes is None:
        entry.type, entry.mode = tarfile.DIRTYPE, FOLDER_MODE
    else:
        entry.mode, entry.size = FILE_MODE, size_bytes
    entry.mtime, rest_ns = divmod(modified_ns, NS_PER_S)
    entry.pax_headers = {"mtime": f"{entry.mtime}.{rest_ns:09}"}
    return entry.tobuf(tarfile.PAX_FORMAT)


def padding(size_bytes: int) -> int:
    """How many zero bytes follow a file's content."""
    return -size_bytes % tarfile.BLOCKSIZE


def end_bytes(content_bytes: int) -> int:
    """How many zero bytes end an archive of this size: two blocks, and the rest of the last record."""
    end = 2 * tarfile.BLOCKSIZE
    return end + -(content_bytes + end) % tarfile.RECORDSIZE
