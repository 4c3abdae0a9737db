"""Writing end of a stream: appends records to a memory-mapped segment, with no system call on the way."""

import errno
import mmap
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

from teleop_schema.messages import Event

from lerobot_robot_backend.record import (
    HEAD,
    MAX_RECORD_BYTES,
    FrameEncoder,
    encode_close,
    encode_event,
    encode_gap,
)
from lerobot_robot_backend.segment import (
    HEADER_BYTES,
    SEGMENT_BYTES,
    SegmentHeader,
    prepare_segment,
    segment_path,
)
from lerobot_robot_backend.stream import WRITER_LOCK, FileLock, SpoolError, StreamFile, write_stream

# The first bytes of a record say that there is one: they are stored last, in one aligned store.
_COMMIT_BYTES = 8
# Kept free at the end of each segment, so that on a full disk gaps and the session's end can still be told.
_RESERVE_BYTES = 4096
_CLOSE_BYTES = 64
_RETRY_S = 1.0
_MAX_REASON_CHARACTERS = 500
_writers: "weakref.WeakSet[SpoolWriter]" = weakref.WeakSet()


class SpoolWriter:
    """Appends to one stream; whatever was appended survives the death of this process.

    Safe to call from several threads. A forked child can't write.
    """

    def __init__(
        self,
        spool_dir: Path,
        description: StreamFile,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        prepare: Callable[..., Path] = prepare_segment,
    ) -> None:
        """Create the stream's directory, `stream_dir`; raises SpoolError if that is impossible.

        segment_bytes  size of a segment, at least twice the largest record
        prepare        takes the room of a segment on the disk
        """
        if segment_bytes < 2 * MAX_RECORD_BYTES:
            raise ValueError(f"a segment has at least {2 * MAX_RECORD_BYTES} bytes")
        self.next_index = 0
        self.stream_dir = spool_dir / description.robot_id / str(description.stream)
        self._stream = description.stream
        self._counts = len(description.session.state_names), len(description.session.action_names)
        self._encode_frame = FrameEncoder(*self._counts).encode
        self._segment_bytes = segment_bytes
        self._prepare = prepare
        self._lock = threading.Lock()
        self._prepared: Path | None = None
        self._map: mmap.mmap | None = None
        self._number = -1
        self._offset = self._end = 0
        self._pending_gap: tuple[int, int, str] | None = None
        self._retry_at_s = 0.0
        self._writer_lock = FileLock(self.stream_dir / WRITER_LOCK)
        try:
            self.stream_dir.mkdir(parents=True, mode=0o700)
            self._writer_lock.acquire()
            self.prepare_next()
            self._start_segment()
            # Last: whoever sees a stream finds its writer alive.
            write_stream(self.stream_dir, description)
        except OSError as error:
            self._writer_lock.release()
            raise SpoolError(f"no session can be kept in {self.stream_dir}: {error.strerror}") from error
        _writers.add(self)

    def append_frame(self, captured_us: int, values: Sequence[float], tail: bytes = b"") -> int:
        """Append one frame and return its index.

        captured_us  us since the Unix epoch
        values       state, then action
        tail         MessagePack map of what goes beyond them

        Raises SpoolError if the disk is full: then the index is used up, and the frame becomes a gap with
        that reason. Raises OverflowError for a value beyond float32: then nothing has happened.
        """
        with self._lock:
            record = self._encode_frame(self.next_index, captured_us, values, tail)
            try:
                self._append(record, _RESERVE_BYTES, self.next_index + 1)
            except SpoolError as error:
                self._lose(1, str(error))
                raise
            return self.next_index - 1

    def append_gap(self, count: int, reason: str) -> None:
        """Use up `count` frame indexes for frames that are missing, and why."""
        with self._lock:
            self._lose(count, reason)

    def append_event(self, event: Event) -> None:
        """Append an event, to be told with the next frame. Raises SpoolError if the disk is full."""
        with self._lock:
            self._append(encode_event(self.next_index, event), _RESERVE_BYTES, self.next_index)

    def close(self) -> None:
        """Say that the session is over and let go; calling it again changes nothing."""
        with self._lock:
            if self._map is None:
                return
            self._tell_pending_gap()
            try:
                self._append(encode_close(self.next_index), 0, self.next_index)
            finally:
                self._map.close()
                self._map = None
                if self._prepared is not None:
                    self._prepared.unlink(missing_ok=True)
                self._writer_lock.release()

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
        return self._map is None

    @property
    def wants_next(self) -> bool:
        """Whether a segment should be prepared: the current one is half full, or there is none."""
        return self._prepared is None and 2 * self._offset > self._end

    def prepare_next(self) -> None:
        """Take the next segment's room on the disk; slow, for a thread of its own. Raises OSError."""
        number = self._number + 1
        prepared = self._prepare(self.stream_dir, number, self._segment_bytes)
        with self._lock:
            if number == self._number + 1 and (self._map is not None or number == 0):
                self._prepared = prepared
            else:
                prepared.unlink(missing_ok=True)

    def _append(self, record: bytes, reserve: int, next_index: int) -> None:
        """Store a whole record; afterwards `next_index` is the stream's next. Raises SpoolError."""
        if self._map is None:
            raise SpoolError("this session is closed")
        if reserve == _RESERVE_BYTES and self._pending_gap is not None:
            self._tell_pending_gap()
        end = self._offset + len(record)
        if end > self._end - reserve:
            self._next_segment()
            end = self._offset + len(record)
        start = self._offset
        self._map[start + _COMMIT_BYTES : end] = record[_COMMIT_BYTES:]
        # No call between these three: a KeyboardInterrupt can't come in between, so nobody ever reads a
        # record whose place is then given to another one.
        self._map[start : start + _COMMIT_BYTES] = record[:_COMMIT_BYTES]
        self._offset = end
        self.next_index = next_index

    def _next_segment(self) -> None:
        if self._prepared is None:
            if time.monotonic() < self._retry_at_s:
                raise SpoolError("the disk of the spool is full")
            try:
                self._prepared = self._prepare(
                    self.stream_dir, self._number + 1, self._segment_bytes, quick=True
                )
            except OSError as error:
                self._retry_at_s = time.monotonic() + _RETRY_S
                full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                text = (
                    "the disk of the spool is full" if full else f"the spool takes nothing: {error.strerror}"
                )
                raise SpoolError(text) from error
        self._start_segment()

    def _start_segment(self) -> None:
        """Go over to the prepared segment: complete under its prepared name, then visible to readers."""
        if self._prepared is None:
            raise AssertionError("no segment was prepared")
        first_index = self.next_index if self._pending_gap is None else self._pending_gap[0]
        header = SegmentHeader(self._stream, first_index, *self._counts)
        fd = os.open(self._prepared, os.O_RDWR | os.O_CLOEXEC)
        try:
            mapped = mmap.mmap(fd, self._segment_bytes)
        finally:
            os.close(fd)
        mapped[:HEADER_BYTES] = header.encode()
        os.rename(self._prepared, segment_path(self.stream_dir, self._number + 1))
        if self._map is not None:
            self._map.close()
        self._map, self._prepared = mapped, None
        self._number += 1
        self._offset, self._end = HEADER_BYTES, self._segment_bytes

    def _lose(self, count: int, reason: str) -> None:
        reason = reason[:_MAX_REASON_CHARACTERS]
        if self._pending_gap is not None and self._pending_gap[2] != reason:
            self._tell_pending_gap()
        if self._pending_gap is None:
            self._pending_gap = (self.next_index, count, reason)
        elif self._pending_gap[2] == reason:
            self._pending_gap = (self._pending_gap[0], self._pending_gap[1] + count, reason)
        else:
            first, pending, told = self._pending_gap
            self._pending_gap = (first, pending + count, told)
        self.next_index += count
        if not self._is_full():
            self._tell_pending_gap()

    def _is_full(self) -> bool:
        return self._prepared is None and self._offset + HEAD.size > self._end - 2 * _RESERVE_BYTES

    def _tell_pending_gap(self) -> None:
        """Record the gap that is pending; it stays pending if there is no room even for that."""
        if self._pending_gap is None:
            return
        gap, self._pending_gap = self._pending_gap, None
        try:
            self._append(encode_gap(*gap), _CLOSE_BYTES, self.next_index)
        except SpoolError:
            self._pending_gap = gap

    def _abandon(self) -> None:
        """In a forked child: the stream belongs to the parent."""
        self._map = None
        self._prepared = None
        self._lock = threading.Lock()
        self._writer_lock.release()


def _abandon_all() -> None:
    for writer in list(_writers):
        writer._abandon()


os.register_at_fork(after_in_child=_abandon_all)
