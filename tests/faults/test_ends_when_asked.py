"""SIGTERM and Ctrl-C end every service by themselves, whatever its database does at that moment."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress

import httpx
import psutil
import pytest
from teleop_testing.backends.processes import free_port, own_postgres
from teleop_testing.datasets.recorded import record_session
from teleop_testing.waiting import PATIENCE_S, until

MODULES = ("teleop_telemetry", "teleop_video_ingest", "teleop_export", "teleop_export.worker")
PORTS = ("TELEMETRY_PORT", "INGEST_PORT", "EXPORT_PORT")
FRAMES = 200_000


@contextmanager
def running(modules, database_url, folder):
    """The services as processes, by module, with their ports; killed in the end if they still live."""
    with ExitStack() as stack:
        started = {}
        for module in modules:
            port = free_port()
            log = stack.enter_context((folder / f"{module}.log").open("wb"))
            environment = {
                **os.environ,
                "DATABASE_URL": database_url,
                "STORE_URL": str(folder / "store"),
                "EXPORT_ROOT": str(folder / "exports"),
                **dict.fromkeys(PORTS, str(port)),
            }
            process = subprocess.Popen(
                [sys.executable, "-m", module], env=environment, stdout=log, stderr=log, cwd=folder
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            started[module] = process, port
        yield started


def ended(started, number):
    """Ask all of them to end, and return once they have."""
    for process, _ in started.values():
        process.send_signal(number)
    for process, _ in started.values():
        process.wait(PATIENCE_S)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long("four services' starts"))]
)
async def test_waiting_for_the_database_at_the_start(tmp_path, number):
    """There is none: they wait, and end when asked, without a traceback."""
    with running(MODULES, f"postgresql://nobody@/none?host={tmp_path}", tmp_path) as started:
        logs = [tmp_path / f"{module}.log" for module in MODULES]
        await until(lambda: all('"waiting' in log.read_text() for log in logs))
        ended(started, number)
    assert not [log for log in logs if "Traceback" in log.read_text()]


async def export_begun(port, session):
    """Return once an export is being made."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as http:

        async def ready():
            try:
                return (await http.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await until(ready)
        asked = await http.post("/exports", json={"session_ids": [session], "repo_id": "lab/pick"})
        number = asked.json()["id"]

        async def begun():
            return (await http.get(f"/exports/{number}")).json()["progress"]

        await until(begun)


@pytest.mark.parametrize("trouble", ["stopped", "frozen"])
async def test_database_that_has_gone_in_the_middle_of_an_export(tmp_path, trouble):
    """It was stopped first, or answers nothing any more."""
    with own_postgres() as postgres:
        session = record_session(postgres.url(), FRAMES)
        with running(MODULES[:3], postgres.url(), tmp_path) as started:
            await export_begun(started["teleop_export"][1], session)
            if trouble == "stopped":
                postgres.stop(signal.SIGQUIT)
                ended(started, signal.SIGTERM)
                return
            server = psutil.Process(postgres.pid)
            # It makes no children any more once it is stopped itself.
            server.suspend()
            everyone = [server, *server.children(recursive=True)]
            try:
                each(everyone, psutil.Process.suspend)
                ended(started, signal.SIGTERM)
            finally:
                each(everyone, psutil.Process.resume)


def each(processes, do):
    """Those that have ended meanwhile are left out, even if others have their numbers now."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            do(process)
