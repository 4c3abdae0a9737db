"""Streams that were erased on the server: nothing of them is sent any more, and nothing is removed here.

Whoever hears of it first, the shipper of samples or that of video, writes it into the stream's folder.
"""

import logging
from contextlib import suppress
from pathlib import Path
from shlex import quote

from teleop_schema.disk.opening import read_small

from lerobot_robot_backend.spool.durable import NOTE_BYTES, replace_file

ERASED_FILE = "erased"

log = logging.getLogger("lerobot_robot_backend.spool.erased")


def note_erased(stream_dir: Path, why: str) -> None:
    """Note that the server has erased the stream, and says this about it."""
    log.warning("%s", describe_erased(stream_dir, why))
    with suppress(OSError):  # a full disk: the server says it again to whoever asks next
        replace_file(stream_dir / ERASED_FILE, why.encode(), durable=True)


def read_erased(stream_dir: Path) -> str | None:
    """What the server said when the stream was erased; None: it was not, as far as anybody here knows."""
    try:
        return read_small(stream_dir / ERASED_FILE, NOTE_BYTES).decode("utf-8", "replace")
    except OSError:
        return None


def describe_erased(stream_dir: Path, why: str) -> str:
    """Text for people: what was erased, where the copy on this PC is, and how to remove it."""
    return f"{why}; the copy on this PC is kept, and is not sent: rm -r {quote(str(stream_dir))} removes it"
