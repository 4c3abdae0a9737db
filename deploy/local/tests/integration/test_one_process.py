"""The one-process default as a user starts it."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from teleop_backend.addresses import addresses_for
from teleop_backend.postgres import EmbeddedPostgres
from teleop_testing.backends.processes import free_port
from teleop_testing.robots.lines import connect
from teleop_testing.robots.tus import DATASET, TUS, metadata_of
from teleop_testing.waiting import PATIENCE_S, wait_for
from websockets.exceptions import InvalidStatus


@pytest.fixture
def folder():
    """Where the backend runs."""
    with tempfile.TemporaryDirectory(prefix="one-process-") as path:
        yield Path(path)


@contextmanager
def started(command: list[str], folder: Path, port: int, **settings: str):
    """The backend started by `command`, ready."""
    environment = {**os.environ, "LEROBOT_BACKEND_PORT": str(port), **settings}
    log = folder / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not is_ready(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=PATIENCE_S).status_code == 200
    except httpx.TransportError:
        return False


def ledger_of(port: int, session: int) -> dict:
    answer: dict = httpx.get(f"http://127.0.0.1:{port}/sessions/{session}/ledger", timeout=PATIENCE_S).json()
    return answer


async def record(port: int, frames: int) -> int:
    """Send plain frames; returns the session's id."""
    async with connect(f"ws://127.0.0.1:{port}/ws/log/robot_A") as websocket:
        for index in range(frames):
            await websocket.send(
                json.dumps({"observation": {"a.pos": index}, "action": {"a.pos": index + 0.5}})
            )
        session = json.loads(await websocket.recv())["session_id"]
        while json.loads(await websocket.recv())["next"] < frames:
            pass
    return session


MODULE = [sys.executable, "-m", "teleop_backend"]
UVICORN = [str(Path(sys.executable).parent / "uvicorn"), "teleop_backend.app:app", "--port", "{port}"]


async def assert_own_connections(port: int) -> None:
    """Connections have the services' own limits, not those of whoever started uvicorn."""
    address = f"127.0.0.1:{port}/{'x' * 9000}"
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        assert (await client.get(f"http://{address}")).json()["code"] == "target_too_long"
    with pytest.raises(InvalidStatus, match="414"):
        async with connect(f"ws://{address}"):
            pass


@pytest.mark.parametrize("command", [MODULE, UVICORN], ids=["module", "uvicorn"])
async def test_records_and_shows_after_a_kill(folder, command):
    """Started either way it takes frames; after kill -9 and a new start they are there."""
    port = free_port()
    command = [part.format(port=port) for part in command]
    with started(command, folder, port) as process:
        session = await record(port, 100)
        await assert_own_connections(port)
        process.kill()
        process.wait()
    with started(command, folder, port):
        ledger = ledger_of(port, session)
        assert (ledger["committed"], ledger["unaccounted"], ledger["duplicates"]) == (100, 0, 0)


async def test_stopping_leaves_nothing_running(folder):
    """SIGTERM ends the backend and its PostgreSQL."""
    port = free_port()
    with started([sys.executable, "-m", "teleop_backend"], folder, port) as process:
        children = psutil.Process(process.pid).children(recursive=True)
        assert any(child.name() == "postgres" for child in children)
    assert not [child for child in children if child.is_running() and child.name() == "postgres"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["postgres.new", "postgres.process"])
