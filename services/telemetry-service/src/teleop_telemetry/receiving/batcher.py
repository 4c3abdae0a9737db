"""Gathers frames of all robots into few commits, because commits are expensive and rows are not."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence

from teleop_runtime.logs import get_logger

from teleop_telemetry import metrics
from teleop_telemetry.frames.block import FrameBlock, merge_blocks
from teleop_telemetry.frames.columns import quarantine
from teleop_telemetry.receiving.commit import Commit, Share
from teleop_telemetry.receiving.writer import Writer
from teleop_telemetry.tables.frame_table import FrameTable

log = get_logger(__name__)

# A commit costs one fsync, some ms, however few rows it has. Twenty a second leave the disk time for other
# work, and a sample is safe before the next message of its robot (1/6 s).
FLUSH_AFTER_S = 0.05
# Rows per commit: PostgreSQL takes 70,000 rows/s in commits of 60, 290,000 of 600, 440,000 of 6000 (COPY of
# encoded rows, one connection, two cores). More only take memory.
FLUSH_ROWS = 6000
# Two, so that one commit waits for the disk while the next one is gathered and encoded.
LANES = 2
# Bytes of all robots that may wait while the database is away. Beyond that, nothing more is read,
# and the spools of the robots grow instead.
MAX_HELD_BYTES = 64 * 1024 * 1024
# Pause before trying a locked session again; another connection locks its row for one transaction.
LOCKED_RETRY_S = 0.1
# Pause before trying frames again that their table does not accept.
HELD_RETRY_S = 2.0
# Wait at the end for cancelled commits; frames that they did not acknowledge are sent again.
STOP_TIMEOUT_S = 2.0


class Batcher:
    """Bounded buffer between the connections and the table.

    A writer is in `_ready` while it has waiting blocks and none of its frames is in a commit.

    trouble  why frames can't be committed now
    """

    def __init__(self, table: FrameTable) -> None:
        self._commit = Commit(table)
        self.trouble = self._commit.trouble
        self._ready: deque[Writer] = deque()
        self._ready_rows = 0
        self._again: list[Share] = []
        self._held_bytes = 0
        self._work = asyncio.Event()
        self._full = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._lanes = asyncio.Semaphore(LANES)
        self._commits: set[asyncio.Task[None]] = set()

    async def submit(self, writer: Writer, block: FrameBlock) -> None:
        """Take a block, after waiting until there is space for it.

        The writer is notified once it is durable. It fails with Fenced if another connection has taken the
        stream over, with OutOfStep if the database has another watermark.
        """
        # Both again after each wait: another connection may have taken the room meanwhile.
        while not (writer.has_room.is_set() and self._has_room.is_set()):
            await writer.has_room.wait()
            await self._has_room.wait()
        if writer.failure is not None:
            raise writer.failure
        writer.hold(block)
        if self.trouble.error is not None:
            # It hears why nothing is acknowledged, though no commit of its own has failed.
            writer.changed.set()
        self._hold(block.size_bytes)
        if not writer.in_flight:
            # Otherwise it is in the line already; twice, it would take others' turns.
            if len(writer.waiting) == 1:
                self._ready.append(writer)
            self._offer(block.rows)

    async def run(self) -> None:
        """Flush until cancelled: FLUSH_AFTER_S after the first waiting block, or at FLUSH_ROWS rows."""
        try:
            while True:
                await self._work.wait()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(FLUSH_AFTER_S):
                        await self._full.wait()
                # Before the frames are taken: while both lanes are busy, more of them gather for the next
                # commit.
                await self._lanes.acquire()
                try:
                    shares = self._take()
                except BaseException:
                    self._lanes.release()
                    raise
                commit = asyncio.create_task(self._commit_in_lane(shares))
                self._commits.add(commit)
                commit.add_done_callback(self._commits.discard)
        finally:
            for commit in self._commits:
                commit.cancel()
            if self._commits:
                await asyncio.wait(self._commits, timeout=STOP_TIMEOUT_S)

    def _offer(self, rows: int) -> None:
        self._ready_rows += rows
        self._work.set()
        if self._ready_rows >= FLUSH_ROWS:
            self._full.set()

    def _hold(self, size_bytes: int) -> None:
        self._held_bytes += size_bytes
        metrics.HELD_BYTES.set(self._held_bytes)
        if self._held_bytes >= MAX_HELD_BYTES:
            self._has_room.clear()
        else:
            self._has_room.set()

    def _take(self) -> list[Share]:
        """The shares of the next commit: the blocks of every ready writer, up to about FLUSH_ROWS rows."""
        shares, self._again = self._again, []
        rows = 0
        while self._ready and rows < FLUSH_ROWS:
            writer = self._ready.popleft()
            blocks = writer.take()
            rows += sum(block.rows for block in blocks)
            held_bytes = sum(block.size_bytes for block in blocks)
            try:
                shares.append(Share(writer, merge_blocks(blocks), held_bytes))
            except Exception as error:
                # Out of memory, say: this writer's connection ends, and its robot sends the frames again.
                log.error("frames can't be merged", session=writer.session_id, exc_info=error)
                writer.fail(error)
                writer.in_flight = False
                self._hold(-held_bytes)
        # What is left is for the next commit, which need not wait if it is full already.
        self._ready_rows -= rows
        if self._ready_rows < FLUSH_ROWS:
            self._full.clear()
        if not self._ready:
            self._work.clear()
        return shares

    async def _commit_in_lane(self, shares: Sequence[Share]) -> None:
        unsettled: list[Share] = []
        try:
            blocks = quarantine([share.block for share in shares])
            checked = [share.of(block) for share, block in zip(shares, blocks, strict=True)]
            unsettled = await self._commit.settle(checked)
        except Exception as error:
            log.error("frames can't be encoded", exc_info=error)
            for share in shares:
                share.writer.fail(error)
        finally:
            self._lanes.release()
            self._let_go(shares, unsettled)

    def _let_go(self, shares: Sequence[Share], unsettled: Sequence[Share]) -> None:
        """Let the writers of a commit continue, except those whose share is neither stored nor refused."""
        held = [share for share in unsettled if self.trouble.of(share.writer)]
        locked = [share for share in unsettled if not self.trouble.of(share.writer)]
        metrics.SESSIONS_LOCKED.inc(len(locked))
        for again, delay_s in ((locked, LOCKED_RETRY_S), (held, HELD_RETRY_S)):
            if again:
                asyncio.get_running_loop().call_later(delay_s, self._retry, again)
        stuck = {share.writer for share in unsettled}
        for share in shares:
            if share.writer in stuck:
                continue
            writer = share.writer
            self.trouble.ends(writer)
            self._hold(-share.held_bytes)
            if writer.failure is not None:
                # What it had sent since then will never be stored either; its robot sends it again.
                self._hold(-sum(block.size_bytes for block in writer.take()))
            writer.in_flight = False
            if writer.waiting:
                self._ready.append(writer)
                self._offer(sum(block.rows for block in writer.waiting))

    def _retry(self, locked: Sequence[Share]) -> None:
        # They go first in the next commit, so that later frames of the session can't overtake them.
        self._again += locked
        self._work.set()
