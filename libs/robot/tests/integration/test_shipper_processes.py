"""Shippers as processes: one per stream, started by a client or by a person, for all that a spool holds."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys

import pytest
from lerobot_robot_backend import shipper, video_shipper
from lerobot_robot_backend.shipper import ship_all, ship_stream
from lerobot_robot_backend.shipping import sender, trouble
from lerobot_robot_backend.spool.locks import FileLock
from lerobot_robot_backend.spool.stream import SpoolError
from teleop_client import backoff
from teleop_testing.backends.refusing import refuse
from teleop_testing.robots.spooled import log_frames, record, redirect
from teleop_testing.waiting import PATIENCE_S, until


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Tests do not wait as long as robots do."""
    monkeypatch.setattr(backoff, "FIRST_BACKOFF_S", 0.01)
    monkeypatch.setattr(trouble, "LATE_S", 0.05)
    monkeypatch.setattr(sender, "LINGER_S", 0.01)


async def test_one_shipper_per_stream(make_client, backend):
    """A second shipper leaves a stream alone that has one."""
    client = record(make_client, 1)
    lock = FileLock(client.stream_dir / "shipper.lock")
    assert lock.acquire()
    assert not await ship_stream(client.stream_dir)
    lock.release()
    assert await ship_stream(client.stream_dir)


async def test_leftovers_of_all_robots_are_shipped(make_client, backend):
    """What finished recordings left in the spool is shipped; a living one is left to its own shipper."""
    clients = [record(make_client, count) for count in range(1, 7)]
    await ship_stream(clients[0].stream_dir)
    (clients[1].stream_dir / "session.json").write_bytes(b"{")
    with make_client() as living:
        log_frames(living, 1)
        assert await ship_all(living.spool_dir) == 4
    assert sorted(stream.next for stream in backend.streams.values()) == [1, 3, 4, 5, 6]


async def test_client_ships_by_a_process_of_its_own(make_client, backend):
    """The client's shipper outlives a kill, and brings everything to the server."""
    with make_client(ship=True) as client:
        log_frames(client, 10)
        await until(lambda: client.acknowledged == 10)
        pid = client.shipper_pid
        assert pid is not None
    assert await asyncio.to_thread(client.drain, 20.0) == 10
    assert backend.stream.end.reason == "closed"


async def test_leftovers_get_a_shipper_at_the_next_start(make_client, backend):
    """What an earlier session could not deliver is delivered beside the next one."""
    earlier = record(make_client, 7)
    with make_client(ship=True) as client:
        await until(lambda: earlier.progress.ended)
        log_frames(client, 1)
    await asyncio.to_thread(client.drain, 20.0)
    assert sorted(stream.next for stream in backend.streams.values()) == [1, 7]


async def test_killed_shipper_is_replaced(make_client, backend):
    """A shipper that was killed is started again, at the latest when the session is closed."""
    with make_client(ship=True) as client:
        log_frames(client, 1)
        await until(lambda: client.acknowledged == 1)
        os.kill(client.shipper_pid, signal.SIGKILL)
        await until(lambda: client.shipper_pid is None)
        log_frames(client, 1)
    assert await asyncio.to_thread(client.drain, 20.0) == 2


