"""How far a session is, for the program that records it, however long it runs on after the session.

A day after the server has confirmed all of a session, the spool removes the session's folder, and with it
what it says of the progress.
"""

from contextlib import suppress
from pathlib import Path

import msgspec

from lerobot_robot_backend.shipping.retention import KEEP_S
from lerobot_robot_backend.spool.age import running_s
from lerobot_robot_backend.spool.stream import (
    SESSION_FILE,
    StreamProgress,
    describe_removed,
    read_whole_progress,
)
from lerobot_robot_backend.spool.writer import SpoolWriter


class Standing:
    """The standing of one session; reads files of its stream."""

    def __init__(self, writer: SpoolWriter, spool_dir: Path) -> None:
        self._writer = writer
        self._spool_dir = spool_dir
        self._closed_at_s: float | None = None
        self._complete: StreamProgress | None = None

    def note_closed(self) -> None:
        """Call it when the session ends."""
        with suppress(OSError):  # the spool is gone, or its disk is broken: then its end has no known time
            self._closed_at_s = running_s(self._spool_dir)

    @property
    def progress(self) -> StreamProgress:
        """The last one known; `trouble` says so if the stream is gone, and not because it is complete."""
        progress = read_whole_progress(self._writer.stream_dir)
        if self._is_gone:
            return self._complete or msgspec.structs.replace(progress, trouble=self._why_gone())
        if progress.ended:
            self._complete = progress
        elif progress.once:
            # The server has forgotten some of it, and gets it again.
            self._complete = None
        return progress

    @property
    def why_lost(self) -> str | None:
        """Text for people if the stream is gone, and it is not certain that the server has all of it."""
        return self._why_gone() if self._is_gone and self._complete is None else None

    @property
    def _is_gone(self) -> bool:
        """Whether the session's files are gone; asked again, because they may go after its end, too."""
        return self._writer.removed or not (self._writer.stream_dir / SESSION_FILE).exists()

    def _why_gone(self) -> str:
        stream_dir = self._writer.stream_dir
        with suppress(OSError):
            if self._closed_at_s is not None and running_s(self._spool_dir) - self._closed_at_s >= KEEP_S:
                return (
                    f"{stream_dir} is no longer there: the spool removes what the server has had for "
                    f"{KEEP_S / 3600:.0f} hours, so the server has all of it unless somebody else removed it"
                )
        return describe_removed(stream_dir)
