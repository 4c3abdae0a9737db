"""Stores frames in the database, however many attempts it takes, and tells each connection the result."""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence

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

# A restart of PostgreSQL takes a second or two: frames are safe soon after it.
RETRY_FIRST_S = 0.1
# During a longer absence, the log gets a line every two seconds.
RETRY_LAST_S = 2.0
# Failures of one kind in a row. One that ends with the first retry is not reported to anybody;
# after this many, the cause is searched in the frames themselves, if it may be there.
TROUBLE_AFTER = 2
SIFT_AFTER = 4
# Frames of one share that are given up for an unknown kind of reason, before its writer is refused instead.
MAX_SIFTED = 64

# Errors that are about content; all others are about the database, and pass.
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
    """The frames of one writer in one commit.

    held_bytes  bytes that the batcher counts for it until it is settled
    """

    writer: Writer
    block: FrameBlock
    held_bytes: int

    def of(self, block: FrameBlock) -> "Share":
        """The same writer's share with other content."""
        return self if block is self.block else Share(self.writer, block, self.held_bytes)


class Group(Struct, frozen=True):
    """Shares that are tried together: one transaction.

    whole       the share of which this is a part; if the part is locked, the whole share is
    sift_after  failures in a row, of one unknown kind, after which to search for the culprit
    """

    shares: tuple[Share, ...]
    whole: Share | None = None
    sift_after: int = SIFT_AFTER

    def of(self, *shares: Share) -> "Group":
        """A group with other shares instead, whose failures count from zero again."""
        return Group(shares, self.whole)

    def halves(self, *, sift_after: int = SIFT_AFTER) -> list["Retry"]:
        """The two halves; trouble with one share then holds up only its half."""
        middle = len(self.shares) // 2
        parts = self.shares[:middle], self.shares[middle:]
        return [Retry(Group(part, self.whole, sift_after)) for part in parts]


class Settled(Struct, frozen=True):
    """A share was stored or refused, and its writer knows."""


class Retry(Struct, frozen=True):
    """These groups must be tried before all others."""

    group: Group


class Locked(Struct, frozen=True):
    """This share is neither stored nor refused yet, and the others do not wait for it.

    Somebody else has locked its session's row, or the table accepts none of its frames; `trouble` then has
    the reason under its writer.
    """

    share: Share


type Result = Settled | Retry | Locked
SETTLED = Settled()


