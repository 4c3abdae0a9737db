"""Recorded frames, read ahead of what is being written."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from teleop_export.errors import RecordingChanged
from teleop_export.planning.pieces import Piece, frames_at_once
from teleop_export.timing.loop_times import Integers


@dataclass(frozen=True)
class Fetched:
    """Some pieces of a session, with exactly their frames, one piece after the other.

    index, taken_us  (N,) of all frames around these: which iteration each is, and when it was taken, us since
                     the Unix epoch, robot's clock
    """

    pieces: Sequence[Piece]
    frames: pa.Table
    index: Integers
    taken_us: Integers


class Reader(Protocol):
    """teleop_runtime.postgres.frames.FrameReader, as far as it is needed here."""

    def read(
        self, session_id: int, first: int, end: int, *, state_width: int, action_width: int
    ) -> pa.Table: ...


def read_pieces(
    reader: Reader,
    pieces: Sequence[Piece],
    *,
    state_width: int,
    action_width: int,
    column_bytes: int = 0,
    around: Mapping[int, int] | None = None,
) -> Iterator[Fetched]:
    """The pieces in order, some at a time.

    around  of each session: times of so many iterations before these pieces, and after them, are wanted, too

    A fetch holds frames_at_once, or one longer piece; the next one runs while the caller works on this one,
    so that at most two are in memory. Raises RecordingChanged.
    """

    def fetch(batch: Sequence[Piece]) -> Fetched:
        session = batch[0].session_id
        more = (around or {}).get(session, 0)
        table = reader.read(
            session,
            max(0, batch[0].first - more),
            batch[-1].end + more,
            state_width=state_width,
            action_width=action_width,
        )
        taken_us = table.column("timestamp").cast(pa.int64()).to_numpy()
        return Fetched(batch, _cut(table, batch), table.column("frame_index").to_numpy(), taken_us)

    with ThreadPoolExecutor(1, thread_name_prefix="read-frames") as thread:
        batches = list(_batches(pieces, frames_at_once(column_bytes)))
        ahead = thread.submit(fetch, batches[0])
        for following in [*batches[1:], None]:
            # Not kept here while the caller works on it: it may let go of it before it is done.
            fetched = [ahead.result()]
            ahead = thread.submit(fetch, following) if following else Future()
            yield fetched.pop()


def _batches(pieces: Sequence[Piece], most: int) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    for piece in pieces:
        # A split may have mixed the pieces, and a read has one range of frames, ascending.
        apart = batch and (
            piece.session_id != batch[0].session_id
            or piece.first < batch[-1].end
            or piece.end - batch[0].first > most
        )
        if apart:
            yield batch
            batch = []
        batch.append(piece)
    yield batch


def _cut(table: pa.Table, pieces: Sequence[Piece]) -> pa.Table:
    """The rows of `pieces`. Frame indexes are unique and ascending, so as many as there should be are those
    that should be there."""
    indexes = table.column("frame_index").to_numpy()
    parts = []
    for piece in pieces:
        begin, end = np.searchsorted(indexes, [piece.first, piece.end]).tolist()
        part = table.slice(begin, end - begin)
        if piece.pauses:
            part = part.filter(pa.array(piece.holds(indexes[begin:end])))
        if len(part) != piece.frames:
            raise RecordingChanged(
                f"only {len(part)} of the frames {piece.first} to {piece.end - 1} of "
                f"session {piece.session_id} are left"
            )
        parts.append(part)
    if sum(map(len, parts)) == len(table):
        return table.combine_chunks()
    return pa.concat_tables(parts).combine_chunks()
