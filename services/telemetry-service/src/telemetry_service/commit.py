"""Brings frames into the database, whatever it takes, and tells each connection how it went."""

import asyncio
import time
from collections.abc import Sequence

import asyncpg
from msgspec import Struct
from msgspec.structs import replace
from teleop_runtime.logs import get_logger
from teleop_schema.errors import BackendError, Fenced

from telemetry_service import metrics
from telemetry_service.frame_block import FrameBlock
from telemetry_service.frame_table import Append, FrameTable, Watermark
from telemetry_service.writer import Writer

log = get_logger(__name__)

RETRY_FIRST_S = 0.1
RETRY_LAST_S = 2.0

# What the database says of content; all else is said of the database and passes.
REFUSALS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)


class OutOfStep(BackendError):
    """The database's watermark is not where this connection's next frame begins."""

    code, status, close_code = "out_of_step", 409, 4410

    def __init__(self, next_frame: int) -> None:
        super().__init__(f"the database expects frame {next_frame}")
        self.next = next_frame


class FrameExists(BackendError):
    """A frame above the watermark is in the table already; somebody else writes to it."""

    code, status, retryable = "frame_exists", 500, False


class Share(Struct, frozen=True):
    """What one writer has in one commit.

    held_bytes  what the batcher counts for it until it is settled
    """

    writer: Writer
    block: FrameBlock
    held_bytes: int

    def of(self, block: FrameBlock) -> "Share":
        """The same writer's share with other content."""
        return self if block is self.block else Share(self.writer, block, self.held_bytes)


class Commit:
    """Commits and their retries.

    While the database is away the same frames are tried again, forever: the robots wait, nothing is lost,
    and memory is bounded by the batcher. A commit whose outcome is unknown is tried again too; the
    watermark then tells what had been committed.
    """

    def __init__(self, table: FrameTable) -> None:
        self._table = table

    async def settle(self, shares: Sequence[Share]) -> list[Share]:
        """Return once every share has succeeded or failed.

        The answer is the shares of which neither can be said yet, because somebody else holds their
        session's row: they must not keep the others waiting.
        """
        locked: list[Share] = []
        delay_s = RETRY_FIRST_S
        while shares:
            try:
                shares = await self._try(shares, locked)
            except asyncpg.UniqueViolationError as error:
                return locked + await self._apart(shares, FrameExists(str(error)))
            except REFUSALS as error:
                return locked + await self._apart(shares, error)
            except Exception as error:
                metrics.COMMIT_FAILURES.inc()
                log.warning("commit failed, trying again", error=repr(error), sessions=len(shares))
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, RETRY_LAST_S)
        return locked

    async def _try(self, shares: Sequence[Share], locked: list[Share]) -> list[Share]:
        """One transaction; returns the shares of which a part is still to be stored, adds to `locked`."""
        begun = time.perf_counter()
        appends = [Append(share.writer.session_id, share.writer.epoch, share.block) for share in shares]
        stored = await self._table.append(appends)
        refused = []
        rows = 0
        for share in shares:
            if (share.writer.session_id, share.writer.epoch) in stored:
                rows += share.block.rows
                share.writer.succeed(share.block.end)
                for gap in share.block.gaps:
                    metrics.FRAMES_MISSING.inc(gap.end - gap.first)
            else:
                refused.append(share)
        metrics.FRAMES_COMMITTED.inc(rows)
        metrics.COMMIT_ROWS.observe(rows)
        metrics.COMMIT_SECONDS.observe(time.perf_counter() - begun)
        log.debug("committed", rows=rows, sessions=len(stored))
        if not refused:
            return []
        watermarks = await self._table.watermarks([share.writer.session_id for share in refused])
        rests = [_resolve(share, watermarks.get(share.writer.session_id)) for share in refused]
        locked += [rest for rest, share in zip(rests, refused, strict=True) if rest is share]
        return [rest for rest, share in zip(rests, refused, strict=True) if rest and rest is not share]

    async def _apart(self, shares: Sequence[Share], error: Exception) -> list[Share]:
        """Find what the database refuses and store the rest; a frame that it refuses becomes a named gap."""
        if len(shares) > 1:
            middle = len(shares) // 2
            return await self.settle(shares[:middle]) + await self.settle(shares[middle:])
        [share] = shares
        writer, block = share.writer, share.block
        if isinstance(error, FrameExists) or not (block.rows or block.events):
            log.error("frames refused", session=writer.session_id, error=str(error))
            writer.fail(error)
            return []
        for part in _parts(block, writer.session_id, error):
            if await self.settle([share.of(part)]):
                return [share]
            if writer.failure is not None:
                break
        return []


def _resolve(share: Share, watermark: Watermark | None) -> Share | None:
    """The part of a refused share that can still be stored, None when its fate is known.

    All of it, where the database stands as the share says: then its row was locked.
    """
    if watermark is None or watermark.epoch != share.writer.epoch:
        share.writer.fail(Fenced())
    elif watermark.next == share.block.first:
        return share
    elif watermark.next >= share.block.end:
        share.writer.succeed(watermark.next)
    elif watermark.next < share.block.first:
        share.writer.fail(OutOfStep(watermark.next))
    else:
        return share.of(share.block.between(watermark.next, share.block.end))
    return None


def _parts(block: FrameBlock, session_id: int, error: Exception) -> list[FrameBlock]:
    """What to store, in this order, instead of a block that the database refuses.

    Events go first, because they are told again only until their frames are acknowledged.
    """
    only_events = FrameBlock(first=block.first, end=block.first, runs=(), events=block.events)
    if block.first < block.end and block.events:
        return [only_events, replace(block, events=())]
    if len(block.events) == 1:
        log.error("event refused", session=session_id, told=repr(block.events[0]), error=str(error))
        return []
    if block.events:
        return [replace(only_events, events=(event,)) for event in block.events]
    if block.end - block.first == 1:
        log.error("frame refused", session=session_id, frame=block.first, error=str(error))
        return [block.without({block.first: f"refused: {error}"})]
    middle = (block.first + block.end) // 2
    return [block.between(block.first, middle), block.between(middle, block.end)]