class Commit:
    """Commits and their retries: a queue of groups of shares, each of which comes to one of three results.

    ::

        waiting ─┬─ stored; another connection's stream; an event or frame of it refused ──> Settled
          ^      ├─ its session's row is held by somebody else ────────────────────────────> Locked
          │      ├─ its table takes nothing ────────────┬─ the group is this share alone ──> Locked
          │      ├─ the database refuses the content ───┼─ alone, with events ─────────────> Retry, in parts
          │      ├─ the same failure again and again ───┼─ alone ──> sifted frame by frame:
          │      │                                      │            Settled, or Retry of what is left
          │      │                                      └─ among others ───────────────────> Retry, in halves
          │      ├─ a part of it was stored before ────────────────────────────────────────> Retry of the rest
          │      └─ the database is away: the same again, after a while
          └──────── Retry

    While the database is away, the same frames are tried again, forever: the robots wait, nothing is lost,
    and the batcher limits the memory. A commit whose outcome is unknown is tried again too; the watermark
    then shows what was committed.

    trouble  why frames can't be committed now
    """

    def __init__(self, table: FrameTable) -> None:
        self._table = table
        self.trouble = Trouble()

    async def settle(self, shares: Sequence[Share]) -> list[Share]:
        """Commit until every share is settled or locked; returns those that are locked."""
        # Stands for this commit in `trouble`, where several may fail at the same time.
        attempt = object()
        locked: dict[Writer, Share] = {}
        queue = deque([Group(tuple(shares))])
        try:
            while queue:
                group = queue.popleft()
                if _is_in_vain(group, locked):
                    continue
                again: list[Group] = []
                for result in await self._results(group, attempt):
                    match result:
                        case Retry():
                            again.append(result.group)
                        case Locked():
                            locked[result.share.writer] = group.whole or result.share
                # Ahead of the others and in their order: the parts of a share must be stored one after the
                # other.
                queue.extendleft(reversed(again))
        finally:
            self.trouble.ends(attempt)
        return list(locked.values())

    async def _results(self, group: Group, attempt: object) -> Sequence[Result]:
        """Try a group until the database has accepted or refused its content."""
        delay_s = RETRY_FIRST_S
        failures: list[str] = []
        while True:
            try:
                return await self._try(group)
            except asyncpg.UniqueViolationError as error:
                return await self._apart(group, FrameExists(str(error)))
            except REFUSALS as error:
                return await (self._hold if is_of_the_database(error) else self._apart)(group, error)
            except Exception as error:
                failures = [*(failures if _kind(error) in failures[-1:] else ()), _kind(error)]
                if not is_of_the_database(error) and len(failures) >= group.sift_after:
                    return await self._sift(group, error)
                self._note_failure(error, len(failures), group, attempt)
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, RETRY_LAST_S)

    def _note_failure(self, error: Exception, failures: int, group: Group, attempt: object) -> None:
        metrics.COMMIT_FAILURES.inc()
        log.warning("commit failed, trying again", error=repr(error), sessions=len(group.shares))
        if failures >= TROUBLE_AFTER:
            self.trouble.begins(attempt, error)

    async def _try(self, group: Group) -> list[Result]:
        """One transaction; all of its shares that must be tried again are one result."""
        begun = time.perf_counter()
        appends = [Append(share.writer.session_id, share.writer.epoch, share.block) for share in group.shares]
        stored = await self._table.append(appends)
        refused = []
        rows = 0
        for share in group.shares:
            if (share.writer.session_id, share.writer.epoch) in stored:
                rows += share.block.rows
                share.writer.succeed(share.block.end)
                for gap in share.block.gaps:
                    metrics.FRAMES_MISSING.inc(gap.end - gap.first)
            else:
                refused.append(share)
        # A commit without rows proves nothing: every share may have been refused by its watermark.
        if rows:
            self.trouble.stored()
        metrics.FRAMES_COMMITTED.inc(rows)
        metrics.COMMIT_ROWS.observe(rows)
        metrics.COMMIT_SECONDS.observe(time.perf_counter() - begun)
        log.debug("committed", rows=rows, sessions=len(stored))
        if not refused:
            return [SETTLED]
        # Only now, as almost no commit has a refused share: the watermark tells why it was refused.
        watermarks = await self._table.watermarks([share.writer.session_id for share in refused])
        found = [_resolve(share, watermarks.get(share.writer.session_id)) for share in refused]
        results: list[Result] = [each for each in found if not isinstance(each, Share)]
        if rests := tuple(each for each in found if isinstance(each, Share)):
            results.append(Retry(replace(group, shares=rests)))
        return results

    async def _hold(self, group: Group, error: Exception) -> Sequence[Result]:
        """Store the shares that the table accepts; the others wait until it accepts them."""
        if len(group.shares) > 1:
            return group.halves()
        [share] = group.shares
        if isinstance(error, asyncpg.CheckViolationError) and not error.constraint_name:
            # The partition is gone.
            try:
                await self._table.ensure_partition(share.writer.session_id)
            except Exception as reason:
                error = reason
        metrics.COMMIT_FAILURES.inc()
        log.warning("frames wait for their table", session=share.writer.session_id, error=repr(error))
        self.trouble.begins(share.writer, error)
        return [Locked(share)]

    async def _apart(self, group: Group, error: Exception) -> Sequence[Result]:
        """Find the frames that the database refuses, which become gaps, and store the rest."""
        if len(group.shares) > 1:
            return group.halves()
        [share] = group.shares
        writer, block = share.writer, share.block
        # Fewer frames would not help: somebody else writes to the session, or there are none at all.
        if isinstance(error, FrameExists) or not (block.rows or block.events):
            log.error("frames refused", session=writer.session_id, error=str(error))
            writer.fail(error)
            return [SETTLED]
        if not block.events:
            return [await self._sift_frames(group, error)]
        whole = group.whole or share
        return [Retry(Group((share.of(part),), whole)) for part in _parts(block, writer.session_id, error)]

    async def _sift(self, group: Group, error: Exception) -> Sequence[Result]:
        """Find the share that keeps making commits fail, for a reason that may be in its frames."""
        if len(group.shares) > 1:
            return group.halves(sift_after=1)
        return [await self._sift_frames(group, error)]

    async def _sift_frames(self, group: Group, error: Exception) -> Result:
        """Store what can be stored of one robot's frames, from the front.

        A frame becomes a gap only in one transaction with a frame of the same robot that could be stored, or
        after such frames. Otherwise the cause may be the table; then the robot is refused, and keeps all of
        its frames.
        """
        [rest] = group.shares
        given_up, stored_any = -1, False
        # Each frame that is given up takes two turns: one stores what is before it, one gives it up.
        for _ in range(2 * MAX_SIFTED):
            first, end = rest.block.first, rest.block.end
            stored_to = await self._store_front(
                group.of(rest), least=1 if stored_any or given_up < first else 2
            )
            if not isinstance(stored_to, int):
                return stored_to
            if stored_to == end or rest.writer.failure is not None:
                return SETTLED
            if stored_to > first:
                rest, stored_any = rest.of(rest.block.between(stored_to, end)), True
            elif given_up == first:
                break
            else:
                given_up = first
                log.error("frame refused", session=rest.writer.session_id, frame=first, error=repr(error))
                rest = rest.of(rest.block.without({first: f"refused: {error}"}))
        rest.writer.fail(Unstorable(f"frames from {rest.block.first} on can't be stored: {error}"))
        log.error("writer refused", session=rest.writer.session_id, frame=rest.block.first, error=repr(error))
        return SETTLED

    async def _store_front(self, group: Group, *, least: int) -> int | Retry | Locked:
        """Store the longest possible front part of the share, of at least `least` frames; returns its end.

        Returns the share's result instead if the cause is not in its frames: the database is away,
        the session's row is locked, or its watermark has moved.
        """
        [share] = group.shares
        block = share.block
        frames = block.end - block.first
        while frames >= least:
            part = block.between(block.first, block.first + frames)
            try:
                results = await self._try(group.of(share.of(part)))
            except Exception as error:
                if is_of_the_database(error):
                    return Retry(group)
                # Not one by one: of thousands of frames, a dozen attempts find a front part that can be
                # stored.
                frames //= 2
                continue
            if any(isinstance(result, Locked) for result in results):
                return Locked(share)
            return part.end if results == [SETTLED] else Retry(group)
        return block.first


