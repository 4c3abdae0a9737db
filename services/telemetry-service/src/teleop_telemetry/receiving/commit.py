"""Brings frames into the database, whatever it takes, and tells each connection how it went."""

import asyncio
import time
from collections.abc import Sequence

import asyncpg
from msgspec import Struct
from msgspec.structs import replace
from teleop_runtime.logs import get_logger
from teleop_schema.errors import BackendError, Fenced

from teleop_telemetry import metrics
from teleop_telemetry.frames.block import FrameBlock
from teleop_telemetry.receiving.trouble import Trouble, is_of_the_database
from teleop_telemetry.receiving.writer import Writer
from teleop_telemetry.tables.frame_table import Append, FrameTable, Watermark

log = get_logger(__name__)

RETRY_FIRST_S = 0.1
RETRY_LAST_S = 2.0
# Failures of one kind in a row: what passes with the first retry is no trouble that anybody has to hear of;
# after so many, what the frames themselves may be the reason of is looked for in them.
TROUBLE_AFTER = 2
SIFT_AFTER = 4
# Frames of one share that are given up, for a reason of unknown class, before its writer is refused instead.
MAX_SIFTED = 64

# What the database says of content; all else is said of the database and passes.
REFUSALS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)


class OutOfStep(BackendError):
    """The database's watermark does not match this connection's next frame."""

    code, status, close_code, retryable = "out_of_step", 409, 4410, True

    def __init__(self, next_frame: int) -> None:
        super().__init__(f"the database expects frame {next_frame}")
        self.next = next_frame


class FrameExists(BackendError):
    """A frame above the watermark is already in the table: another writer is using it."""

    code, status, retryable = "frame_exists", 500, False


