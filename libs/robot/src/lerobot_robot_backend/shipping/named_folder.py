"""The folder on a shipper's command line: the spool, or one stream in it."""

from pathlib import Path

from lerobot_robot_backend.spool.stream import SESSION_FILE, SpoolError, find_streams


def check_named(directory: Path, *, whole_spool: bool) -> None:
    """Raise SpoolError if it is neither the spool nor a stream's folder; OSError.

    Otherwise a mistyped name would look like a spool in which nothing waits.
    """
    if not directory.is_dir():
        raise SpoolError(f"there is no folder {directory}")
    if not whole_spool:
        # A folder with neither is left to the reader, whose error names the missing file.
        if not _holds_stream(directory) and any(find_streams(directory)):
            raise SpoolError(f"{directory} is a spool: add --all to ship all of it")
    elif _holds_stream(directory):
        raise SpoolError(f"{directory} is one recording: leave out --all, or name the spool folder above it")
    elif any(map(_holds_stream, directory.iterdir())):
        raise SpoolError(f"{directory} is the folder of one robot: name the spool folder, {directory.parent}")


def _holds_stream(folder: Path) -> bool:
    try:
        return (folder / SESSION_FILE).is_file()
    except OSError:
        return False
