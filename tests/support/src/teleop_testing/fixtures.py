"""Pytest plugin: a real PostgreSQL and an S3 server for the run, on them an empty place for each test."""

import asyncio
import gc
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
import httpx._transports.default as transports
import hypothesis
import pytest
import pytest_asyncio
from teleop_backend.postgres import EmbeddedPostgres
from teleop_schema.migrate import migrate

from teleop_testing.backends.database import Database
from teleop_testing.backends.s3 import S3Folder, s3_server, which_server
from teleop_testing.clients_table import note
from teleop_testing.machine.hearing import hear_terminals
from teleop_testing.machine.prepared import PreparedPython, prepared_python
from teleop_testing.machine.priority import renounce_real_time
from teleop_testing.once import first_alone

_numbers = itertools.count()
MEMORY = Path("/dev/shm")
# What the shared server's data and log take at most, with room for what tests put there.
MEMORY_BYTES = 4 << 30
# Lines of the shared server's log that a failed test shows at most.
LOG_LINES = 60
_log = pytest.StashKey[Path]()
_log_begins = pytest.StashKey[int]()


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> Iterator[EmbeddedPostgres]:
    """A running PostgreSQL, shared by all tests that do not hurt it; its own database is migrated.

    Its data lie in memory if there is room: a database made and removed for each test keeps a disk busy.
    """
    folder = Path(tempfile.mkdtemp(prefix="teleop-testing-", dir=MEMORY if _has_room(MEMORY) else None))
    server = EmbeddedPostgres(folder, settings={"max_connections": "300", "max_wal_size": "256MB"})
    server.start()
    migrate(server.url())
    pytestconfig.stash[_log] = server.log
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture
async def database_url(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """Address of a migrated, empty database of this test's own."""
    name = f"test_{next(_numbers)}"
    admin = await asyncpg.connect(postgres.url("postgres"))
    # In memory, files are copied with half of the processor time that it takes through the log; a disk would
    # have to write them all.
    strategy = "FILE_COPY" if MEMORY in postgres.folder.parents else "WAL_LOG"
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE teleop STRATEGY {strategy}")
    yield postgres.url(name)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """What the tests ask a database."""
    async with Database.connect(database_url) as database:
        yield database


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreparedPython]:
    """Starts Python that has imported what LeRobot needs, for programs whose start no test is about."""
    with prepared_python(tmp_path_factory.mktemp("huggingface")) as python:
        yield python


@pytest.fixture
def tried() -> Callable[[str, str, str, str], None]:
    """Notes what a client sent through an interface, and what was stored: a row of docs/clients.md."""
    return note


def pytest_configure(config: pytest.Config) -> None:
    """The marks of tests that an ordinary user can't run, and of those that take long, each with its why."""
    config.addinivalue_line(
        "markers", "root(why): only root may do what this test does, and why that is needed"
    )
    config.addinivalue_line(
        "markers", "long(why): takes about a minute, and something shorter is near it: `make test-long`"
    )
    hear_terminals()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Have one of xdist's workers import all tests before the others do, which then find everything compiled.

    Side by side, each would compile what LeRobot imports, which takes longer than importing it. What has been
    imported stays: to look through it for garbage, again and again, takes a tenth of the processor time.
    """
    gc.disable()
    with first_alone(Path(sys.prefix)) if hasattr(session.config, "workerinput") else nullcontext():
        collected = yield
    gc.freeze()
    gc.enable()
    return collected


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what needs root where this is not root, and say why it does."""
    if os.geteuid() == 0:
        return
    for item in items:
        if mark := item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason=f"needs root: {mark.args[0]}"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember where in the shared server's log this test begins."""
    log = item.config.stash.get(_log, None)
    item.stash[_log_begins] = log.stat().st_size if log else 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failed test what the shared server has logged since the test began.

    A server that crashed, or could not write, recovers before anybody can look.
    """
    report = yield
    log = item.config.stash.get(_log, None)
    if report.failed and log:
        lines = log.read_bytes()[item.stash[_log_begins] :].decode(errors="replace").splitlines()
        report.sections.append(("Shared PostgreSQL's log", "\n".join(lines[-LOG_LINES:])))
    return report


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


def _has_room(folder: Path) -> bool:
    return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > MEMORY_BYTES


def check_threads() -> None:
    """Have every event loop refuse what another thread than its own asks of it, as asyncio's debug mode does.

    The rest of that mode, a traceback for each callback, takes a third of the tests' processor time.
    """
    call_soon, call_at = asyncio.BaseEventLoop.call_soon, asyncio.BaseEventLoop.call_at

    def checked_call_soon(self: Any, *words: Any, **options: Any) -> asyncio.Handle:
        self._check_thread()
        return call_soon(self, *words, **options)

    def checked_call_at(self: Any, *words: Any, **options: Any) -> asyncio.TimerHandle:
        self._check_thread()
        return call_at(self, *words, **options)

    asyncio.BaseEventLoop.call_soon = checked_call_soon  # type: ignore[assignment,method-assign]
    asyncio.BaseEventLoop.call_at = checked_call_at  # type: ignore[assignment,method-assign]


def share_certificates() -> None:
    """Have httpx read the certificates that it trusts once, not anew for each client and each single request.

    Reading them takes 35 ms of processor time, also where nothing is encrypted.
    """
    transports.create_ssl_context = cache(transports.create_ssl_context)  # type: ignore[attr-defined]


# How long an example takes says nothing on a shared machine.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

check_threads()
share_certificates()
renounce_real_time()
