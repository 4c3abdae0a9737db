"""A stream whose address was mistyped, and that its shipper offers to it for ever."""

import asyncio
import os
import subprocess
import sys

import pytest
from lerobot_robot_backend.shipper import ship_all, ship_stream, take_over
from lerobot_robot_backend.shipping import trouble
from lerobot_robot_backend.spool.locks import locked
from lerobot_robot_backend.spool.stream import read_stream, send_to
from teleop_client import backoff
from teleop_testing.robots.spooled import record
from teleop_testing.waiting import PATIENCE_S, until


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Tests do not wait as long as robots do."""
    monkeypatch.setattr(backoff, "FIRST_BACKOFF_S", 0.01)
    monkeypatch.setattr(trouble, "SOON_S", 0.05)


def shipper_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lerobot_robot_backend.shipper", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)


async def test_corrected_address_is_followed(make_client, backend, unused_tcp_port):
    """`--all --backend_url` brings what another `--all` would offer to a wrong address for ever."""
    clients = [record(make_client, count) for count in (1, 2)]
    spool = clients[0].spool_dir
    for client in clients:
        send_to(client.stream_dir, f"ws://127.0.0.1:{unused_tcp_port}")
    waiting = asyncio.create_task(ship_all(spool))
    await until(lambda: all(client.progress.trouble for client in clients))
    done = await asyncio.to_thread(shipper_command, "--all", "--backend_url", backend.url, spool)
    assert done.returncode == 0, done.stderr
    assert f"is being shipped by process {os.getpid()} (kill {os.getpid()} ends it)" in done.stderr
    assert await waiting == 2
    assert sorted(stream.next for stream in backend.streams.values()) == [1, 2]
    assert {read_stream(client.stream_dir).backend_url for client in clients} == {backend.url}


async def test_stream_is_taken_over_from_a_process_that_does_not_follow(make_client, backend, caplog):
    """It is named, and once somebody has ended it the stream is shipped."""
    client = record(make_client, 3)
    with locked(client.stream_dir / "shipper.lock"):
        taking = asyncio.create_task(take_over(client.stream_dir, backend.url))
        await until(lambda: f"kill {os.getpid()}" in caplog.text)
    assert await taking
    assert backend.stream.next == 3


async def test_corrected_address_stays(make_client, backend, unused_tcp_port):
    """Who ships the stream the next time needs not be told."""
    client = record(make_client, 3)
    send_to(client.stream_dir, f"ws://127.0.0.1:{unused_tcp_port}")
    shipping = asyncio.create_task(ship_stream(client.stream_dir, backend_url=backend.url))
    await asyncio.wait_for(shipping, PATIENCE_S)
    assert read_stream(client.stream_dir).backend_url == backend.url
    (client.stream_dir / "address").write_text("")
    assert read_stream(client.stream_dir).backend_url == backend.url


def test_who_else_ships_is_named(make_client):
    """An exit code other than 0 has its line."""
    client = record(make_client, 1)
    me = f"process {os.getpid()} (kill {os.getpid()} ends it)"
    with locked(client.stream_dir / "shipper.lock"):
        ended = shipper_command(client.stream_dir)
    assert (ended.returncode, me in ended.stderr) == (75, True), ended.stderr
    wrong = shipper_command("--all", "--backend_url", "localhost", client.spool_dir)
    assert wrong.returncode == 2
    assert "--backend_url: 'localhost' is not the address of a backend" in wrong.stderr
