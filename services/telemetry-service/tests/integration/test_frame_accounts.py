"""What is kept of a session's account is what its frames tell, whatever has happened to them."""

import random
import struct
from uuid import uuid4

import pytest
import pytest_asyncio
from teleop_runtime.postgres.pool import open_pool, transaction
from teleop_telemetry.audit import LONG_FRAMES, Audit
from teleop_telemetry.frames.block import block_of_batch
from teleop_telemetry.reading import session_queries
from teleop_telemetry.reading.session_edits import SessionEdits
from teleop_telemetry.reading.session_queries import SessionQueries
from teleop_telemetry.tables import frame_accounts
from teleop_telemetry.tables.frame_accounts import FrameAccount, account_frames, measure_frames
from teleop_telemetry.tables.frame_table import Append, FrameTable
from teleop_telemetry.tables.session_table import SessionTable
from teleop_testing.datasets.recorded import record_session
from teleop_testing.robots.robot import JOINTS, PERIOD_US, STARTED_US, batch, description
from teleop_testing.waiting import PATIENCE_S

# What the account says, by PostgreSQL's own means, which take several times as long.
PLAINLY = """
SELECT count(*) AS committed, count(*) - count(DISTINCT frame_index) AS duplicates,
       (count(*) - 1) / nullif(extract(epoch FROM max("timestamp") - min("timestamp")), 0)::float8
       AS measured_hz,
       stddev_pop(period_ms) AS jitter_ms, max(period_ms) AS longest_stall_ms,
       (array_agg(frame_index ORDER BY period_ms DESC NULLS LAST, frame_index))[1] AS stall_at_frame,
       count(*) FILTER (WHERE period_ms < 0) AS backwards,
       count(*) FILTER (WHERE "timestamp" < '2000-01-01' OR "timestamp" >
                        (SELECT coalesce(last_commit_at, now()) FROM teleop_session) + interval '1 day')
       AS implausible,
       count(observation_age_us) AS repeated_observations
  FROM (SELECT *, 1000 * date_part('epoch', "timestamp" - lag("timestamp") OVER (ORDER BY frame_index))
               AS period_ms
          FROM teleop_frame WHERE frame_index < (SELECT next_frame_index FROM teleop_session)) f
"""
NOTHING = {"timestamps": b"", "state": b"", "action": b""}
VALUES = (0.5, float("nan"), float("inf"))
STEPS = 30


@pytest_asyncio.fixture
async def pool(database_url):
    async with open_pool(database_url, max_size=4) as pool:
        yield pool


class History:
    """A session to which anything may happen, in any order."""

    def __init__(self, pool, seed: int) -> None:
        self.pool = pool
        self.chance = random.Random(seed)
        self.stream = uuid4()
        self.table = SessionTable(pool, 3)
        self.next = 0
        self.opened = None

    async def connect(self) -> None:
        """A robot begins, or comes back: what it sends then is late, or a refill."""
        self.opened = await self.table.open(self.stream, "robot_A", description(), delivery="acknowledged")

    async def send(self) -> None:
        """Frames, some of them back in time, or far ahead, or with values that are none; or a gap."""
        count = self.chance.randint(1, 20)
        sent = batch(self.next, count, gap="lost", **NOTHING)
        if self.chance.random() < 0.8:
            times = [self.time_of(self.next + index) for index in range(count)]
            values = self.chance.choices(VALUES, weights=(20, 1, 1), k=count * len(JOINTS))
            sent = batch(self.next, count, timestamps=struct.pack(f"<{count}q", *times),
                         state=struct.pack(f"<{len(values)}f", *values))  # fmt: skip
        append = Append(self.opened.id, self.opened.epoch, block_of_batch(sent, len(JOINTS), len(JOINTS)))
        if append.claim in await FrameTable(self.pool).append([append]):
            self.next += count

    def time_of(self, frame: int) -> int:
        if self.chance.random() < 0.02:
            return self.chance.choice((0, 4 * STARTED_US))
        return STARTED_US + PERIOD_US * frame + self.chance.randint(-20_000, 20_000)

    async def end(self) -> None:
        await self.table.finish(self.opened, frames=self.next, logged=self.next, status="complete")

    async def lose(self) -> None:
        """Somebody removes frames, past every service."""
        first = self.chance.randrange(self.next + 1)
        await self.pool.execute("DELETE FROM teleop_frame WHERE frame_index BETWEEN $1 AND $1 + 2", first)

    async def change(self) -> None:
        """Somebody changes frames, past every service."""
        await self.pool.execute(
            'UPDATE teleop_frame SET "timestamp" = "timestamp" + interval \'1 s\' WHERE frame_index = $1',
            self.chance.randrange(self.next + 1),
        )

    async def give_up(self) -> None:
        await SessionEdits(self.pool).give_up_missing(self.opened.id, "given up")