class Unstorable(BackendError):
    """This robot's frames can't be stored; it keeps them and sends them again."""

    code, status, close_code, retryable = "unstorable", 500, 1011, True


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

    trouble  why frames can't be committed now
    """

    def __init__(self, table: FrameTable) -> None:
        self._table = table
        self.trouble = Trouble()

    async def settle(self, shares: Sequence[Share], *, sift_after: int = SIFT_AFTER) -> list[Share]:
        """Return once every share has succeeded or failed.

        The answer is the shares of which neither can be said yet, because somebody else holds their
        session's row, or because the table itself takes none of their frames, of which `trouble` tells under
        their writer: they must not keep the others waiting.

        sift_after  failures in a row, of one unknown kind, after which the culprit is looked for
        """
        attempt = object()
        try:
            return await self._settle(shares, sift_after, attempt)
        finally:
            self.trouble.ends(attempt)

    async def _settle(self, shares: Sequence[Share], sift_after: int, attempt: object) -> list[Share]:
        locked: list[Share] = []
        delay_s = RETRY_FIRST_S
        failures: list[str] = []
        while shares:
            try:
                shares = await self._try(shares, locked)
                continue
            except asyncpg.UniqueViolationError as error:
                return locked + await self._apart(shares, FrameExists(str(error)))
            except REFUSALS as error:
                if is_of_the_database(error):
                    return locked + await self._hold(shares, error)
                return locked + await self._apart(shares, error)
            except Exception as error:
                failures = [*(failures if _kind(error) in failures[-1:] else ()), _kind(error)]
                if not is_of_the_database(error) and len(failures) >= sift_after:
                    return locked + await self._sift(shares, error)
                self._note_failure(error, len(failures), shares, attempt)
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, RETRY_LAST_S)
        return locked

    def _note_failure(
        self, error: Exception, failures: int, shares: Sequence[Share], attempt: object
    ) -> None:
        metrics.COMMIT_FAILURES.inc()
        log.warning("commit failed, trying again", error=repr(error), sessions=len(shares))
        if failures >= TROUBLE_AFTER:
            self.trouble.begins(attempt, error)

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

    async def _halves(self, shares: Sequence[Share], *, sift_after: int = SIFT_AFTER) -> list[Share]:
        """Settle each half by itself: what troubles one share then holds up its half only."""
        middle = len(shares) // 2
        return [
            *await self.settle(shares[:middle], sift_after=sift_after),
            *await self.settle(shares[middle:], sift_after=sift_after),
        ]

    async def _hold(self, shares: Sequence[Share], error: Exception) -> list[Share]:
        """Store what the table takes; the shares of which it takes nothing wait until it does."""
        if len(shares) > 1:
            return await self._halves(shares)
        [share] = shares
        if isinstance(error, asyncpg.CheckViolationError) and not error.constraint_name:
            # The partition is gone.
            try:
                await self._table.ensure_partition(share.writer.session_id)
            except Exception as reason:
                error = reason
        metrics.COMMIT_FAILURES.inc()
        log.warning("frames wait for their table", session=share.writer.session_id, error=repr(error))
        self.trouble.begins(share.writer, error)
        return [share]

    async def _apart(self, shares: Sequence[Share], error: Exception) -> list[Share]:
        """Find what the database refuses and store the rest; a frame that it refuses becomes a named gap."""
        if len(shares) > 1:
            return await self._halves(shares)
        [share] = shares
        writer, block = share.writer, share.block
        if isinstance(error, FrameExists) or not (block.rows or block.events):
            log.error("frames refused", session=writer.session_id, error=str(error))
            writer.fail(error)
            return []
        if not block.events:
            return await self._sift_frames(share, error)
        for part in _parts(block, writer.session_id, error):
            if await self.settle([share.of(part)]):
                return [share]
            if writer.failure is not None:
                break
        return []

    async def _sift(self, shares: Sequence[Share], error: Exception) -> list[Share]:
        """Find who holds up the others, again and again, for a reason that may lie in its frames."""
        if len(shares) == 1:
            return await self._sift_frames(shares[0], error)
        return await self._halves(shares, sift_after=1)

    async def _sift_frames(self, rest: Share, error: Exception) -> list[Share]:
        """Store what can be stored of one robot's frames, from the front.

        A frame is given up as a named gap only in one transaction with a frame of the same robot that could
        be stored, or after such frames: else the reason may be the table's, and the robot is refused, which
        keeps all that it has.
        """
        given_up, stored_any = -1, False
        for _ in range(2 * MAX_SIFTED):
            first = rest.block.first
            try:
                left = await self._store_front(rest, least=1 if stored_any or given_up < first else 2)
            except _Unclear as unclear:
                return await self.settle([rest]) if unclear.again else [rest]
            except Exception:
                return await self.settle([rest])
            if left is None or rest.writer.failure is not None:
                return []
            if left is not rest:
                rest, stored_any = left, True
            elif given_up == first:
                break
            else:
                given_up = first
                log.error("frame refused", session=rest.writer.session_id, frame=first, error=repr(error))
                rest = rest.of(rest.block.without({first: f"refused: {error}"}))
        rest.writer.fail(Unstorable(f"frames from {rest.block.first} on can't be stored: {error}"))
        log.error("writer refused", session=rest.writer.session_id, frame=rest.block.first, error=repr(error))
        return []

    async def _store_front(self, share: Share, *, least: int) -> Share | None:
        """Store the longest front part that can be, of `least` frames or more; returns what is left.

        None: nothing is left. The same share: nothing could be stored.
        """
        block = share.block
        frames = block.end - block.first
        while frames >= least:
            part = block.between(block.first, block.first + frames)
            if await self._could_store(share.of(part)):
                return share.of(block.between(part.end, block.end)) if part.end < block.end else None
            frames //= 2
        return share

    async def _could_store(self, share: Share) -> bool:
        """One attempt; raises what lies with the database, or _Unclear."""
        locked: list[Share] = []
        try:
            again = await self._try([share], locked)
        except Exception as error:
            if is_of_the_database(error):
                raise
            return False
        if again or locked:
            raise _Unclear(again=bool(again))
        return True


class _Unclear(Exception):
    """The session's row was locked, or its watermark has moved."""

    def __init__(self, *, again: bool) -> None:
        self.again = again


def _kind(error: Exception) -> str:
    return f"{type(error).__name__} {getattr(error, 'sqlstate', '')}"


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
    """What to store, in this order, instead of a block with events that the database refuses.

    Events go first, because they are told again only until their frames are acknowledged.
    """
    only_events = FrameBlock(first=block.first, end=block.first, runs=(), events=block.events)
    if block.first < block.end and block.events:
        return [only_events, replace(block, events=())]
    if len(block.events) == 1:
        log.error("event refused", session=session_id, told=repr(block.events[0]), error=str(error))
        return []
    return [replace(only_events, events=(event,)) for event in block.events]
