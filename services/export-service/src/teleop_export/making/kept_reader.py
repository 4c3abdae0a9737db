"""A connection for frames that outlives an export: opening one takes 45 ms. Blocks."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from adbc_driver_manager import Error as AdbcError
from teleop_runtime.postgres.frames import FrameReader


class KeptReader:
    """Lends a FrameReader, to one borrower at a time; keeps it if nothing went wrong with it."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._kept: FrameReader | None = None

    @contextmanager
    def lend(self) -> Iterator[FrameReader]:
        """One that is connected; raises adbc_driver_manager.Error if there is none to be had."""
        reader, self._kept = self._kept, None
        if reader is not None and not _answers(reader):
            _let_go(reader)
            reader = None
        reader = reader or FrameReader(self._database_url)
        try:
            yield reader
        except BaseException:
            _let_go(reader)
            raise
        self._kept = reader

    def close(self) -> None:
        """Close the kept connection; the next borrower opens another one."""
        reader, self._kept = self._kept, None
        if reader is not None:
            _let_go(reader)


def _answers(reader: FrameReader) -> bool:
    """Whether the connection is still good: the database may have been restarted meanwhile."""
    try:
        # No frames of a session that can't be: only whether there is an answer matters.
        reader.read(0, 0, 0, state_width=1, action_width=1)
    except AdbcError:
        return False
    return True


def _let_go(reader: FrameReader) -> None:
    with suppress(AdbcError):
        reader.close()
