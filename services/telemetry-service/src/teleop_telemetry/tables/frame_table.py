"""The one place that writes frames: watermark compare-and-set and COPY in one transaction."""

import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from teleop_runtime.postgres.pool import Connection, Pool, transaction
from teleop_schema.instants import instant_of

from teleop_telemetry.frames.block import FrameBlock
from teleop_telemetry.frames.columns import COLUMNS, encode_rows
from teleop_telemetry.tables.event_rows import store_events
from teleop_telemetry.tables.frame_partition import ensure_partition

TIMESTAMP = struct.Struct("<q")
# A disk under load takes seconds; a dead connection would take forever.
COMMIT_TIMEOUT_S = 30.0

# Rows that somebody else has locked are skipped and tried again later, so that nobody waits for them.
ADVANCE = """
WITH wanted AS (
    SELECT s.id, b.last, b.frame_time, b.untold
      FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::bigint[])
           AS b(id, epoch, first, last, frame_time, untold)
      JOIN teleop_session s ON s.id = b.id AND s.epoch = b.epoch AND s.next_frame_index = b.first
       -- Not FOR UPDATE, which would skip a session whenever a video chunk that refers to it is being added.
       FOR NO KEY UPDATE OF s SKIP LOCKED
)
UPDATE teleop_session s
   SET next_frame_index = wanted.last, last_commit_at = now(),
       -- A robot that comes back goes on with its session, even if it was taken for abandoned.
       status = 'recording', end_time = NULL, logged_frames = NULL,
       last_frame_time = coalesce(wanted.frame_time, s.last_frame_time),
       untold_times = s.untold_times + wanted.untold
  FROM wanted WHERE s.id = wanted.id
RETURNING s.id, s.epoch
"""

STORE_GAPS = """
INSERT INTO frame_gap (session_id, first_frame, end_frame, reason)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[])
"""

READ_WATERMARKS = "SELECT id, epoch, next_frame_index FROM teleop_session WHERE id = ANY($1::bigint[])"


# A session in one epoch, because a commit may also have frames of an older connection to the same session.
type ClaimedFrames = tuple[int, int]


@dataclass(frozen=True)
class Append:
    """Frames to add to one session, by a connection of that epoch."""

    session_id: int
    epoch: int
    block: FrameBlock

    @property
    def claim(self) -> ClaimedFrames:
        return self.session_id, self.epoch


@dataclass(frozen=True)
class Watermark:
    """The watermark and epoch of a session in the database."""

    epoch: int
    next: int


class FrameTable:
    """Writes to `teleop_frame`, and to everything that changes with it: watermark, gaps, events."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def append(self, appends: Sequence[Append]) -> set[ClaimedFrames]:
        """Commit frames of any number of connections, at most one Append each, all in one transaction.

        Returns the claims whose frames are now durable. If one is missing, the session has another epoch or
        watermark than the Append says, or its row was locked; nothing of it was stored. After an exception
        the outcome is unknown. Trying again is safe, because committed claims will then be missing in the
        result.
        """
        async with transaction(self._pool, timeout_s=COMMIT_TIMEOUT_S) as connection:
            # First: the row's lock keeps every other writer of the session away until the commit.
            advanced = await self._advance(connection, appends)
            stored = [append for append in appends if append.claim in advanced]
            await _copy(connection, stored)
            await _store_gaps(connection, stored)
            await store_events(
                connection, [(append.session_id, event) for append in stored for event in append.block.events]
            )
        return advanced

    async def watermarks(self, session_ids: Sequence[int]) -> Mapping[int, Watermark]:
        """The current watermarks and epochs of the sessions."""
        async with transaction(self._pool, timeout_s=COMMIT_TIMEOUT_S) as connection:
            rows = await connection.fetch(READ_WATERMARKS, session_ids)
        return {row["id"]: Watermark(row["epoch"], row["next_frame_index"]) for row in rows}

    async def ensure_partition(self, session_id: int) -> None:
        """Create the session's partition again; raises StorageUnavailable."""
        async with transaction(self._pool, timeout_s=COMMIT_TIMEOUT_S) as connection:
            await ensure_partition(connection, session_id)

    async def _advance(self, connection: Connection, appends: Sequence[Append]) -> set[ClaimedFrames]:
        rows = await connection.fetch(
            ADVANCE,
            [append.session_id for append in appends],
            [append.epoch for append in appends],
            [append.block.first for append in appends],
            [append.block.end for append in appends],
            [_last_time(append.block) for append in appends],
            [append.block.untold_times for append in appends],
        )
        return {(row["id"], row["epoch"]) for row in rows}


async def _copy(connection: Connection, appends: Sequence[Append]) -> None:
    if not any(append.block.runs for append in appends):
        return
    encoded = encode_rows([append.session_id for append in appends], [append.block for append in appends])

    async def source() -> AsyncIterator[bytes]:
        yield encoded

    await connection.copy_to_table("teleop_frame", source=source(), format="binary", columns=COLUMNS.names)


async def _store_gaps(connection: Connection, appends: Sequence[Append]) -> None:
    gaps = [(append.session_id, gap) for append in appends for gap in append.block.gaps]
    if gaps:
        await connection.execute(
            STORE_GAPS,
            [session_id for session_id, _ in gaps],
            [gap.first for _, gap in gaps],
            [gap.end for _, gap in gaps],
            [gap.reason for _, gap in gaps],
        )


def _last_time(block: FrameBlock) -> datetime | None:
    if not block.runs:
        return None
    (last_us,) = TIMESTAMP.unpack_from(block.runs[-1].timestamps, -TIMESTAMP.size)
    return instant_of(last_us)
