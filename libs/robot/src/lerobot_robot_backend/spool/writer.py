"""Writing end of a stream: appends records to a memory-mapped segment, without a system call."""

import logging
import mmap
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from teleop_schema.messages import Event

from lerobot_robot_backend.spool.durable import FULL, make_directory, sync_data, sync_directory
from lerobot_robot_backend.spool.locks import FileLock
from lerobot_robot_backend.spool.record import (
    MAX_RECORD_BYTES,
    FrameEncoder,
    encode_close,
    encode_event,
    encode_gap,
)
from lerobot_robot_backend.spool.segment import (
    HEADER_BYTES,
    SEGMENT_BYTES,
    SegmentHeader,
    prepare_segment,
    segment_path,
)
from lerobot_robot_backend.spool.stream import WRITER_LOCK, SpoolError, StreamFile, has_stream, write_stream

# The first bytes of a record say that it exists, so they are stored last, in one aligned store.
_COMMIT_BYTES = 8
# Kept free at the end of each segment, so that a gap and the session's end can be written on a full disk.
_RESERVE_BYTES = 4096
# A full disk is tried again once a second, not sixty times.
_RETRY_S = 1.0
# A gap must fit into the reserve above.
_MAX_REASON_CHARACTERS = 500
# Events that wait for room, with a record and a gap after them, fit into the smallest segment.
_MAX_UNTOLD_BYTES = 64 * 1024
log = logging.getLogger("lerobot_robot_backend")
# Of this process, so that a forked child can let go of each; weak, so that the list keeps none of them alive.
_writers: "weakref.WeakSet[SpoolWriter]" = weakref.WeakSet()


class _Gap(NamedTuple):
    """Frames `[first, end)` are missing, and why."""

    first: int
    end: int
    reason: str

    def up_to(self, end: int) -> "_Gap":
        """The gap, extended by more frames; the first reason stays."""
        return self._replace(end=end)

    def encode(self) -> bytes:
        return encode_gap(self.first, self.end - self.first, self.reason)


