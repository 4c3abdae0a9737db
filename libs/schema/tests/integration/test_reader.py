"""The role `reader`: what people and their tools may do, and what they may not."""

from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import psycopg
import pytest
from teleop_schema.migrations.reader import MOST_CONNECTIONS, READABLE, let_reader_read, make_reader

TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
REFUSED = asyncpg.InsufficientPrivilegeError


@pytest.fixture
def reader_url(database_url) -> str:
    """Address of the test's database for the role."""
    with psycopg.connect(database_url) as connection:
        make_reader(connection)
        let_reader_read(connection)
    return database_url.replace("//teleop@", "//reader@")


@asynccontextmanager
async def connected(url: str):
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_it_reads_what_is_meant_for_reading(reader_url):
    """Each of the documented tables and views, but not what services keep for themselves."""
    async with connected(reader_url) as reader:
        for table in READABLE:
            await reader.fetch(f"SELECT * FROM {table}")
        for table in ("procrastinate_jobs", "upload", "alembic_version"):
            with pytest.raises(REFUSED):
                await reader.fetch(f"SELECT * FROM {table}")


async def test_it_writes_no_table(reader_url, database):
    """Whatever tables there are."""
    tables = {row["relname"] for row in await database.fetch(TABLES)}
    assert tables > {"teleop_frame", "teleop_frame_0", "teleop_session", "procrastinate_jobs"}
    rights = ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
    for table in tables:
        for right in rights:
            assert not await database.value(f"SELECT has_table_privilege('reader', '{table}', '{right}')")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (a int)",
        "CREATE TEMPORARY TABLE mine (a int)",
        "CREATE SCHEMA mine",
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'x')",
        "SELECT ensure_frame_partition(1)",
        "SELECT drop_frame_partition(0)",
        "COPY robot TO '/tmp/mine'",
        "ALTER ROLE reader CONNECTION LIMIT 100",
    ],
)
async def test_it_makes_nothing(reader_url, statement):
    """Nor anything that takes space."""
    async with connected(reader_url) as reader:
        with pytest.raises(REFUSED):
            await reader.execute(statement)


async def test_it_gives_up_after_a_while(reader_url):
    """A statement, and a transaction that was left open."""
    async with connected(reader_url) as reader:
        for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
            assert await reader.fetchval(f"SHOW {name}") == "1min"
        await reader.execute("SET statement_timeout = '20ms'")
        with pytest.raises(asyncpg.QueryCanceledError):
            await reader.execute("SELECT pg_sleep(60)")


async def test_it_leaves_connections_to_others(reader_url, database):
    """However many a tool opens."""
    async with AsyncExitStack() as stack:
        for _ in range(MOST_CONNECTIONS):
            await stack.enter_async_context(connected(reader_url))
        with pytest.raises(asyncpg.TooManyConnectionsError):
            await asyncpg.connect(reader_url)
        assert await database.value("SELECT 42") == 42


async def test_making_it_again_changes_nothing(reader_url, database_url):
    """As at each start."""
    with psycopg.connect(database_url) as connection:
        make_reader(connection)
        let_reader_read(connection)
    async with connected(reader_url) as reader:
        assert await reader.fetchval("SELECT count(*) FROM robot") == 0
