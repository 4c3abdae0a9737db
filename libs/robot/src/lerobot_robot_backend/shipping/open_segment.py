"""One segment file of a stream, read record by record, past damage if need be."""

import os
import re
from pathlib import Path

from teleop_schema.disk.opening import open_descriptor

from lerobot_robot_backend.spool.record import (
    ALIGNMENT,
    HEAD,
    MAX_RECORD_BYTES,
    DamagedRecord,
    Record,
    RecordKind,
    decode_record,
)
from lerobot_robot_backend.spool.segment import HEADER_BYTES, SEGMENT_BYTES, DamagedSegment, SegmentHeader
from lerobot_robot_backend.spool.stream import SpoolError

# Several records per system call; even the longest record fits.
_CHUNK_BYTES = 4 * MAX_RECORD_BYTES
_SOMETHING = re.compile(rb"[^\0]")


class OpenSegment:
    """A segment file and a position in it; read with pread: a mapped file that shrinks would kill the reader.

    offset       where the next record begins
    first_index  the first frame index that its header gives; None: the header is damaged
    """

    def __init__(self, number: int, path: Path) -> None:
        self.number = number
        self.path = path
        self.offset = HEADER_BYTES
        self._chunk_at = 0
        self._chunk = b""
        try:
            self._fd = open_descriptor(path)
        except OSError as error:
            raise SpoolError(f"{path} can't be read: {error.strerror}") from error
        try:
            self.first_index: int | None = SegmentHeader.decode(
                os.pread(self._fd, HEADER_BYTES, 0)
            ).first_index
        # Its records have checksums of their own, so most of them can be read all the same.
        except (DamagedSegment, OSError):
            self.first_index = None

    def read(self) -> Record | None:
        """The record at the offset, which then moves past it; None if none is there. Raises DamagedRecord."""
        record = self.peek()
        if record is not None:
            self.offset += record.size
        return record

    def peek(self) -> Record | None:
        """The record at the offset; None if none is there. Raises DamagedRecord."""
        try:
            if record := decode_record(self._chunk, self.offset - self._chunk_at):
                return record
        except DamagedRecord:
            pass  # cut off at the end of the last read, or written since then
        # Nearly always nothing new is there, and then a head is all that has to be read.
        if not self._pread(HEAD.size, self.offset).strip(b"\0"):
            return None
        self._chunk_at, self._chunk = self.offset, self._pread(_CHUNK_BYTES, self.offset)
        return decode_record(self._chunk)

    def look_through(self, highest: int) -> tuple[int, bool]:
        """One past the highest frame index here, or `highest`, and whether the stream is closed here.

        Leaves the offset at the end.
        """
        highest, closed = max(highest, self.first_index or 0), False
        while True:
            try:
                record = self.read()
            except DamagedRecord:
                record = None
            if record is not None:
                highest, closed = max(highest, record.end), record.kind == RecordKind.CLOSE
            elif found := self.find_record():
                self.offset = found
            else:
                return highest, closed

    def find_record(self) -> int:
        """Offset of the next whole record after the current position, 0 if there is none."""
        # The rest of the segment, and no more of a file than one can have.
        content = self._pread(SEGMENT_BYTES, self.offset)
        place = ALIGNMENT
        while found := _SOMETHING.search(content, place):
            # The first byte that is not 0 may be a later one of a record, but is among its first 8.
            place = found.start() - found.start() % ALIGNMENT
            try:
                if decode_record(content, place) is not None:
                    return self.offset + place
            except DamagedRecord:
                pass
            place += ALIGNMENT
        return 0

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _pread(self, size: int, offset: int) -> bytes:
        try:
            return os.pread(self._fd, size, offset)
        except OSError as error:
            raise DamagedRecord(f"the disk returned an error: {error.strerror}") from error