def _kind(error: Exception) -> str:
    return f"{type(error).__name__} {getattr(error, 'sqlstate', '')}"


def _is_in_vain(group: Group, locked: Mapping[Writer, Share]) -> bool:
    """Whether these are parts of a share that was locked or refused when an earlier part was tried.

    Later parts must not overtake an earlier one.
    """
    if group.whole is None:
        return False
    writer = group.whole.writer
    return writer in locked or writer.failure is not None


def _resolve(share: Share, watermark: Watermark | None) -> Share | Settled | Locked:
    """The result for a share that was not stored: the part that can still be stored, or its end.

    If the database has the watermark that the share expects, its row was locked.
    """
    if watermark is None or watermark.epoch != share.writer.epoch:
        share.writer.fail(Fenced())
    elif watermark.next == share.block.first:
        return Locked(share)
    elif watermark.next >= share.block.end:
        share.writer.succeed(watermark.next)
    elif watermark.next < share.block.first:
        share.writer.fail(OutOfStep(watermark.next))
    else:
        return share.of(share.block.between(watermark.next, share.block.end))
    return SETTLED


def _parts(block: FrameBlock, session_id: int, error: Exception) -> list[FrameBlock]:
    """The parts to store, in this order, instead of a block with events that the database refuses.

    Events go first, because robots send them again only until their frames are acknowledged.
    """
    only_events = FrameBlock(first=block.first, end=block.first, runs=(), events=block.events)
    if block.first < block.end and block.events:
        return [only_events, replace(block, events=())]
    if len(block.events) == 1:
        log.error("event refused", session=session_id, told=repr(block.events[0]), error=str(error))
        return []
    return [replace(only_events, events=(event,)) for event in block.events]
