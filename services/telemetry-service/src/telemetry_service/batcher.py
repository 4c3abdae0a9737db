"""Gathers frames of all robots into few commits: commits are the cost, not rows."""

import asyncio
from collections import deque
from collections.abc import Sequence

from telemetry_service import metrics
from telemetry_service.commit import Commit, Share
from telemetry_service.frame_block import FrameBlock, merge_blocks
from telemetry_service.frame_columns import quarantine
from telemetry_service.frame_table import FrameTable
from telemetry_service.writer import Writer

FLUSH_AFTER_S = 0.05
FLUSH_ROWS = 6000
LANES = 2
MAX_HELD_BYTES = 64 * 1024 * 1024


class Batcher:
    """Bounded buffer between the connections and the table."""

    def __init__(self, table: FrameTable) -> None:
        self._table = table
        self._ready: deque[Writer] = deque()
        self._waiting_rows = 0
        self._held_bytes = 0
        self._work = asyncio.Event()
        self._full = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._lanes = asyncio.Semaphore(LANES)
        self._commits: set[asyncio.Task[None]] = set()

    async def submit(self, writer: Writer, block: FrameBlock) -> None:
        """Take a block in, waiting while there is no room for it.

        The writer is told once it is durable. It fails with Fenced if another connection has taken the
        stream over, with OutOfStep if the database stands elsewhere.
        """
        while not (writer.has_room.is_set() and self._has_room.is_set()):
            await writer.has_room.wait()
            await self._has_room.wait()
        if not writer.waiting and not writer.in_flight:
            self._ready.append(writer)
        writer.hold(block)
        self._waiting_rows += block.rows
        self._hold(block.size_bytes)
        self._work.set()
        if self._waiting_rows >= FLUSH_ROWS:
            self._full.set()

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

    def _hold(self, size_bytes: int) -> None:
        self._held_bytes += size_bytes
        metrics.HELD_BYTES.set(self._held_bytes)
        if self._held_bytes >= MAX_HELD_BYTES:
            self._has_room.clear()
        else:
            self._has_room.set()

    def _take(self) -> list[Share]:
        """What the next commit holds: every ready writer's blocks, up to about FLUSH_ROWS rows."""
        writers, blocks = [], []
        rows = 0
        while self._ready and rows < FLUSH_ROWS:
            writer = self._ready.popleft()
            block = merge_blocks(writer.take())
            rows += block.rows
            writers.append(writer)
            blocks.append(block)
        self._waiting_rows -= rows
        if self._waiting_rows < FLUSH_ROWS:
            self._full.clear()
        if not self._ready:
            self._work.clear()
        checked = quarantine(blocks)
        return [Share(writer, block) for writer, block in zip(writers, checked, strict=True)]

    async def _commit_in_lane(self, shares: Sequence[Share]) -> None:
        held = sum(share.block.size_bytes for share in shares)
        try:
            await Commit(self._table).settle(shares)
        finally:
            self._lanes.release()
            self._hold(-held)
            for share in shares:
                share.writer.in_flight = False
                if share.writer.waiting:
                    self._ready.append(share.writer)
            if self._ready:
                self._work.set()
