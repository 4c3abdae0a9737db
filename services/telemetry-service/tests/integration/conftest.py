"""The parts behind the endpoint, on a real database."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from uuid import uuid4

import numpy as np
import pytest
import pytest_asyncio
from teleop_runtime.postgres.pool import open_pool
from teleop_telemetry.archive.retention import RETENTION_CONNECTIONS
from teleop_telemetry.frames.block import block_of_batch
from teleop_telemetry.receiving.batcher import LANES, Batcher
from teleop_telemetry.receiving.writer import Writer
from teleop_telemetry.tables.frame_table import FrameTable
from teleop_telemetry.tables.session_table import SessionTable
from teleop_testing.datasets.recorded import NEXT_PARTITION, OLD, record_columns, record_session
from teleop_testing.robots.robot import batch, description


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


@pytest_asyncio.fixture
async def recorded(database_url, database):
    """Four sessions of the first partition, long over, and one behind them; the ids of the four."""
    record = [
        {
            "frames": 25_000,
            "episodes": [(0, 100, "pick", "success"), (100, 20_000)],
            "pauses": [(30, 60), (5_000, 5_001)],
            "robot_id": "robot_B",
        },
        {"frames": 500, "gaps": [(10, 20, "spool_full"), (499, 500, "refused")]},
        {"frames": 0},
        {"frames": 300, "names": ("a.pos",), "actions": ()},
    ]
    sessions = [record_session(database_url, **each) for each in record]
    await database.connection.execute(
        "INSERT INTO session_mark VALUES ($1, 7, 'look at \"this\"')", sessions[1]
    )
    await database.connection.execute(
        """UPDATE teleop_frame SET extra = '{"b": [1, 2.5, null], "ä": "x"}'
            WHERE session_id = $1 AND frame_index % 3 = 0""",
        sessions[1],
    )
    await database.connection.execute(
        """UPDATE teleop_frame SET observation_age_us = frame_index
            WHERE session_id = $1 AND frame_index % 7 = 3""",
        sessions[1],
    )
    rewarded = range(2, 500, 5)
    rewards = np.array(rewarded)[:, None] / 10
    record_columns(database_url, sessions[1], {"next.reward": (rewarded, rewards)})
    await database.connection.execute(
        """UPDATE teleop_frame SET state = '{NaN,Infinity,-Infinity}'
            WHERE session_id = $1 AND frame_index % 11 = 4""",
        sessions[1],
    )
    await database.connection.execute(
        """UPDATE episode SET later_tasks = '{"50": "place"}' WHERE session_id = $1 AND episode_index = 0""",
        sessions[0],
    )
    await database.connection.execute(OLD)
    await database.connection.execute(NEXT_PARTITION)
    record_session(database_url, 40)
    return sessions


@pytest_asyncio.fixture
async def pool(database_url):
    async with open_pool(database_url, max_size=RETENTION_CONNECTIONS) as pool:
        yield pool


@pytest.fixture
def judge(http):
    async def judge(session: int, index: int, **change) -> dict:
        answer = await http.patch(f"/sessions/{session}/episodes/{index}", json=change)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return judge


@pytest.fixture
def find(http):
    async def find(**query) -> list[tuple[int, int]]:
        answer = await http.get("/episodes", params=query)
        assert answer.status_code == 200, answer.text
        return [(each["session_id"], each["episode_index"]) for each in answer.json()["episodes"]]

    return find
