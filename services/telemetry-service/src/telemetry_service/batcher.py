"""Gathers frames of all robots into few commits: commits are the cost, not rows."""

import asyncio
from collections import deque
from collections.abc import Sequence

from telemetry_service import metrics
from telemetry_service.commit import Commit, Outcome, Share, Writer
from telemetry_service.frame_block import FrameBlock, merge_blocks
from telemetry_service.frame_table import FrameTable

FLUSH_AFTER_S = 0.05
FLUSH_ROWS = 6000
LANES = 2
MAX_WAITING_BLOCKS = 2
MAX_HELD_BYTES = 64 * 1024 * 1024


class Batcher:
    """Bounded buffer between the connections and the table."""

    def __init__(self, table: FrameTable) -> None:
        self._table = table
        self._ready: deque[Writer] = deque()
        self._ready_rows = 0
        self._held_bytes = 0
        self._work = asyncio.Event()
        self._full = asyncio.Event()
        self._room = asyncio.Condition()
        self._lanes = asyncio.Semaphore(LANES)
        self._commits: set[asyncio.Task[None]] = set()

    async def submit(self, writer: Writer, block: FrameBlock) -> Outcome:
        """Take a block in, waiting while there is no room for it.

        The outcome gives the writer's watermark once the block is durable. It raises Fenced if another
        connection has taken the stream over, OutOfStep if the database stands elsewhere.
        """
        if not self._has_room(writer):
            async with self._room:
                await self._room.wait_for(lambda: self._has_room(writer))
        outcome: Outcome = asyncio.get_running_loop().create_future()
        if not writer.waiting and not writer.in_flight:
            self._ready.append(writer)
        writer.waiting.append((block, outcome))
        self._ready_rows += len(block.frame_index)
        self._hold(block.size_bytes)
        self._work.set()
        if self._ready_rows >= FLUSH_ROWS:
            self._full.set()
        return outcome

    async def run(self) -> None:
        """Flush until cancelled: FLUSH_AFTER_S after the first waiting block, or at FLUSH_ROWS rows."""
        while True:
            await self._work.wait()
            try:
                async with asyncio.timeout(FLUSH_AFTER_S):
                    await self._full.wait()
            except TimeoutError:
                pass
            await self._lanes.acquire()
            commit = asyncio.create_task(self._commit_in_lane(self._take()))
            self._commits.add(commit)
            commit.add_done_callback(self._commits.discard)

    async def flush(self) -> None:
        """Return once everything that was submitted is durable or refused."""
        async with self._room:
            await self._room.wait_for(lambda: self._held_bytes == 0)

    def _has_room(self, writer: Writer) -> bool:
        return len(writer.waiting) < MAX_WAITING_BLOCKS and self._held_bytes < MAX_HELD_BYTES

    def _hold(self, size_bytes: int) -> None:
        self._held_bytes += size_bytes
        metrics.HELD_BYTES.set(self._held_bytes)

    def _take(self) -> list[Share]:
        """What the next commit holds: every ready writer's blocks, up to about FLUSH_ROWS rows."""
        shares: list[Share] = []
        rows = 0
        while self._ready and rows < FLUSH_ROWS:
            writer = self._ready.popleft()
            blocks = [block for block, _ in writer.waiting]
            outcomes = [outcome for _, outcome in writer.waiting]
            writer.waiting.clear()
            writer.in_flight = True
            share = Share(writer, merge_blocks(blocks), outcomes)
            rows += len(share.block.frame_index)
            shares.append(share)
        self._ready_rows -= rows
        if self._ready_rows < FLUSH_ROWS:
            self._full.clear()
        if not self._ready:
            self._work.clear()
        return shares

    async def _commit_in_lane(self, shares: Sequence[Share]) -> None:
        held = sum(share.block.size_bytes for share in shares)
        try:
            await Commit(self._table).settle(shares)
        finally:
            self._lanes.release()
            for share in shares:
                share.writer.in_flight = False
                if share.writer.waiting:
                    self._ready.append(share.writer)
            if self._ready:
                self._work.set()
            async with self._room:
                self._hold(-held)
                self._room.notify_all()