async def test_command_line(make_client, backend):
    """`python -m lerobot_robot_backend.shipper --all <spool>` ships and exits."""
    client = record(make_client, 3)
    command = [sys.executable, "-m", "lerobot_robot_backend.shipper", "--all", str(client.spool_dir)]
    finished = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert finished.returncode == 0
    assert "complete: session 1, 3 frames" in finished.stderr
    assert "shipped by this process: 1 recording\n" in finished.stderr
    finished = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (finished.returncode, "nothing; " in finished.stderr) == (0, True)
    missing = [*command[:3], str(client.spool_dir / "missing")]
    (client.spool_dir / "missing").mkdir()
    finished = await asyncio.to_thread(
        subprocess.run, missing, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert finished.returncode == 1
    assert "session.json can't be read" in finished.stderr


@pytest.mark.parametrize("main", [shipper.main, video_shipper.main])
def test_mistyped_variables_are_told(tmp_path, caplog, monkeypatch, main):
    """By a shipper that a person starts, as by every other command."""
    monkeypatch.setenv("LEROBOT_BACKEND_TOKKEN", "secret")
    main(["--all", str(tmp_path / "missing")])
    assert (
        "LEROBOT_BACKEND_TOKKEN is not known, and does nothing: is LEROBOT_BACKEND_TOKEN meant?"
        in caplog.text
    )


@pytest.mark.parametrize("main", [shipper.main, video_shipper.main])
def test_another_folder_than_the_spool_is_refused(make_client, caplog, main):
    """A mistyped spool is not taken for one in which nothing waits."""
    client = record(make_client, 1)
    spool, stream = client.spool_dir, client.stream_dir
    for words, reason in (
        (["--all", f"{spool}x"], "there is no folder"),
        (["--all", f"{stream.parent}"], f"name the spool folder, {spool}"),
        (["--all", f"{stream}"], "leave out --all"),
        ([f"{spool}"], "add --all"),
    ):
        caplog.clear()
        assert main(words) == 1
        assert reason in caplog.text, words


async def test_a_silent_server_holds_up_no_other(make_client, backend, monkeypatch, caplog):
    """What waits for it keeps nothing from those that are there, be it brought by this command or another."""
    caplog.set_level("INFO")
    monkeypatch.setattr(shipper, "CONCURRENT_STREAMS", 1)
    monkeypatch.setattr(sender, "PONG_S", 1000.0)
    asked: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    async with await asyncio.start_server(lambda _, writer: asked.put(writer), "127.0.0.1", 0) as silent:
        url = f"ws://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        waiting, left = record(make_client, 1), record(make_client, 2)
        redirect(waiting.stream_dir, url)
        command = ["--all", str(left.spool_dir)]
        first = asyncio.create_task(asyncio.to_thread(shipper.main, command))
        connection = await asked.get()
        await until(lambda: left.progress.ended)
        later = record(make_client, 3)
        assert await asyncio.to_thread(shipper.main, command) == 0
        assert later.progress.ended
        assert not first.done()
        assert f"{waiting.stream_dir} is being sent by process {os.getpid()}" in caplog.text
        assert f"to {url}" in caplog.text
        shutil.rmtree(waiting.stream_dir)
        connection.close()
        # The one that is gone could not be brought.
        assert await first == 1


@pytest.mark.parametrize("odd", ["folder", "lock", "nested"])
async def test_an_odd_stream_holds_up_no_other(make_client, backend, caplog, monkeypatch, odd):
    """One that may not be read or locked, or nests too deeply, is named; the others are brought."""
    first, second = record(make_client, 1), record(make_client, 2)
    if odd == "nested":
        (first.stream_dir / "session.json").write_text('{"a":' * 100_000)
    else:
        refused = first.stream_dir / ("session.json" if odd == "folder" else "shipper.lock")
        refuse(monkeypatch, refused)
    failed: list[Exception] = []
    assert await ship_all(first.spool_dir, failed=failed.append) == 1
    assert second.progress.ended
    assert str(first.stream_dir) in caplog.text
    assert "Traceback" not in caplog.text
    (error,) = failed
    assert str(first.stream_dir) in str(error)


def test_the_command_tells_whether_it_brought_everything(make_client, backend, spool, caplog):
    """It ends with 1 if a stream could not be read, or there is no spool."""
    assert shipper.main(["--all", str(spool)]) == 1
    assert f"no folder {spool}" in caplog.text
    client = record(make_client, 1)
    (client.stream_dir / "session.json").write_text("{")
    assert shipper.main(["--all", str(spool)]) == 1
    assert "session.json can't be read" in caplog.text
    shutil.rmtree(client.stream_dir)
    assert shipper.main(["--all", str(spool)]) == 0


async def test_removed_stream_ends_its_shipper(make_client, unused_tcp_port):
    """A shipper whose stream somebody removed does not stay behind forever."""
    client = record(make_client, 1)
    url = f"ws://127.0.0.1:{unused_tcp_port}"
    shipping = asyncio.create_task(ship_stream(client.stream_dir, backend_url=url))
    await asyncio.sleep(0.1)
    shutil.rmtree(client.stream_dir)
    with pytest.raises(SpoolError, match="is gone"):
        await shipping
