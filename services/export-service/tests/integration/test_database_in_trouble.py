"""What a database's troubles do to the making of exports: they wait, and go on by themselves."""

import asyncio

import psycopg
import pytest
from teleop_export import worker
from teleop_export.tables import export_table
from teleop_export.tables.database import connect, open_pool
from teleop_export.work import in_thread
from teleop_runtime import background
from teleop_schema.errors import BackendError, NoSpace, Overloaded, StorageUnavailable
from teleop_testing.waiting import until


@pytest.fixture
def admin(database_url):
    """A connection that troubles the others, and sees nothing of it."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def read_only(admin, value: str) -> None:
    """As after a failover: what is connected is cut, and what connects anew may only read."""
    admin.execute(f"ALTER DATABASE {admin.info.dbname} SET default_transaction_read_only = {value}")
    admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


async def test_workers_go_on_after_the_database_was_read_only(backend, record, admin, monkeypatch):
    """For as long as that lasts readiness tells; then what waits is made."""
    monkeypatch.setattr(background, "STEADY_AFTER_S", 0.5)
    session = await record(30)
    await asyncio.to_thread(read_only, admin, "on")

    async def told():
        answer = await backend.http.get("/readyz")
        return answer.status_code == 503 and "read-only" in answer.json().get("making of exports", "")

    await until(told)
    admin.execute("SET default_transaction_read_only = off")
    await asyncio.to_thread(read_only, admin, "off")

    async def ready():
        return (await backend.http.get("/readyz")).status_code == 200

    await until(ready)
    export, _ = await backend.export(session)
    assert export["numbers"]["frames"] == 30


async def test_export_waits_for_a_connection(backend, record, monkeypatch):
    """That there is none left is no attempt, of which an export has only so many; here one."""
    monkeypatch.setattr(export_table, "MAX_ATTEMPTS", 1)
    refused = []

    class Full:
        """The connection that can't be had at first."""

        def __new__(cls, url):
            if not refused:
                refused.append(url)
                raise psycopg.errors.TooManyConnections("sorry, too many clients already")
            return reader(url)

    reader = worker.ChunkReader
    monkeypatch.setattr(worker, "ChunkReader", Full)
    export, _ = await backend.export(await record(30))
    assert export["numbers"]["frames"] == 30
    assert refused


FULL_DISK = NoSpace("the disk of the database is full")
NOT_NOW = pytest.mark.parametrize(
    "trouble", [StorageUnavailable(), FULL_DISK, Overloaded()], ids=["away", "full disk", "no descriptor"]
)


@NOT_NOW
async def test_the_database_may_go_before_an_export_is_published(backend, record, monkeypatch, trouble):
    """That is no attempt either, though it can be told only afterwards."""
    monkeypatch.setattr(export_table, "MAX_ATTEMPTS", 1)
    went = went_once(monkeypatch, "publish", trouble)
    export, _ = await backend.export(await record(30))
    assert went
    assert (export["status"], export["numbers"]["frames"]) == ("done", 30)


@NOT_NOW
async def test_what_is_made_goes_on_while_nobody_can_be_told(backend, record, monkeypatch, trouble):
    """Word of how far it is waits; the work is not done again."""
    begun = []
    folders = worker.Folders.begin

    def begin(self, export_id, attempt):
        begun.append(attempt)
        return folders(self, export_id, attempt)

    monkeypatch.setattr(worker.Folders, "begin", begin)
    monkeypatch.setattr(in_thread, "TELL_PROGRESS_S", 0)
    went = went_once(monkeypatch, "note_progress", trouble)
    await backend.export(await record(30))
    assert went
    assert begun == [1]


def went_once(monkeypatch, method: str, trouble: BackendError) -> list[bool]:
    """Has the database be in trouble at the first call of a method of the exports' table; when it was."""
    went = []
    there = getattr(export_table.ExportTable, method)

    async def first_away(self, *words):
        if not went:
            went.append(True)
            raise trouble
        return await there(self, *words)

    monkeypatch.setattr(export_table.ExportTable, method, first_away)
    return went


@pytest.fixture
def limited_url(database_url, admin):
    """The database's address for a role that may have two connections."""
    admin.execute("CREATE ROLE limited LOGIN CONNECTION LIMIT 2")
    yield database_url.replace(f"//{admin.info.user}@", "//limited@")
    admin.execute("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE usename = 'limited'")
    admin.execute("DROP ROLE limited")


async def test_no_connections_left_is_told(limited_url):
    """With what to raise; once another is given back, all is well."""
    async with open_pool(limited_url) as pool:
        async with connect(pool), connect(pool):
            with pytest.raises(StorageUnavailable, match="no connections left") as refused:
                async with connect(pool):
                    pass
            assert "max_connections" in refused.value.hint
        async with connect(pool) as connection:
            await connection.execute("SELECT")
