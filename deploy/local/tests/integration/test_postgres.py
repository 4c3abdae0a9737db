"""The embedded PostgreSQL: a real server in a folder of one's own."""

import asyncio
import os
import resource
import signal
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
from teleop_backend.postgres import EmbeddedPostgres, PostgresFailed, running


@pytest.fixture
def folder():
    """A folder for one cluster; not pytest's own, whose path may be long."""
    with tempfile.TemporaryDirectory(prefix="postgres-test-") as path:
        yield Path(path)


@pytest.fixture
def server(folder):
    """A running server."""
    server = EmbeddedPostgres(folder)
    server.start()
    yield server
    server.stop()


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def ask(server: EmbeddedPostgres, query: str):
    connection = await asyncpg.connect(server.url())
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_data_survives_a_restart(server):
    """What was committed is there after stop and start."""
    await ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    server.stop()
    server.start()
    assert await ask(server, "SELECT answer FROM kept") == 42


async def test_commits_wait_for_the_disk(server):
    """Nothing of PostgreSQL's durability is turned off."""
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        assert await ask(server, f"SHOW {setting}") == "on"


async def test_no_secret_is_inherited(folder, monkeypatch):
    """Neither by the server, nor by the processes of its own that answer connections."""
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "LEROBOT_BACKEND_TOKEN"):
        monkeypatch.setenv(name, "a-secret")
    server = EmbeddedPostgres(folder)
    async with running(server):
        connection = await asyncpg.connect(server.url())
        try:
            answering = await connection.fetchval("SELECT pg_backend_pid()")
            for pid in (server.pid, answering):
                assert b"a-secret" not in environment_of(pid)
        finally:
            await connection.close()


async def test_no_network_port_is_open(server):
    """It is reached over a socket that only its owner may open."""
    assert await ask(server, "SHOW listen_addresses") == ""
    assert server.sockets.stat().st_mode & 0o077 == 0


async def test_server_of_a_killed_backend_is_taken_over(folder, server):
    """A backend that was killed leaves PostgreSQL running; the next one goes on with it."""
    pid = server.pid
    server._drop_lock()
    following = EmbeddedPostgres(folder)
    following.start()
    assert following.pid == pid
    following._drop_lock()
    server._take_lock()


async def test_killed_server_is_started_again(server):
    """`ensure_running` recovers from a crash without losing a commit."""
    await ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    crashed = server.pid
    server.stop(signal.SIGQUIT)
    server._take_lock()
    server.ensure_running()
    assert server.pid != crashed
    assert await ask(server, "SELECT answer FROM kept") == 42


def test_second_backend_on_a_folder_is_refused(folder, server):
    """Two backends on one folder would be two masters; the second is told what to do."""
    with pytest.raises(PostgresFailed, match=r"another backend is running .* LEROBOT_BACKEND_DATA_DIR"):
        EmbeddedPostgres(folder).start()


def test_stale_pid_of_another_program_does_not_confuse(folder, server):
    """After a reboot the pid in PostgreSQL's file may belong to anything."""
    server.stop()
    (server.cluster / "postmaster.pid").write_text(f"{os.getpid()}\n{server.cluster}\n")
    assert server.pid is None
    server.start()
    assert server.pid


