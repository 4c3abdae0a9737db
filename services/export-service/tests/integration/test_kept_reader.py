"""The connection that a worker keeps from export to export."""

import psycopg
import pytest
from teleop_export.making.kept_reader import KeptReader

CONNECTED = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@pytest.fixture
def reader(database_url):
    kept = KeptReader(database_url)
    yield kept
    kept.close()


@pytest.fixture
def connected(database_url):
    """Which backends serve the others that are connected to the database."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield lambda: {pid for (pid,) in connection.execute(CONNECTED)}


def lend(reader):
    with reader.lend() as frames:
        return len(frames.read(1, 0, 10, state_width=1, action_width=1))


async def test_is_used_again(reader, connected):
    """It serves one export after the other."""
    before = connected()
    lend(reader)
    first = connected() - before
    lend(reader)
    assert len(first) == 1
    assert connected() - before == first


async def test_is_made_anew_where_the_database_ended_it(reader, connected, database_url):
    """A database that was started anew in between fails no export."""
    before = connected()
    lend(reader)
    (ended,) = connected() - before
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", [ended])
    assert lend(reader) == 0
    assert ended not in connected()


async def test_is_not_kept_where_something_went_wrong(reader, connected):
    """Whatever failed on it, the next export has another one."""
    before = connected()
    lend(reader)
    first = connected() - before
    with pytest.raises(KeyError), reader.lend():
        raise KeyError
    with reader.lend():
        assert connected() - before - first
