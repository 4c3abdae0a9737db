"""The parts behind the endpoint, on a real database."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from uuid import uuid4

import pytest_asyncio
from telemetry_service.batcher import LANES, Batcher
from telemetry_service.frame_block import block_of_batch
from telemetry_service.frame_table import FrameTable
from telemetry_service.session_table import SessionTable
from telemetry_service.writer import Writer
from teleop_runtime.database import open_pool
from teleop_testing.robot import batch, description


@dataclass
class Ingest:
    """A batcher that runs, and writers to sessions of its own."""

    table: SessionTable
    batcher: Batcher
    writers: list[Writer] = field(default_factory=list)

    async def writer(self) -> Writer:
        """Writer of a new session."""
        opened = await self.table.open(
            uuid4(), f"robot_{len(self.writers)}", description(), delivery="acknowledged"
        )
        self.writers.append(Writer(opened.id, opened.epoch, opened.next))
        return self.writers[-1]

    async def send(self, writer: Writer, first: int, count: int, **changes) -> None:
        """Hand frames to the batcher."""
        await self.batcher.submit(writer, block_of_batch(batch(first, count, **changes), 2, 2))


@pytest_asyncio.fixture
async def ingest(database_url) -> AsyncIterator[Ingest]:
    """What telemetry-service is made of, without its endpoint."""
    async with (
        open_pool(database_url, max_size=LANES) as commits,
        open_pool(database_url, max_size=3) as openings,
    ):
        batcher = Batcher(FrameTable(commits))
        flushing = asyncio.create_task(batcher.run())
        yield Ingest(SessionTable(openings, 3), batcher)
        assert not flushing.done()
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)
