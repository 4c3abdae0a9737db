"""Transactions and frames on a real PostgreSQL."""

import asyncio

import asyncpg
import pyarrow as pa
import pytest
import pytest_asyncio
from adbc_driver_manager import OperationalError
from teleop_runtime.postgres import frames, pulse
from teleop_runtime.postgres.frames import FrameReader, frame_schema
from teleop_runtime.postgres.pool import connected, open_pool, transaction
from teleop_runtime.trouble import trouble_of
from teleop_schema.errors import Fenced, StorageUnavailable
from teleop_testing.waiting import PATIENCE_S, until


@pytest_asyncio.fixture
async def pool(database_url):
    """A pool of one connection, so that one that is not given back is missed."""
    async with open_pool(database_url, max_size=1) as pool:
        await pool.execute("CREATE TABLE note (text text PRIMARY KEY)")
        yield pool


async def write_then(pool, go_on) -> None:
    """A transaction that has written something when `go_on` happens to it."""
    async with transaction(pool, timeout_s=PATIENCE_S) as connection:
        await connection.execute("INSERT INTO note VALUES ('half')")
        await go_on(connection)


async def test_transaction_commits(pool, database):
    """What a transaction wrote is there for others when it is over."""
    async with transaction(pool, timeout_s=PATIENCE_S) as connection:
        await connection.execute("INSERT INTO note VALUES ('kept')")
        assert await database.value("SELECT count(*) FROM note") == 0
    assert await database.value("SELECT text FROM note") == "kept"


@pytest.mark.parametrize("statement", ["INSERT INTO note VALUES ('a'), ('a')", "SELECT 1 / 0"])
async def test_refused_transaction_is_rolled_back(pool, database, statement):
    """After the database's refusal nothing is stored, and the connection is used again."""
    pid = await pool.fetchval("SELECT pg_backend_pid()")
    with pytest.raises(asyncpg.PostgresError):
        await write_then(pool, lambda connection: connection.execute(statement))
    assert await database.value("SELECT count(*) FROM note") == 0
    assert await pool.fetchval("SELECT pg_backend_pid()") == pid


async def test_transaction_that_is_given_up_is_rolled_back(pool, database):
    """An error of the domain ends the transaction like one of the database."""

    async def give_up(_connection: object) -> None:
        raise Fenced()

    with pytest.raises(Fenced):
        await write_then(pool, give_up)
    assert await pool.fetchval("SELECT count(*) FROM note") == 0


async def test_missing_socket_is_the_databases(tmp_path):
    """Where no PostgreSQL listens, the missing socket is told as a lost connection, not as a missing file."""
    pool = await asyncpg.create_pool(host=str(tmp_path), min_size=0)
    with pytest.raises(ConnectionError, match="the database can't be reached"):
        async with connected(pool, timeout_s=PATIENCE_S):
            pass
    pool.terminate()


@pytest.mark.parametrize("allowed", [True, False], ids=["accepts", "refuses"])
async def test_connection_at_work_is_waited_for(pool, database, monkeypatch, allowed):
    """As long as the server says anything, if only that it accepts nobody else, it is busy and not frozen."""
    monkeypatch.setattr(pulse, "SUSPECT_AFTER_S", 0.01)
    heard, listen = [], pulse.Pulse.listen

    async def listening(self):
        heard.append(await listen(self))
        return heard[-1]

    monkeypatch.setattr(pulse.Pulse, "listen", listening)
    name = await database.value("SELECT current_database()")
    await database.connection.execute(
        f"UPDATE pg_database SET datallowconn = {allowed} WHERE datname = '{name}'"
    )

    async def ask():
        async with connected(pool, timeout_s=PATIENCE_S) as connection:
            return await connection.fetchval("SELECT 1")

    async with connected(pool, timeout_s=PATIENCE_S):
        waiting = asyncio.create_task(ask())
        await until(lambda: len(heard) > 2)
        assert not waiting.done()
    assert await waiting == 1
    assert {type(answer) for answer in heard} == {
        type(None) if allowed else asyncpg.ObjectNotInPrerequisiteStateError
    }


async def test_waiting_that_is_given_up_leaves_the_pool_whole(pool):
    """Also if the connection comes at the very moment."""
    for turns in range(12):
        async with connected(pool, timeout_s=PATIENCE_S):
            waiting = asyncio.create_task(_once(pool))
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await _once(pool)


async def _once(pool):
    async with connected(pool, timeout_s=PATIENCE_S):
        pass


async def test_hanging_transaction_loses_its_connection(pool, database):
    """What takes too long is given up together with its connection, and the next one works."""
    async with database.connection.transaction():
        await database.connection.execute("LOCK TABLE note")
        with pytest.raises(TimeoutError):
            async with transaction(pool, timeout_s=0.3) as connection:
                await connection.execute("INSERT INTO note VALUES ('late')")
    async with transaction(pool, timeout_s=PATIENCE_S) as connection:
        await connection.execute("INSERT INTO note VALUES ('next')")
    assert await database.value("SELECT text FROM note") == "next"


