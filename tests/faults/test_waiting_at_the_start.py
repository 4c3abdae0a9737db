"""Services whose database is away, or not migrated, when they start: they listen, say so, and then go on."""

import asyncio
import tempfile
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from teleop_backend.postgres import EmbeddedPostgres
from teleop_schema.migrate import migrate
from teleop_testing.robots.lines import connect
from teleop_testing.waiting import PATIENCE_S, until
from test_ends_when_asked import running
from websockets.exceptions import InvalidStatus

MODULES = ("teleop_telemetry", "teleop_video_ingest", "teleop_export")
PAGES = {"teleop_telemetry": "/sessions", "teleop_video_ingest": "/datasets", "teleop_export": "/exports"}


@pytest.fixture
def server():
    """A PostgreSQL that is not started yet, and has no tables."""
    with tempfile.TemporaryDirectory(prefix="postgres-test-") as folder:
        server = EmbeddedPostgres(Path(folder))
        yield server
        server.stop()


async def answer(port: int, path: str) -> httpx.Response | None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as http:
        try:
            return await http.get(path)
        except httpx.TransportError:
            return None


def unready(port: int, word: str):
    """Looks whether /readyz says 503 with a word in its reasons."""

    async def look() -> bool:
        told = await answer(port, "/readyz")
        return told is not None and told.status_code == 503 and word in told.text

    return look


async def ready(port: int) -> bool:
    told = await answer(port, "/readyz")
    return told is not None and told.status_code == 200


async def test_services_listen_and_say_what_they_wait_for(server, tmp_path):
    """A database that is away, then one without tables; once it is migrated, they work without a restart."""
    with running(MODULES, server.url(), tmp_path) as started:
        ports = {module: port for module, (_, port) in started.items()}
        await asyncio.gather(*(until(unready(port, "can't be reached")) for port in ports.values()))
        for module, port in ports.items():
            assert (await answer(port, "/healthz")).status_code == 200
            refused = await answer(port, PAGES[module])
            assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
            assert "can't be reached" in refused.json()["detail"]
        with pytest.raises(InvalidStatus, match="503"):
            async with connect(f"ws://127.0.0.1:{ports['teleop_telemetry']}/ws/log/robot_A"):
                pass
        await asyncio.to_thread(server.start)
        await asyncio.gather(*(until(unready(port, "migrate")) for port in ports.values()))
        await asyncio.to_thread(migrate, server.url())
        await asyncio.gather(*(until(lambda port=port: ready(port)) for port in ports.values()))
        for module, port in ports.items():
            assert (await answer(port, PAGES[module])).status_code == 200


async def test_what_a_person_must_change_ends_a_service_that_listens_already(server, tmp_path):
    """Here the files are another database's, which only the database could say."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store/.owner").write_text(f"{uuid4()}\n")
    with running(["teleop_video_ingest"], server.url(), tmp_path) as started:
        [(process, port)] = started.values()
        await until(unready(port, "can't be reached"))
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(migrate, server.url())
        assert await asyncio.to_thread(process.wait, PATIENCE_S) == 1
    log = (tmp_path / "teleop_video_ingest.log").read_text()
    assert "belong to another database" in log.splitlines()[-1]
    assert "Traceback" not in log