def test_stopped_while_it_starts_it_leaves_nothing_running(folder, number, moment):
    """Ctrl-C while the database is made, and after its server was started: the server stops as well."""
    command = subprocess.Popen(
        MODULE,
        cwd=folder,
        env={**os.environ, "LEROBOT_BACKEND_PORT": str(free_port())},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for((folder / "data" / moment).exists)
    command.send_signal(number)
    told, _ = command.communicate(timeout=PATIENCE_S)
    assert told.startswith("starting the LeRobot backend, its database in data; Ctrl-C stops it\n")
    assert "Traceback" not in told
    assert EmbeddedPostgres(folder / "data").pid is None


async def test_postgres_that_dies_is_started_again(folder):
    """The backend looks after its database: killed, it comes back by itself and nothing is lost."""
    port = free_port()
    with started([sys.executable, "-m", "teleop_backend"], folder, port):
        session = await record(port, 50)
        pid = int((folder / "data/postgres/postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(wait_until_ready_again, port)
        ledger = ledger_of(port, session)
        assert ledger["committed"] == 50


def test_settings_of_the_services_count(folder):
    """How many uploads may be open, for example."""
    port = free_port()
    headers = {**TUS, "Upload-Length": "5", **metadata_of(DATASET)}
    with started(MODULE, folder, port, INGEST_MAX_OPEN_UPLOADS="1", TELEMETRY_RETENTION_DAYS="30"):
        answers = [
            httpx.post(f"http://127.0.0.1:{port}/files", headers=headers, timeout=PATIENCE_S)
            for _ in range(2)
        ]
    assert [answer.status_code for answer in answers] == [201, 429]
    assert answers[1].json()["code"] == "too_many_uploads"


def wait_until_ready_again(port: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while is_ready(port):
        assert time.monotonic() < deadline
    while not is_ready(port):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_taken_port_is_named(folder):
    """A port that somebody has already is a clear error, not a traceback."""
    port = free_port()
    command = [sys.executable, "-m", "teleop_backend"]
    with started(command, folder, port):
        second = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "LEROBOT_BACKEND_PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.parametrize("command", [MODULE, UVICORN], ids=["module", "uvicorn"])
def test_what_keeps_the_database_from_starting_is_told_without_a_traceback(folder, command):
    """Here its folder is a file; the reason says what to change."""
    (folder / "data").write_text("")
    done = subprocess.run(
        [part.format(port=free_port()) for part in command],
        cwd=folder,
        env={**os.environ, "LEROBOT_BACKEND_PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode != 0
    reason = f"cannot keep data in {folder}/data: File exists; choose another folder"
    assert reason in done.stderr.splitlines()[0]
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_used_is_told_without_a_traceback(folder):
    """That of the files, too."""
    (folder / "lerobot_backup").write_text("")
    done = subprocess.run(
        MODULE,
        cwd=folder,
        env={**os.environ, "LEROBOT_BACKEND_PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    (reason,) = done.stderr.splitlines()
    assert reason.startswith("cannot keep files in lerobot_backup/.archive: 'lerobot_backup' is a file")
    assert "LEROBOT_BACKEND_BACKUP_DIR" in reason
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [MODULE, [*UVICORN, "--host", "0.0.0.0"]], ids=["module", "uvicorn"])
def test_every_address_may_be_listened_on(folder, command):
    """This account uses the backend as before; whoever comes by the network is told what is needed."""
    port = free_port()
    command = [part.format(port=port) for part in command]
    with started(command, folder, port, LEROBOT_BACKEND_HOST="0.0.0.0"):
        assert httpx.get(f"http://127.0.0.1:{port}/sessions", timeout=PATIENCE_S).status_code == 200
        _, address = addresses_for("0.0.0.0")
        if address == socket.gethostname():
            pytest.skip("this machine has no network")
        refused = httpx.get(f"http://{address}:{port}/sessions", timeout=PATIENCE_S)
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
        assert "no other machine without a token" in refused.json()["detail"]
        assert "lerobot-backend robots add" in refused.json()["hint"]


def test_wrong_settings_are_all_told(folder):
    """Each mistake in the environment has its line."""
    wrong = {"LEROBOT_BACKEND_PORT": "high", "LEROBOT_BACKEND_EXPOSURE": "world"}
    done = subprocess.run(
        [sys.executable, "-m", "teleop_backend"],
        cwd=folder,
        env={**os.environ, **wrong},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 2
    for name in wrong:
        assert name in done.stderr