async def test_cancelled_transaction_loses_its_connection(pool, database):
    """Whoever is cancelled in the middle leaves no half transaction behind."""
    begun = asyncio.Event()

    async def sleep(connection: asyncpg.Connection) -> None:
        begun.set()
        await connection.execute("SELECT pg_sleep(60)")

    task = asyncio.create_task(write_then(pool, sleep))
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await pool.fetchval("SELECT count(*) FROM note") == 0


async def test_pool_closes_though_a_connection_hangs(database_url):
    """The end of a process is not held up by a query without an end."""
    async with open_pool(database_url, max_size=1) as pool:
        task = asyncio.create_task(pool.execute("SELECT pg_sleep(60)"))
        await asyncio.sleep(0.1)
    with pytest.raises(asyncpg.PostgresError):
        await task


@pytest_asyncio.fixture
async def session(database):
    """A session's id and a partition for its frames."""
    await database.connection.execute("SELECT ensure_frame_partition(7)")
    return 7


def read(database_url: str, session: int, first: int, end: int, widths: tuple[int, int]) -> pa.Table:
    with FrameReader(database_url) as reader:
        return reader.read(session, first, end, state_width=widths[0], action_width=widths[1])


async def test_frames_are_read_with_their_types(database_url, database, session):
    """A range of frames comes ascending, as float32 vectors, microseconds in UTC and JSON text."""
    await database.connection.execute(
        """INSERT INTO teleop_frame
           SELECT 7, i, to_timestamp(1763860000 + i * 0.5), ARRAY[i, 0.1], ARRAY[-i],
                  CASE WHEN i = 3 THEN '{"note": "x"}'::jsonb END
             FROM generate_series(9, 0, -1) AS i"""
    )
    table = await asyncio.to_thread(read, database_url, session, 2, 5, (2, 1))
    assert table.schema == frame_schema(2, 1)
    assert table["frame_index"].to_pylist() == [2, 3, 4]
    assert table["state"].to_pylist() == [
        [index, pa.scalar(0.1, pa.float32()).as_py()] for index in (2, 3, 4)
    ]
    assert table["action"].to_pylist() == [[-2], [-3], [-4]]
    assert [time.timestamp() for time in table["timestamp"].to_pylist()] == [
        1763860001,
        1763860001.5,
        1763860002,
    ]
    assert table["extra"].to_pylist() == [None, '{"note": "x"}', None]


async def test_session_without_actions_is_read(database_url, database, session):
    """Vectors of no values are vectors, too."""
    await database.connection.execute(
        "INSERT INTO teleop_frame SELECT 7, i, now(), ARRAY[i], '{}' FROM generate_series(0, 2) AS i"
    )
    table = await asyncio.to_thread(read, database_url, session, 0, 10, (1, 0))
    assert table.schema == frame_schema(1, 0)
    assert table["action"].to_pylist() == [[], [], []]


async def test_no_frames_make_an_empty_table(database_url, session):
    """A range without frames has the columns of any other."""
    table = await asyncio.to_thread(read, database_url, session, 100, 200, (3, 2))
    assert (table.num_rows, table.schema) == (0, frame_schema(3, 2))


async def test_limits_of_a_role_do_not_reach_the_reader(database_url, database, session):
    """The driver asks for all types as it connects, which takes longer; other options of the address stay."""
    name = await database.value("SELECT current_database()")
    await database.connection.execute(f"ALTER DATABASE {name} SET statement_timeout = '1ms'")
    separator = "&" if "?" in database_url else "?"
    address = f"{database_url}{separator}options=-c%20search_path%3Dpublic"
    assert (await asyncio.to_thread(read, address, session, 0, 10, (1, 0))).num_rows == 0
    # As behind a pooler that does not let them be lifted at the start: what to change is named.
    with pytest.raises(OperationalError) as raised:
        await asyncio.to_thread(frames._connect_to, address)
    assert "statement_timeout = 0" in trouble_of(raised.value).hint


async def test_server_that_goes_away_while_frames_are_read(database_url, database, session):
    """That is told as a database that is away, not as a file that can't be read: what reads tries again."""
    await database.connection.execute(
        """INSERT INTO teleop_frame
           SELECT 7, i, to_timestamp(1763860000 + i * 0.5), ARRAY[i], ARRAY[i] FROM generate_series(0, 999) i;
           ALTER TABLE teleop_frame RENAME TO kept_frame;
           CREATE VIEW teleop_frame AS SELECT * FROM kept_frame
            WHERE CASE WHEN frame_index < 900 THEN true ELSE pg_sleep(600) IS NOT NULL END"""
    )
    reading = asyncio.create_task(asyncio.to_thread(read, database_url, session, 0, 1000, (1, 1)))
    # It sleeps in the middle of what it sends.
    ended = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event = 'PgSleep'"""
    await until(lambda: database.value(ended))
    with pytest.raises(OperationalError) as raised:
        await reading
    assert isinstance(trouble_of(raised.value), StorageUnavailable)
