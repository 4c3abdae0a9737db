"""Pytest plugin: a real PostgreSQL and an S3 server for the run, on them an empty place for each test."""

import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import hypothesis
import pytest
import pytest_asyncio
from lerobot_backend.postgres import EmbeddedPostgres
from teleop_schema.migrate import migrate

from teleop_testing.database import Database
from teleop_testing.priority import renounce_real_time
from teleop_testing.s3 import S3Folder, s3_server, which_server

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A running PostgreSQL, shared by all tests that do not hurt it; its own database is migrated."""
    folder = Path(tempfile.mkdtemp(prefix="teleop-testing-"))
    server = EmbeddedPostgres(folder, settings={"max_connections": "300"})
    server.start()
    migrate(server.url())
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture
async def database_url(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """Address of a migrated, empty database of this test's own."""
    name = f"test_{next(_numbers)}"
    admin = await asyncpg.connect(postgres.url("postgres"))
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE teleop")
    yield postgres.url(name)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """What the tests ask a database."""
    async with Database.connect(database_url) as database:
        yield database


def pytest_configure(config: pytest.Config) -> None:
    """The mark of tests that an ordinary user can't run: `@pytest.mark.root("why")`."""
    config.addinivalue_line(
        "markers", "root(why): only root may do what this test does, and why that is needed"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what needs root where this is not root, and say why it does."""
    if os.geteuid() == 0:
        return
    for item in items:
        if mark := item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason=f"needs root: {mark.args[0]}"))


def pytest_report_header() -> str:
    """Which S3 server the tests run against."""
    return f"S3 server: {which_server()}"


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Folder]:
    """A running S3 server, shared by all tests."""
    with s3_server() as root:
        yield root


@pytest.fixture
def s3_folder(s3: S3Folder, monkeypatch: pytest.MonkeyPatch) -> S3Folder:
    """An empty folder of this test's own on an S3 server, to which the environment leads."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3.empty_one()


# How long an example takes says nothing on a shared machine.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

renounce_real_time()
