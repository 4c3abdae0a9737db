"""The database's host vanishes without a word: packets are dropped, nothing is refused or reset."""

import asyncio
import sys

import psycopg
import pytest
from adbc_driver_manager import Error as AdbcError
from teleop_export.making.kept_reader import KeptReader
from teleop_export.tables.chunk_table import ChunkReader
from teleop_export.tables.database import open_pool
from teleop_runtime.postgres import libpq
from teleop_testing.machine.vanishing import vanishing_host
from teleop_testing.waiting import PATIENCE_S

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="packets are dropped by a filter of Linux"),
    pytest.mark.root("some kernels let only a process with CAP_NET_ADMIN drop packets"),
]

QUICK = {
    "connect_timeout": "2",
    "keepalives": "1",
    "keepalives_idle": "1",
    "keepalives_interval": "1",
    "keepalives_count": "2",
    "tcp_user_timeout": "2000",
}


@pytest.fixture
def host(database_url, monkeypatch):
    """The way to the database, which is given up soon."""
    assert QUICK.keys() == libpq.BOUNDS.keys()
    monkeypatch.setattr(libpq, "BOUNDS", QUICK)
    try:
        with vanishing_host(database_url) as host:
            yield host
    except PermissionError:
        pytest.skip("packets can't be dropped here: run it with CAP_NET_ADMIN")


@pytest.fixture
def reader(host):
    kept = KeptReader(host.url)
    yield kept
    kept.close()


def lend(reader):
    with reader.lend() as frames:
        return len(frames.read(1, 0, 10, state_width=1, action_width=1))


async def in_time(host, blocking, *values):
    """What a blocking function returns; TimeoutError if that takes longer than anyone should wait."""
    try:
        return await asyncio.wait_for(asyncio.to_thread(blocking, *values), PATIENCE_S)
    except TimeoutError:
        host.close()
        raise


async def test_kept_connection_is_made_anew(host, reader):
    """The connection that a worker keeps is given up, and the export has another one."""
    await in_time(host, lend, reader)
    host.forget()
    assert await in_time(host, lend, reader) == 0


async def test_nothing_else_is_waited_for(host, reader):
    """Where the host itself has vanished, whoever wants to connect hears of it."""
    await in_time(host, lend, reader)
    host.vanish()
    with pytest.raises(AdbcError):
        await in_time(host, lend, reader)
    with pytest.raises(psycopg.OperationalError):
        await in_time(host, ChunkReader, host.url)


async def test_pool_has_connections_again(host):
    """Those that it had go, and whoever asks gets a new one."""
    async with open_pool(host.url) as pool:
        async with pool.connection() as connection:
            await connection.execute("SELECT 1")
        host.forget()
        async with asyncio.timeout(PATIENCE_S):
            await answer_of(pool)


async def answer_of(pool):
    while True:
        try:
            async with pool.connection() as connection:
                return await connection.execute("SELECT 1")
        except psycopg.OperationalError:
            await asyncio.sleep(0.1)


async def test_service_makes_the_next_export(host, serve_on, record):
    """The whole service: one export before, one after."""
    first, second = await record(60), await record(120)
    async with serve_on(host.url) as backend:
        await backend.export(first)
        host.forget()
        async with asyncio.timeout(PATIENCE_S):
            while (await backend.http.get("/exports")).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            export, _ = await backend.export(second)
    assert export["numbers"]["frames"] == 120
