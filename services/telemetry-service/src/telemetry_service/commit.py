"""Brings frames into the database, whatever it takes, and tells each connection how it went."""

import asyncio
import time
from collections.abc import Sequence

import asyncpg
from msgspec import Struct
from teleop_runtime.logs import get_logger
from teleop_schema.errors import BackendError, Fenced

from telemetry_service import metrics
from telemetry_service.frame_block import FrameBlock
from telemetry_service.frame_table import Append, FrameTable, Watermark
from telemetry_service.writer import Writer

log = get_logger(__name__)

RETRY_FIRST_S = 0.1
RETRY_LAST_S = 2.0


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
    """What one writer has in one commit."""

    writer: Writer
    block: FrameBlock


class Commit:
    """One commit and its retries.

    While the database is away the same frames are tried again, forever: the robots wait, nothing is lost,
    and memory is bounded by the batcher. A commit whose outcome is unknown is tried again too; the
    watermark then tells what had been committed.
    """

    def __init__(self, table: FrameTable) -> None:
        self._table = table

    async def settle(self, shares: Sequence[Share]) -> None:
        """Return once every share has succeeded or failed."""
        delay_s = RETRY_FIRST_S
        while shares:
            try:
                shares = await self._try(shares)
            except asyncpg.UniqueViolationError as error:
                await self._apart(shares, FrameExists(str(error)))
                return
            except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
                await self._apart(shares, error)
                return
            except Exception as error:
                # asyncpg raises errors outside of its own tree after a lost connection.
                metrics.COMMIT_FAILURES.inc()
                log.warning("commit failed, trying again", error=repr(error), sessions=len(shares))
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, RETRY_LAST_S)

    async def _try(self, shares: Sequence[Share]) -> list[Share]:
        """One transaction; returns the shares of which a part is still to be stored."""
        begun = time.perf_counter()
        appends = [Append(share.writer.session_id, share.writer.epoch, share.block) for share in shares]
        stored = await self._table.append(appends)
        refused = []
        rows = 0
        for share in shares:
            if share.writer.session_id in stored:
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
        return [
            rest for share in refused if (rest := _resolve(share, watermarks.get(share.writer.session_id)))
        ]

    async def _apart(self, shares: Sequence[Share], error: Exception) -> None:
        """Find the frame that the database refuses and store it as a named gap, the others as they are."""
        if len(shares) > 1:
            for share in shares:
                await self.settle([share])
            return
        [share] = shares
        writer, block = share.writer, share.block
        if isinstance(error, FrameExists) or not block.rows:
            log.error("frames refused", session=writer.session_id, error=str(error))
            writer.fail(error)
        elif block.end - block.first == 1:
            log.error("frame refused", session=writer.session_id, frame=block.first, error=str(error))
            await self.settle([Share(writer, block.without(block.first, f"refused: {error}"))])
        else:
            middle = (block.first + block.end) // 2
            await self.settle([Share(writer, block.between(block.first, middle))])
            if writer.failure is None:
                await self.settle([Share(writer, block.between(middle, block.end))])


def _resolve(share: Share, watermark: Watermark | None) -> Share | None:
    """The part of a refused share that can still be stored, None when its fate is known."""
    if watermark is None or watermark.epoch != share.writer.epoch:
        share.writer.fail(Fenced())
    elif watermark.next >= share.block.end:
        share.writer.succeed(watermark.next)
    elif watermark.next < share.block.first:
        share.writer.fail(OutOfStep(watermark.next))
    else:
        return Share(share.writer, share.block.between(watermark.next, share.block.end))
    return None
