"""Exactly once, whatever robots send and whatever breaks: random histories against a real database."""

import asyncio
import contextlib
from contextlib import AsyncExitStack
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)
from teleop_runtime.postgres.pool import open_pool
from teleop_schema.errors import Fenced
from teleop_telemetry.receiving.batcher import LANES, Batcher
from teleop_telemetry.receiving.session import AcknowledgedSession, StoreFrames
from teleop_telemetry.receiving.writer import Writer
from teleop_telemetry.tables.frame_table import FrameTable
from teleop_telemetry.tables.session_table import SessionTable
from teleop_testing.robots.robot import batch, description, values_of
from teleop_testing.waiting import PATIENCE_S

ROBOTS = 3

# A bomb ends its own backend when its countdown is over. Sequences count through rollbacks.
BOMBS = """
CREATE SEQUENCE bomb_advance MINVALUE -1000000;
CREATE SEQUENCE bomb_copy MINVALUE -1000000;
CREATE SEQUENCE bomb_commit MINVALUE -1000000;
CREATE FUNCTION tick() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval(TG_ARGV[0]) = 0 THEN
        PERFORM pg_terminate_backend(pg_backend_pid());
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER advance BEFORE UPDATE OF next_frame_index ON teleop_session
    FOR EACH ROW EXECUTE FUNCTION tick('bomb_advance');
CREATE TRIGGER copy BEFORE INSERT ON teleop_frame FOR EACH ROW EXECUTE FUNCTION tick('bomb_copy');
CREATE CONSTRAINT TRIGGER commit AFTER UPDATE OF next_frame_index ON teleop_session
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tick('bomb_commit');
"""


class Connection:
    """One robot's connection as the service has it: the pure session and its writer."""

    def __init__(self, robot: int, opened) -> None:
        self.robot = robot
        self.welcomed_at = opened.next
        self.session = AcknowledgedSession(next_frame=opened.next, state_width=2, action_width=2)
        self.writer = Writer(opened.id, opened.epoch, opened.next)


class Histories(RuleBasedStateMachine):
    """Robots that send in any order over connections old and new, to a database that breaks down."""

    database_url: str
    connections = Bundle("connections")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.streams = [uuid4() for _ in range(ROBOTS)]
        self.opened: list[Connection] = []
        self.runner.run(self.start())

    async def start(self) -> None:
        commits = await self.stack.enter_async_context(open_pool(self.database_url, max_size=LANES))
        openings = await self.stack.enter_async_context(open_pool(self.database_url, max_size=3))
        self.database = await asyncpg.connect(self.database_url)
        self.table = SessionTable(openings, 3)
        self.batcher = Batcher(FrameTable(commits))
        self.flushing = asyncio.create_task(self.batcher.run())

    @initialize(target=connections)
    def connect_all(self):
        """Every robot is there from the beginning."""
        return multiple(*(self.connect(robot) for robot in range(ROBOTS)))

    @rule(target=connections, robot=st.integers(0, ROBOTS - 1))
    def connect(self, robot):
        """A robot connects; whatever it still has open elsewhere stays open, like a zombie's."""
        connection = Connection(robot, self.runner.run(self.open(robot)))
        self.opened.append(connection)
        return connection

    @rule(connection=connections, offset=st.integers(-8, 0), count=st.integers(1, 12))
    def send(self, connection, offset, count):
        """Frames that follow, overlap or repeat what was sent."""
        self.runner.run(self.submit(connection, offset, count))

    @rule(connection=connections, offset=st.integers(1, 5), count=st.integers(1, 5))
    def send_with_a_hole(self, connection, offset, count):
        """Frames that come too early."""
        self.runner.run(self.submit(connection, offset, count))

    @rule(step=st.sampled_from(["advance", "copy", "commit"]), countdown=st.integers(1, 20))
    def arm(self, step, countdown):
        """Some commit soon will lose its connection at this step."""
        self.runner.run(self.database.execute(f"SELECT setval('bomb_{step}', {-countdown})"))

    @rule(milliseconds=st.integers(1, 20))
    def wait(self, milliseconds):
        """Let commits go on, as far as they get."""
        self.runner.run(asyncio.sleep(milliseconds / 1000))

    @rule(target=connections, older=connections, counts=st.tuples(*[st.integers(1, 6)] * 3))
    def come_back_midway(self, older, counts):
        """A robot comes back while a commit of its older connection, with more waiting, is tried again."""
        self.arm("advance", 1)
        self.runner.run(self.submit(older, 0, counts[0]))
        self.wait(20)
        self.runner.run(self.submit(older, 0, counts[1]))
        newer = self.connect(older.robot)
        self.runner.run(self.submit(newer, 0, counts[2]))
        return newer

    @rule()
    def settle(self):
        """Wait until the fate of all that was sent is known."""
        self.runner.run(self.check())

    async def open(self, robot: int):
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    return await self.table.open(
                        self.streams[robot], f"robot_{robot}", description(), delivery="acknowledged"
                    )
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    continue  # A bomb went off; a robot would come again, too.

    async def submit(self, connection: Connection, offset: int, count: int) -> None:
        first = max(0, connection.session.next + offset)
        answer = connection.session.receive(batch(first, count))
        if isinstance(answer, StoreFrames):
            with contextlib.suppress(Fenced):
                async with asyncio.timeout(PATIENCE_S):
                    await self.batcher.submit(connection.writer, answer.block)

    async def check(self) -> None:
        """The oracle: frames 0 to watermark - 1, each once, with their values; acknowledged means stored."""
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(
                *(connection.writer.settled() for connection in self.opened), return_exceptions=True
            )
        for robot, stream in enumerate(self.streams):
            session, watermark = await self.database.fetchrow(
                "SELECT id, next_frame_index FROM teleop_session WHERE stream_id = $1", stream
            )
            rows = await self.database.fetch(
                "SELECT * FROM teleop_frame WHERE session_id = $1 ORDER BY frame_index",
                session,
            )
            assert [row["frame_index"] for row in rows] == list(range(watermark))
            assert all((*row["state"], *row["action"]) == values_of(row["frame_index"]) for row in rows)
            for connection in self.opened:
                if connection.robot == robot:
                    assert max(connection.writer.committed, connection.welcomed_at) <= watermark

    def teardown(self) -> None:
        try:
            self.runner.run(self.check())
        finally:
            self.runner.run(self.stop())
            self.runner.close()

    async def stop(self) -> None:
        self.flushing.cancel()
        await asyncio.gather(self.flushing, return_exceptions=True)
        await self.database.close()
        await self.stack.aclose()


@pytest.fixture
def bombed_database_url(database_url):
    """A database with bombs that no one has armed yet."""

    async def plant() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute(BOMBS)
        await connection.close()

    asyncio.run(plant())
    return database_url


def test_any_order_any_breakdown_stores_every_frame_once(bombed_database_url, monkeypatch):
    """Duplicates, overlaps, holes, zombies, take-overs and commits that fail midway leave no trace."""
    # Small commits, so that a history has many of them.
    monkeypatch.setattr("teleop_telemetry.receiving.batcher.FLUSH_ROWS", 8)
    monkeypatch.setattr("teleop_telemetry.receiving.batcher.FLUSH_AFTER_S", 0.005)
    Histories.database_url = bombed_database_url
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
