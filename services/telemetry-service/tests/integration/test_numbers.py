"""A number is given to one session only, whatever becomes of the database."""

import asyncio
from uuid import uuid4

import pytest
import pytest_asyncio
from teleop_runtime.postgres.pool import open_pool
from teleop_runtime.store import open_store
from teleop_telemetry.tables.numbers import HIGHEST_NOTE, SessionNumbers
from teleop_telemetry.tables.session_table import SessionTable
from teleop_testing.robots.robot import description

OLDER = "SELECT setval(pg_get_serial_sequence('teleop_session', 'id'), 2)"

# Session $1 once more with the number 50, which the sequence does not know.
TAKEN_OVER = """
INSERT INTO teleop_session OVERRIDING SYSTEM VALUE
SELECT taken.* FROM teleop_session s,
       jsonb_populate_record(s, jsonb_build_object('id', 50, 'stream_id', gen_random_uuid())) taken
 WHERE s.id = $1
"""


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "archive")


@pytest_asyncio.fixture
async def pool(database_url):
    async with open_pool(database_url, max_size=6) as pool:
        yield pool


async def test_an_older_database_does_not_give_them_again(pool, store):
    """Restored to an older state, or made anew: it goes on behind what the store knows to be given."""
    given = [await SessionNumbers(pool, store).take() for _ in range(5)]
    assert given == [1, 2, 3, 4, 5]
    await pool.execute(OLDER)
    assert await SessionNumbers(pool, store).take() == 6
    await store.set_note(HIGHEST_NOTE, b"4711")
    assert [await SessionNumbers(pool, store).take() for _ in range(2)] == [4712, 4713]


async def test_beneath_running_services(pool, store):
    """Of two replicas one knows of numbers that the other has given only from the store."""
    one, other = SessionNumbers(pool, store), SessionNumbers(pool, store)
    given = [await each.take() for each in (one, other, other)]
    await pool.execute(OLDER)
    assert await one.take() == max(given) + 1


async def test_it_is_noted_before_it_is_given(pool, store):
    """A process that dies in between has wasted a number; none is ever unknown to the store."""
    taken = await SessionNumbers(pool, store).take()
    assert int(await store.note(HIGHEST_NOTE)) >= taken


async def test_many_at_once(pool, store):
    """Two replicas, and a fleet that starts: each robot gets its own."""
    replicas = [SessionNumbers(pool, store) for _ in range(2)]
    given = await asyncio.gather(*(replicas[number % 2].take() for number in range(60)))
    assert len(set(given)) == 60
    assert int(await store.note(HIGHEST_NOTE)) == max(given)


@pytest.mark.parametrize("with_store", [True, False])
async def test_sessions_that_were_taken_over_keep_theirs(pool, store, with_store):
    """They were brought in with their numbers, which the sequence does not know; nor does a new store."""
    table = SessionTable(pool, 3, store=None)
    await pool.execute(OLDER)
    opened = await table.open(uuid4(), "robot_A", description(), delivery="acknowledged")
    await pool.execute(TAKEN_OVER, opened.id)
    assert await SessionNumbers(pool, store if with_store else None).take() == 51


async def test_sessions_have_them(pool, store):
    """A session that is opened after the database was set back is none that the store has files of."""
    await store.set_note(HIGHEST_NOTE, b"40")
    table = SessionTable(pool, 3, store=store)
    opened = await table.open(uuid4(), "robot_A", description(), delivery="acknowledged")
    assert opened.id == 41