@contextmanager
def no_descriptor_left():
    """While open, this process can open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("started_here", [True, False])
async def test_a_server_of_which_nothing_can_be_learned_is_left_alone(folder, server, started_here):
    """Without a descriptor to look with, a living server keeps its socket and its pid file."""
    known = server
    if not started_here:
        server._drop_lock()
        known = EmbeddedPostgres(folder)
        known.start()
    pid = server.pid
    with no_descriptor_left():
        with pytest.raises(OSError, match="Too many open files"):
            known.ensure_running()
        if started_here:
            assert known.pid == pid
    assert known.pid == pid
    assert (server.cluster / "postmaster.pid").read_text().startswith(f"{pid}\n")
    assert await ask(server, "SELECT 42") == 42
    if not started_here:
        known._drop_lock()
        server._take_lock()


@pytest.mark.parametrize("damage", ["removed", "emptied", "torn"])
async def test_a_server_whose_pid_file_is_damaged_is_left_alone(folder, server, damage):
    """Another one would work on the same files: a process that is a server of this folder is not dead."""
    server._drop_lock()
    taking_over = EmbeddedPostgres(folder)
    taking_over.start()
    pid, path = taking_over.pid, server.cluster / "postmaster.pid"
    content = path.read_text()
    if damage == "removed":
        path.unlink()
    else:
        path.write_text("" if damage == "emptied" else "x")
    taking_over.ensure_running()
    assert taking_over.pid == pid == server.pid
    assert await ask(server, "SELECT 42") == 42
    path.write_text(content)
    taking_over._drop_lock()
    server._take_lock()


def test_another_servers_number_in_a_stale_file_is_no_server_of_this_folder(folder, server):
    """After a reboot the pid may be that of a PostgreSQL, though of another cluster."""
    with tempfile.TemporaryDirectory(prefix="postgres-test-") as other:
        mine = EmbeddedPostgres(Path(other))
        mine.cluster.mkdir()
        (mine.cluster / "postmaster.pid").write_text(f"{server.pid}\n{mine.cluster}\n")
        assert mine.pid is None


def test_where_nobody_may_look_servers_are_told_apart_by_their_start(folder, server, monkeypatch):
    """As root of a container, which soon gives another cluster's server the number that this one's had."""

    def refuse(*_paths):
        raise PermissionError

    monkeypatch.setattr(Path, "samefile", refuse)
    assert EmbeddedPostgres(folder).pid == server.pid
    with tempfile.TemporaryDirectory(prefix="postgres-test-") as other:
        mine = EmbeddedPostgres(Path(other))
        mine.cluster.mkdir()
        (mine.cluster / "postmaster.pid").write_text(f"{server.pid}\n{mine.cluster}\n")
        assert mine.pid is None
        number, _, rest = server.identity.read_text().partition(" ")
        mine.identity.write_text(f"{number} 1{rest}")
        assert mine.pid is None


@pytest.mark.parametrize("moment", ["_make_cluster", "_launch", "_answers", "_create_database"])
async def test_a_start_that_is_cancelled_leaves_no_server(folder, monkeypatch, moment):
    """Whatever it was just doing: what has begun is stopped, and the folder is free."""
    server, reached = EmbeddedPostgres(folder), threading.Event()
    do = getattr(server, moment)

    def tell_and_do(*words):
        reached.set()
        return do(*words)

    monkeypatch.setattr(server, moment, tell_and_do)

    async def run() -> None:
        async with running(server):
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await asyncio.to_thread(reached.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert EmbeddedPostgres(folder).pid is None
    async with running(EmbeddedPostgres(folder)) as _:
        pass


async def test_a_server_that_is_not_wanted_is_not_started_again(folder):
    """What watches over it may be about to do so while all is being stopped."""
    server = EmbeddedPostgres(folder)
    async with running(server):
        pass
    with pytest.raises(PostgresFailed, match="asked to stop"):
        server.ensure_running()
    assert server.pid is None


async def test_a_second_backend_that_is_refused_leaves_the_first_ones_server(folder, server):
    """It stops only what it could have started."""
    with pytest.raises(PostgresFailed, match="another backend is running"):
        async with running(EmbeddedPostgres(folder)):
            pass
    assert await ask(server, "SELECT 42") == 42


def test_a_user_without_a_name_is_told_what_to_do(folder, monkeypatch):
    """As in a container that was given a number to run as; initdb would only say that it can't look it up."""
    monkeypatch.setattr(os, "geteuid", lambda: 2_000_000)
    with pytest.raises(PostgresFailed, match=r"database for user 2000000, which has no name; .* /etc/passwd"):
        EmbeddedPostgres(folder).start()


def test_unfinished_cluster_is_made_anew(folder):
    """A first start that was killed half-way does not spoil the folder."""
    (folder / "postgres.new" / "base").mkdir(parents=True)
    server = EmbeddedPostgres(folder)
    server.start()
    assert server.pid
    server.stop()
