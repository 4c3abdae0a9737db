"""Whose PostgreSQL it is: the wheel's, or one that is installed on the machine."""

import asyncio
import signal
import tempfile
from pathlib import Path

import asyncpg
import pytest
from teleop_backend.postgres import EmbeddedPostgres
from teleop_backend.postgres.programs import (
    NEEDED,
    OLDEST,
    VARIABLE,
    PostgresFailed,
    bundled_programs,
    find_programs,
)
from teleop_schema.migrate import migrate

INSTALLED = sorted(
    folder
    for folder in Path("/usr/lib/postgresql").glob("*/bin")
    if folder.parent.name.isdecimal() and int(folder.parent.name) >= OLDEST and (folder / "postgres").exists()
)


@pytest.fixture
def folder():
    """A folder for one cluster; not pytest's own, whose path may be long."""
    with tempfile.TemporaryDirectory(prefix="postgres-test-") as path:
        yield Path(path)


async def ask(server: EmbeddedPostgres, query: str):
    connection = await asyncpg.connect(server.url())
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def programs_that_say(folder: Path, told: str) -> Path:
    """A folder of programs of which the server says that it has some version."""
    folder.mkdir()
    for name in NEEDED:
        (folder / name).write_text(f"#!/bin/sh\necho '{told}'\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize("programs", INSTALLED or [None], ids=str)
async def test_an_installed_postgresql_serves_as_well(folder, programs):
    """Its own cluster is made, migrated, killed and recovered, as durable as with the wheel."""
    if programs is None:
        pytest.skip(f"no PostgreSQL from {OLDEST} on in /usr/lib/postgresql")
    server = EmbeddedPostgres(folder, programs=programs)
    server.start()
    try:
        await asyncio.to_thread(migrate, server.url())
        version = int(await ask(server, "SHOW server_version_num"))
        assert version // 10_000 == server.programs.major == int(programs.parent.name)
        for setting in ("fsync", "full_page_writes", "synchronous_commit", "data_checksums"):
            assert await ask(server, f"SHOW {setting}") == "on"
        await ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        server.stop(signal.SIGQUIT)
        server.start()
        assert await ask(server, "SELECT answer FROM kept") == 42
    finally:
        server.stop()


def test_the_environment_chooses_where_nothing_else_does(monkeypatch, tmp_path):
    """So one variable makes all tests run on another PostgreSQL."""
    folder = programs_that_say(tmp_path / "bin", "postgres (PostgreSQL) 16.4 (Debian 16.4-1)")
    find_programs.cache_clear()
    monkeypatch.setenv(VARIABLE, str(folder))
    chosen = find_programs()
    find_programs.cache_clear()
    assert (chosen.folder, chosen.major) == (folder, 16)


def test_a_folder_without_programs_is_refused(folder):
    """As where the folder of the version was named, and not the one below it."""
    with pytest.raises(PostgresFailed, match=rf"^{VARIABLE}: {folder} has no program postgres that .*/bin$"):
        EmbeddedPostgres(folder / "data", programs=folder).start()


def test_a_postgresql_that_is_too_old_is_refused(folder):
    """With the version that would do."""
    programs = programs_that_say(folder / "bin", "postgres (PostgreSQL) 14.20")
    with pytest.raises(PostgresFailed, match=rf"has PostgreSQL 14, but {OLDEST} or later is needed"):
        EmbeddedPostgres(folder / "data", programs=programs).start()


def test_programs_that_are_no_postgresql_are_refused(folder):
    """Whatever they are."""
    programs = programs_that_say(folder / "bin", "hello")
    with pytest.raises(PostgresFailed, match="postgres does not say its version: hello"):
        EmbeddedPostgres(folder / "data", programs=programs).start()


def test_data_of_another_major_version_are_refused(folder):
    """Before the server is started, which would only say so in its log; and nothing is changed."""
    named = programs_that_say(folder / "bin", "postgres (PostgreSQL) 16.4")
    made_by = folder / "postgres" / "PG_VERSION"
    made_by.parent.mkdir()
    made_by.write_text("15\n")
    with pytest.raises(
        PostgresFailed, match=rf"PostgreSQL 15, and .* 16 can't .*; set {VARIABLE} to .* 15's"
    ):
        EmbeddedPostgres(folder, programs=named).start()
    made_by.write_text(f"{bundled_programs().major}\n")
    with pytest.raises(PostgresFailed, match=rf"; unset {VARIABLE}, choose .* docs/upgrading\.md$"):
        EmbeddedPostgres(folder, programs=named).start()
    assert [path.name for path in made_by.parent.iterdir()] == ["PG_VERSION"]