class SpoolWriter:
    """Appends to one stream; appended records survive the death of this process.

    Safe to call from several threads. A forked child can't write.

    What happens to a frame on a disk that fills up, and later has space again::

        kept ──── no room: `refusal` is set, the frame goes into the gap ────> losing
         ^                                                                     │  ^
         │                                                                     │  │ the gap grows; a new
         └── a record finds room: the gap is written, then the record ─────────┤  │ segment is tried for
                                                                               └──┘ each _RETRY_S

    removed    whether somebody had removed or moved the stream's files when `look_for_files` last looked
    _refusal   why nothing can be kept now, None in the state "kept"
    _untold    the gap to write before the next record; there is always space for the session's end
    _untold_events  those that found no room, to write after it: what they tell is not of the lost frames only
    """

    def __init__(
        self,
        spool_dir: Path,
        description: StreamFile,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        prepare: Callable[..., Path] = prepare_segment,
    ) -> None:
        """Create the stream's folder, `stream_dir`; raises SpoolError if that is impossible.

        segment_bytes  size of a segment, at least twice the largest record
        prepare        allocates the disk space of a segment
        """
        # A record, and the gap and events that waited before it, must fit into one empty segment.
        if segment_bytes < 2 * MAX_RECORD_BYTES:
            raise ValueError(f"a segment needs at least {2 * MAX_RECORD_BYTES} bytes")
        self.next_index = 0
        self.removed = False
        self.stream_dir = spool_dir / description.robot_id / str(description.stream)
        self._stream = description.stream
        self._counts = len(description.session.state_names), len(description.session.action_names)
        self._encode_frame = FrameEncoder(*self._counts).encode
        self._segment_bytes = segment_bytes
        self._prepare = prepare
        self._lock = threading.Lock()
        self._prepared: Path | None = None
        self._map: mmap.mmap | None = None
        self._fd = self._number = -1
        self._offset = self._end = 0
        self._untold: _Gap | None = None
        self._untold_events: list[Event] = []
        self._untold_bytes = 0
        self._refusal: str | None = None
        self._retry_at_s = 0.0
        self._sync_lock = threading.Lock()
        self._left: deque[int] = deque()  # segments that are no longer in use, and not synced since
        # Segment number and offset that the last sync covered.
        self._synced = (-1, 0)
        self._writer_lock = FileLock(self.stream_dir / WRITER_LOCK)
        try:
            make_directory(self.stream_dir, mode=0o700)
            self._writer_lock.acquire()
            self.prepare_next()
            self._start_segment()
            # Last, so that whoever sees the stream finds its writer alive.
            write_stream(self.stream_dir, description)
        except OSError as error:
            self._writer_lock.release()
            raise SpoolError(f"can't keep a session in {self.stream_dir}: {error.strerror}") from error
        _writers.add(self)

    def append_frame(self, captured_us: int, values: Sequence[float], tail: bytes = b"") -> int:
        """Append one frame and return its index.

        captured_us  us since the Unix epoch
        values       state, then action
        tail         MessagePack map of everything beyond them

        Raises SpoolError if the disk is full; then the index is used up, and the frame becomes a gap with
        that reason. Raises OverflowError for a value beyond float32; then nothing has happened.
        """
        with self._lock:
            record = self._encode_frame(self.next_index, captured_us, values, tail)
            try:
                self._append(record, self.next_index + 1)
            except SpoolError as error:
                # The index is used up, so that later frames keep their place in the episode.
                self._lose(1, str(error))
                raise
            return self.next_index - 1

    def append_gap(self, count: int, reason: str) -> None:
        """Use up `count` frame indexes for frames that are missing, and why."""
        with self._lock:
            self._lose(count, reason)

    def append_event(self, event: Event) -> None:
        """Append an event, to be sent with the next frame.

        On a full disk it waits in memory until a record finds room; raises SpoolError if too many do.
        """
        with self._lock:
            record = encode_event(self.next_index, event)
            try:
                self._append(record, self.next_index)
            except SpoolError:
                if self._map is None or self._untold_bytes + len(record) > _MAX_UNTOLD_BYTES:
                    raise
                self._untold_events.append(event)
                self._untold_bytes += len(record)

    def sync(self) -> bool:
        """Sync what was appended before this call; False if all of it was on disk already.

        Call it in a separate thread, because the loop must not wait for it. Raises OSError if the disk lost
        something.
        """
        with self._sync_lock:
            # In this order, because the loop may switch to the next segment meanwhile.
            offset, number = self._offset, self._number
            fd = self._fd
            if (number, offset) == self._synced or fd < 0:
                return False
            new_name = number != self._synced[0]
            # even if it fails, because a second sync would succeed although data was lost
            self._synced = number, offset
            # Segments in the order of their records: a power loss then cuts the stream's end, and leaves no
            # hole in it.
            while self._left and self._left[0] != fd:
                self._sync_left()
            sync_data(fd)
            if new_name:
                # Until this, a power loss may leave the segment its prepared name; readers look there too.
                sync_directory(self.stream_dir)
            return True

    def close(self) -> None:
        """Mark the session as ended, sync, and close the files; calling it again changes nothing."""
        with self._lock:
            if self._map is None:
                return
            try:
                # First, so that the sync below takes the end with it.
                self._end_records()
            finally:
                with suppress(OSError):  # a disk error; reading the segments shows what was lost
                    self.sync()
                self._map.close()
                self._map = None
                with suppress(OSError):  # a disk error; it is no removal
                    self.look_for_files()
                with self._sync_lock:
                    for fd in (*self._left, self._fd):
                        os.close(fd)
                    self._left.clear()
                    self._fd = -1
                if self._prepared is not None:
                    # It was never used, and would hold its space until the stream is removed.
                    self._prepared.unlink(missing_ok=True)
                # Last: whoever then reads an unlocked stream without an end knows that its writer died.
                self._writer_lock.release()

    def _end_records(self) -> None:
        """Record that the session is over: for that there is always room, if not for the events that wait."""
        end = encode_close(self.next_index)
        try:
            self._append(end, self.next_index, reserve=0)
        except SpoolError as error:
            if not self._untold_events:
                raise
            what = ", ".join(f"{each.kind} at frame {each.frame_index}" for each in self._untold_events)
            log.error("backend: %s, so the server does not get: %s", error, what)
            # The end matters more: without it the session would look like one whose recorder was killed.
            self._untold_events.clear()
            self._append(end, self.next_index, reserve=0)

    def look_for_files(self) -> None:
        """See whether the stream's files are still there, for `removed`: nothing else would show that they
        are not, because a removed file can be written. Raises OSError of a broken disk."""
        with self._sync_lock:  # it holds the file open
            unlinked = self._fd >= 0 and os.fstat(self._fd).st_nlink == 0
        self.removed = unlinked or not has_stream(self.stream_dir)

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
        return self._map is None

    @property
    def refusal(self) -> str | None:
        """Why frames are being lost; None while they are kept."""
        return self._refusal

    @property
    def wants_next(self) -> bool:
        """Whether a segment should be prepared: the current one is half full, or there is none."""
        return self._prepared is None and 2 * self._offset > self._end

    def prepare_next(self) -> None:
        """Allocate the next segment's disk space; slow, so call it in a separate thread. Raises OSError."""
        number = self._number + 1
        prepared = self._prepare(self.stream_dir, number, self._segment_bytes)
        with self._lock:
            if number == self._number + 1 and (self._map is not None or number == 0):
                self._prepared = prepared
            else:
                # The loop needed it sooner and made it itself, or the session has ended meanwhile.
                prepared.unlink(missing_ok=True)

    def _append(self, record: bytes, next_index: int, *, reserve: int = _RESERVE_BYTES) -> None:
        """Store a whole record, and before it the gap and the events that were not written yet. Raises
        SpoolError and stores none of them.

        Afterwards `next_index` is the stream's next.
        """
        if self._map is None:
            raise SpoolError("this session is closed")
        if self._untold_events:
            record = b"".join(encode_event(self.next_index, each) for each in self._untold_events) + record
        if self._untold is not None:
            record = self._untold.encode() + record
        end = self._offset + len(record)
        # All of it goes into the next segment, whose header names the first index in it.
        if end > self._end - reserve:
            self._next_segment()
            end = self._offset + len(record)
        start = self._offset
        self._map[start + _COMMIT_BYTES : end] = record[_COMMIT_BYTES:]
        # No call between these lines, so that no KeyboardInterrupt can come in between. Otherwise a reader
        # could see a record whose place is then given to another one.
        self._map[start : start + _COMMIT_BYTES] = record[:_COMMIT_BYTES]
        self._offset = end
        self.next_index = next_index
        self._untold = None
        if self._untold_events:
            self._untold_events, self._untold_bytes = [], 0

    def _next_segment(self) -> None:
        """Switch to the next segment. Raises SpoolError if there is none; `refusal` says why."""
        if self._prepared is None and self._refusal is not None and time.monotonic() < self._retry_at_s:
            raise SpoolError(self._refusal)
        try:
            if self._prepared is None:
                number = self._number + 1
                self._prepared = self._prepare(self.stream_dir, number, self._segment_bytes, quick=True)
            self._start_segment()
        except OSError as error:
            full = error.errno in FULL
            self._refusal = (
                "the disk of the spool is full" if full else f"the spool can't be written: {error.strerror}"
            )
            self._retry_at_s = time.monotonic() + _RETRY_S
            raise SpoolError(self._refusal) from error
        self._refusal = None

    def _start_segment(self) -> None:
        """Switch to the prepared segment: complete it under its prepared name, then make it visible to
        readers."""
        if self._prepared is None:
            raise AssertionError("no segment was prepared")
        first_index = self.next_index if self._untold is None else self._untold.first
        header = SegmentHeader(self._stream, first_index, *self._counts)
        fd = os.open(self._prepared, os.O_RDWR | os.O_CLOEXEC)
        try:
            mapped = mmap.mmap(fd, self._segment_bytes)
            mapped[:HEADER_BYTES] = header.encode()
            # After the header, so that readers never find a segment without one.
            os.rename(self._prepared, segment_path(self.stream_dir, self._number + 1))
        except OSError:
            os.close(fd)
            raise
        if self._map is not None:
            self._map.close()
            # The sync's thread closes it: to sync it here would stop the loop.
            self._left.append(self._fd)
        self._map, self._fd, self._prepared = mapped, fd, None
        self._number += 1
        self._offset, self._end = HEADER_BYTES, self._segment_bytes

    def _lose(self, count: int, reason: str) -> None:
        """Use up the indexes of missing frames, and record the gap now, or once records can be written
        again."""
        end = self.next_index + count
        if self._untold is None:
            self._untold = _Gap(self.next_index, end, reason[:_MAX_REASON_CHARACTERS])
        else:
            self._untold = self._untold.up_to(end)
        self.next_index = end
        # On a full disk the gap only grows in memory, and is written once, before the next record.
        if self._refusal is None:
            with suppress(SpoolError):
                self._append(b"", self.next_index)

    def _sync_left(self) -> None:
        fd = self._left.popleft()
        try:
            sync_data(fd)
        finally:
            os.close(fd)

    def _abandon(self) -> None:
        """In a forked child: the stream belongs to the parent."""
        self._map = self._prepared = None
        self._fd = -1
        # The parent's threads may have held them in the moment of the fork; nobody would ever release them
        # here.
        self._lock, self._sync_lock = threading.Lock(), threading.Lock()
        self._writer_lock.release()


def _abandon_all() -> None:
    for writer in list(_writers):
        writer._abandon()


os.register_at_fork(after_in_child=_abandon_all)