@pytest.mark.parametrize("seed", range(6))
async def test_any_order(pool, seed, monkeypatch):
    """After frames, late frames, gaps, ends, refills, give-ups, losses: kept or measured, it is the same, and
    what PostgreSQL itself counts."""
    monkeypatch.setattr(frame_accounts, "BLOCK_FRAMES", seed * 3 + 1)
    history = History(pool, seed)
    await history.connect()
    queries = SessionQueries(pool)
    events = [history.connect, history.lose, history.change, history.give_up, history.end, history.send]
    kept = 0
    for _ in range(STEPS):
        await history.chance.choices(events, weights=(1, 1, 1, 1, 4, 4))[0]()
        for _ in range(history.chance.randrange(3)):
            await queries.ledger(history.opened.id)
        async with transaction(pool, timeout_s=PATIENCE_S, snapshot=True) as connection:
            account = await account_frames(connection, history.opened.id)
            anew = await measure_frames(connection, history.opened.id)
            plainly = dict(await connection.fetchrow(PLAINLY))
        assert account.told == anew.told
        for name, value in plainly.items():
            assert anew.told[name] == (None if value is None else pytest.approx(value, rel=1e-6)), name
        kept += account.kept
    assert kept > 0


@pytest.fixture
def measured(monkeypatch) -> list[bool]:
    """Of each account that a ledger has asked for, whether it had to be measured."""
    asked = []

    async def ask(*arguments) -> FrameAccount:
        account = await account_frames(*arguments)
        asked.append(not account.kept)
        return account

    monkeypatch.setattr(session_queries, "account_frames", ask)
    return asked


async def test_it_is_measured_once(database_url, pool, measured):
    """While a session is recording it is measured each time; once it has ended, for the first who asks."""
    session = record_session(database_url, 50, status="recording")
    queries = SessionQueries(pool)
    told = [await queries.ledger(session) for _ in range(2)]
    await pool.execute("UPDATE teleop_session SET status = 'complete'")
    told += [await queries.ledger(session) for _ in range(3)]
    assert measured == [True, True, True, False, False]
    assert len({each.measured_hz for each in told}) == 1


async def test_of_a_long_session_nobody_waits_for_it(database_url, pool, measured):
    """It is measured when the session has ended."""
    session = record_session(database_url, LONG_FRAMES)
    await Audit(pool).audit(session)
    assert (await SessionQueries(pool).ledger(session)).committed == LONG_FRAMES
    assert measured == [False]


async def test_who_asks_is_answered_though_nothing_can_be_kept(database_url, pool):
    """A database that takes no writes, for example, can be read all the same."""
    session = record_session(database_url, 50)
    await pool.execute("ALTER TABLE session_account ADD CHECK (next_frame_index < 0)")
    assert (await SessionQueries(pool).ledger(session)).committed == 50


async def test_a_duplicate_between_two_blocks_is_counted(database_url, pool, monkeypatch):
    """Without its key, a table may hold a frame twice."""
    session = record_session(database_url, 50)
    monkeypatch.setattr(frame_accounts, "BLOCK_FRAMES", 10)
    partition = await pool.fetchval("SELECT tableoid::regclass::text FROM teleop_frame LIMIT 1")
    await pool.execute("ALTER TABLE teleop_frame DROP CONSTRAINT teleop_frame_pkey")
    await pool.execute(f"INSERT INTO {partition} SELECT * FROM {partition} WHERE frame_index IN (9, 10, 20)")
    async with transaction(pool, timeout_s=PATIENCE_S, snapshot=True) as connection:
        told = (await measure_frames(connection, session)).told
    assert (told["committed"], told["duplicates"]) == (53, 3)
