"""Reading end of a stream: batches of frames in order, while it is written, and around damage."""

from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from teleop_schema.decoding import DECODE_ERRORS
from teleop_schema.limits import Limits
from teleop_schema.messages import Batch, Event

from lerobot_robot_backend.shipping.open_segment import OpenSegment
from lerobot_robot_backend.spool.locks import LockWatch, is_locked
from lerobot_robot_backend.spool.record import (
    NOTHING_BEYOND,
    DamagedRecord,
    FrameExtras,
    Record,
    RecordKind,
    decode_beyond,
    decode_event,
)
from lerobot_robot_backend.spool.segment import adopt_prepared, find_segments
from lerobot_robot_backend.spool.stream import GONE, WRITER_LOCK, SpoolError, StreamEnd, read_stream
from lerobot_robot_backend.video.files import ENCODER_LOCK, without_video

# The largest count that a message can have; a longer gap is sent in parts.
_MAX_GAP = 2**32
# Space in a message for everything but frames: field names, one reason.
_MESSAGE_MARGIN_BYTES = 8 * 1024
# The sync is due every 40 ms; `status` shows a disk that takes seconds for it.
LOST_AT_MOST_S = 5.0


class SpoolReader:
    """Reads one stream from any frame on. Only one process may read a stream, with one reader at a time.

    next_index  the frame that the next batch begins with
    damage      the damage found so far, for the log
    """

    def __init__(self, stream_dir: Path) -> None:
        """Raises SpoolError if the directory holds no stream."""
        self.description = read_stream(stream_dir)
        # Opened once: if somebody removes the folder, what is still open can be read to its end.
        self._writer = LockWatch(stream_dir / WRITER_LOCK)
        # While it lives, a prepared segment is about to get its name from the writer itself.
        if not self._writer.locked:
            try:
                adopt_prepared(stream_dir)
            except OSError as error:
                self._writer.close()
                raise SpoolError(f"{stream_dir} can't be tidied up: {error.strerror}") from error
        self.next_index = 0
        self.damage: list[str] = []
        self._stream_dir = stream_dir
        session = self.description.session
        self._state_bytes = 4 * len(session.state_names)
        self._vector_bytes = self._state_bytes + 4 * len(session.action_names)
        self._segment: OpenSegment | None = None
        self._suspect: tuple[int, int] | None = None
        self._damaged: str | None = None
        self._pending: Record | None = None
        self._events: list[Event] = []
        self._over: Literal["closed", "writer_died"] | None = None

    def seek(self, index: int) -> None:
        """Make `index` the frame that the next batch begins with, including the events before it."""
        self.next_index = index
        self._suspect = self._pending = self._over = None
        self._events = []
        self._damaged = None
        self._close_segment()
        # From the last one back: `index` is nearly always near the end. A damaged header can't be trusted.
        for number, path in reversed(find_segments(self._stream_dir).items()):
            segment = OpenSegment(number, path)
            if segment.first_index is not None and segment.first_index <= index:
                self._segment = segment
                return
            segment.close()

    def read(self, limits: Limits) -> Batch | None:
        """The next frames, as many as the limits allow; None if there are none at present.

        A batch is either frames or a gap. After None, `end` says whether the stream is over.
        """
        frames: list[Record] = []
        budget = limits.max_message_bytes - _MESSAGE_MARGIN_BYTES
        while len(frames) < limits.max_frames:
            record = self._pending or self._next_record()
            self._pending = None
            if record is None:
                break
            if record.kind == RecordKind.EVENT:
                self._take_event(record)
                budget -= record.size
                continue
            if record.kind != RecordKind.FRAME or record.index != self.next_index + len(frames):
                # A gap, the end, or frames that are missing: first send what came before.
                if frames:
                    self._pending = record
                    break
                if gap := self._take_gap(record):
                    return gap
                continue
            budget -= record.size
            # A single frame goes whatever its size: if no message can hold it, it becomes a gap when it is
            # encoded.
            if frames and budget < 0:
                self._pending = record
                break
            self._mark_damage(record.index)
            frames.append(record)
        return self._make_batch(frames) if frames else None

    def furthest(self) -> int:
        """One past the highest frame index that anybody can have of this stream, judged by the disk.

        A power loss may take records from the disk that the server already has. If the writer ended without
        closing the stream, as many frames as fit into LOST_AT_MOST_S may be missing here.
        """
        # What a living process wrote is in the memory of the system, whether it is on disk or not.
        whole = self._writer.locked
        logged = 0
        for number, path in reversed(find_segments(self._stream_dir).items()):
            with closing(OpenSegment(number, path)) as segment:
                logged, closed = segment.look_through(logged)
                whole = whole or closed
                if segment.first_index is not None:
                    break
        return logged + (0 if whole else round(self.description.session.fps * LOST_AT_MOST_S))

    @property
    def end(self) -> StreamEnd | None:
        """The stream's end, once everything has been read and nobody writes it any more; None until then.

        A recorder that was killed could not say which of its cameras have no video. Therefore they are named
        here, once its encoder has finished.
        """
        if self._over is None:
            return None
        events = tuple(self._events)
        if self._over == "writer_died":
            # It may still finish video of a camera that has none so far.
            if is_locked(self._stream_dir / ENCODER_LOCK):
                return None
            cameras = self.description.session.cameras.keys() - {event.camera for event in events}
            events += without_video(self._stream_dir, cameras, self.next_index)
        return StreamEnd(self.next_index, self._over, events)

    def close(self) -> None:
        """Close the files."""
        self._close_segment()
        self._writer.close()

    def _mark_damage(self, index: int) -> None:
        """There was damage but no frame is missing, so the damaged record was an event."""
        if self._damaged is not None:
            note = f"an event is lost: {self._damaged}"
            self._events.append(Event(kind="mark", frame_index=index, note=note))
            self._damaged = None

    def _take_event(self, record: Record) -> None:
        # Told already: a rewind starts at a segment's beginning.
        if record.index < self.next_index:
            return
        try:
            self._events.append(decode_event(record))
        except DECODE_ERRORS as error:
            self.damage.append(f"an event before frame {record.index} can't be read: {error}")

    def _take_gap(self, record: Record) -> Batch | None:
        """The gap that `record` is, or that lies before it; in that case the record comes again."""
        first = self.next_index
        # Sent already: a segment is read from its beginning, whatever frame was asked for.
        if record.kind == RecordKind.FRAME and record.index < first:
            return None
        if record.index > first:
            self._pending = record
            end, reason = record.index, self._damaged or GONE
            self._damaged = None
        elif record.kind == RecordKind.GAP:
            end, reason = record.end, record.tail().decode("utf-8", "replace")
        else:  # CLOSE, at the right place
            self._mark_damage(first)
            self._over = "closed"
            return None
        if end <= first:
            return None
        count = min(end - first, _MAX_GAP)
        if count < end - first:  # the rest of it comes with the same record again
            self._pending = record
        self.next_index = first + count
        return Batch(first=first, count=count, gap=reason, events=self._take_events())

    def _make_batch(self, frames: list[Record]) -> Batch:
        first = self.next_index
        self.next_index += len(frames)
        split, end = self._state_bytes, self._vector_bytes
        extra: dict[int, dict[str, Any]] = {}
        ages_us: dict[int, int] = {}
        columns: dict[int, bytes] = {}
        for offset, frame in enumerate(frames):
            if frame.tail_size:
                beyond = self._beyond(frame, end)
                if beyond.extra:
                    extra[offset] = beyond.extra
                if beyond.observation_age_us:
                    ages_us[offset] = beyond.observation_age_us
                if beyond.columns:
                    columns[offset] = beyond.columns
        return Batch(
            first=first,
            count=len(frames),
            timestamps=b"".join(frame.number.to_bytes(8, "little", signed=True) for frame in frames),
            state=b"".join(frame.body[:split] for frame in frames),
            action=b"".join(frame.body[split:end] for frame in frames),
            extra=extra,
            observation_ages_us=ages_us,
            columns=columns,
            events=self._take_events(),
        )

    def _beyond(self, frame: Record, vectors_size: int) -> FrameExtras:
        """What a frame has beyond its vectors; nothing, and a word about it, if that can't be read."""
        try:
            return decode_beyond(frame, vectors_size)
        except DECODE_ERRORS as error:
            self.damage.append(f"of frame {frame.index} only state and action can be read: {error}")
            return NOTHING_BEYOND

    def _take_events(self) -> tuple[Event, ...]:
        events, self._events = tuple(self._events), []
        return events

    def _next_record(self) -> Record | None:
        """The record at the current position, skipping damage and ends of segments; None
        if there is none now."""
        while self._over is None:
            if self._segment is not None:
                try:
                    if record := self._segment.read():
                        return record
                except DamagedRecord:
                    pass  # checked again below
            if not self._go_on():
                return None
        return None

    def _go_on(self) -> bool:
        """Nothing can be read here: move on, or find that the stream is over. False: wait for the writer."""
        # Asked before looking again: once the writer is dead, what is not there will never be there.
        alive = self._writer.locked
        segment = self._segment
        if segment is None:
            return self._open_or_end(find_segments(self._stream_dir), alive=alive)
        try:
            segments = find_segments(self._stream_dir)
        except FileNotFoundError:  # removed or moved: only the open segment can still be read
            segments = {}
        later = {number: path for number, path in segments.items() if number > segment.number}
        what = "zeros where a record should be"
        try:
            if segment.peek():
                return True
        except DamagedRecord as error:
            what = str(error)
        else:
            if alive and not later:
                return False
            # Nobody writes here any more: zeros in between are damage, zeros at the end are not.
            if not segment.find_record():
                return self._open_or_end(later, alive=alive)
        return self._skip_damage(segment, what, alive=alive, later=later)

    def _skip_damage(self, segment: OpenSegment, what: str, *, alive: bool, later: dict[int, Path]) -> bool:
        """Continue after a damaged place; False if it may be a record that is being written right now."""
        place = segment.number, segment.offset
        # What is being written right now may look like damage; nobody takes two looks to write a record.
        if alive and not later and self._suspect != place:
            self._suspect = place
            return False
        found = segment.find_record()
        if not found and not later:
            # At the end is the record during which its writer died; that log() never returned.
            return self._open_or_end({}, alive=alive)
        self._damaged = f"{segment.path.name} is damaged at byte {segment.offset}: {what}"
        self.damage.append(self._damaged)
        if found:
            segment.offset = found
        else:
            self._open_next(later)
        return True

    def _open_or_end(self, segments: dict[int, Path], *, alive: bool) -> bool:
        """Open the first of `segments`; False if there is none: then the stream is over, unless `alive`."""
        if segments:
            self._open_next(segments)
        elif not alive:
            self._over = "writer_died"
        return bool(segments)

    def _open_next(self, segments: dict[int, Path]) -> None:
        self._close_segment()
        number, path = next(iter(segments.items()))
        self._segment = OpenSegment(number, path)
        if self._segment.first_index is None:
            self._damaged = f"the header of {path.name} is damaged"
            self.damage.append(self._damaged)

    def _close_segment(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None
