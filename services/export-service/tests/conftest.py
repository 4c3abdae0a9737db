"""export-service running in this process on a real socket, and recordings for it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from teleop_export.app import create_app
from teleop_export.settings import ExportSettings
from teleop_testing.backends.serving import client_of, serving
from teleop_testing.datasets.recorded import record_columns, record_session
from teleop_testing.datasets.recorded_video import RecordedVideo, record_video
from teleop_testing.waiting import PATIENCE_S

Record = Callable[..., Awaitable[int]]


def recorder(database_url: str) -> Record:
    """A function that stores a session as telemetry-service would have left it, and returns its id."""

    async def record(frames: int, **about: Any) -> int:
        return await asyncio.to_thread(record_session, database_url, frames, **about)

    return record


@pytest.fixture
def record(database_url) -> Record:
    """Stores sessions in this test's own database."""
    return recorder(database_url)


@pytest.fixture
def add_columns(database_url) -> Callable[..., Awaitable[None]]:
    """Gives frames of a session values beyond state and action."""

    async def add_columns(session: int, columns: dict[str, Any], **more: Any) -> None:
        await asyncio.to_thread(record_columns, database_url, session, columns, **more)

    return add_columns


@pytest.fixture
def store(tmp_path) -> Path | str:
    """Where the running export-service finds recorded video."""
    return tmp_path / "store"


@pytest.fixture
def film(database_url, store) -> Callable[..., Awaitable[RecordedVideo]]:
    """Stores a camera's video of a session as video-ingest-service would have left it."""

    async def film(session: int, frames: int, camera: str = "front", **about: Any) -> RecordedVideo:
        return await asyncio.to_thread(record_video, database_url, store, session, frames, camera, **about)

    return film


@pytest.fixture
def record_elsewhere() -> Callable[[str], Record]:
    """The same for any other database."""
    return recorder


class Backend:
    """What the tests ask of a running export-service."""

    def __init__(self, http: httpx.AsyncClient, root: Path) -> None:
        self.http = http
        self.root = root

    async def ask(self, *sessions: int, status: int = 202, **more: Any) -> dict[str, Any]:
        body = {"session_ids": list(sessions), "repo_id": "lab/pick", **more}
        answer = await self.http.post("/exports", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def begun(self, export_id: int) -> None:
        """Wait until some frames are written."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                export = (await self.http.get(f"/exports/{export_id}")).json()
                if export["progress"] or export["status"] == "done":
                    return
                await asyncio.sleep(0.01)

    async def ended(self, export_id: int) -> dict[str, Any]:
        """The export once it is neither queued nor running."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                export = (await self.http.get(f"/exports/{export_id}")).json()
                if export["status"] not in ("queued", "running"):
                    return export
                await asyncio.sleep(0.05)

    async def export(self, *sessions: int, **more: Any) -> tuple[dict[str, Any], Path]:
        """A finished export and its folder."""
        export = await self.ended((await self.ask(*sessions, **more))["id"])
        assert export["status"] == "done", export
        (folder,) = self.root.glob(f"export-{export['id']}-*")
        return export, folder

    async def leaves_nothing(self) -> None:
        """Wait until no file is left below the root."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if all(path.name == ".building" for path in self.root.rglob("*")):
                    return
                await asyncio.sleep(0.05)


@asynccontextmanager
async def running(
    database_url: str, root: Path, store: Path | str, *, work_here: bool = True
) -> AsyncIterator[Backend]:
    settings = ExportSettings(
        database_url=database_url, export_root=root, store_url=str(store), work_here=work_here, _env_file=None
    )
    async with (
        serving(create_app(settings)) as address,
        client_of(address) as http,
    ):
        yield Backend(http, root)


@pytest.fixture
def serve(database_url, tmp_path, store) -> Callable[..., AbstractAsyncContextManager[Backend]]:
    """Runs an export-service on this test's own database and folder, as often as wanted."""
    return lambda **settings: running(database_url, tmp_path / "exports", store, **settings)


@pytest.fixture
def serve_on(tmp_path, store) -> Callable[[str], AbstractAsyncContextManager[Backend]]:
    """The same on whatever way to the database."""
    return lambda database_url: running(database_url, tmp_path / "exports", store)


@pytest_asyncio.fixture
async def backend(serve) -> AsyncIterator[Backend]:
    """A running export-service."""
    async with serve() as backend:
        yield backend
