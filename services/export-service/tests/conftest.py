"""export-service running in this process on a real socket, and recordings for it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
import uvicorn
from export_service.app import create_app
from export_service.settings import ExportSettings

PATIENCE_S = 30.0
NAMES = ("shoulder_pan.pos", "elbow_flex.pos", "gripper.pos")

SESSION = """
INSERT INTO teleop_session (stream_id, robot_id, robot_type, start_time, fps, task, state_names, action_names,
                            delivery, status, next_frame_index)
VALUES (gen_random_uuid(), 'robot_A', $1, '2026-01-05T10:00:00Z', $2, $3, $4, $5, 'acknowledged', $6, $7)
RETURNING id
"""

Record = Callable[..., Awaitable[int]]


def vector(width: int, phase: float) -> str:
    """SQL of a vector of float32 that differs from frame `g` to frame `g`."""
    values = (f"(sin(g * 12.9898 + {phase + joint}) * 90)::real" for joint in range(width))
    return f"ARRAY[{', '.join(values)}]::real[]"


def recorder(connection: "asyncpg.Connection[asyncpg.Record]") -> Record:
    """A function that stores a session as telemetry-service would have left it, and returns its id."""

    async def record(
        frames: int,
        *,
        episodes: Sequence[tuple[Any, ...]] = (),
        gaps: Sequence[tuple[int, int, str]] = (),
        lost: Sequence[int] = (),
        fps: float = 60.0,
        names: tuple[str, ...] = NAMES,
        actions: tuple[str, ...] | None = None,
        task: str | None = None,
        status: str = "complete",
        robot_type: str = "so101_follower",
    ) -> int:
        """episodes: (first, end, task, outcome); gaps: named ones; lost: frames that nobody knows of."""
        actions = names if actions is None else actions
        await connection.execute("INSERT INTO robot VALUES ('robot_A', 'so101') ON CONFLICT DO NOTHING")
        session = await connection.fetchval(
            SESSION, robot_type, fps, task, list(names), list(actions), status, frames
        )
        absent = [index for first, end, _ in gaps for index in range(first, end)] + list(lost)
        await connection.execute(
            f"""INSERT INTO teleop_frame
                SELECT {session}, g, '2026-01-05T10:00:00Z'::timestamptz + g * interval '16667 us',
                       {vector(len(names), 0)}, {vector(len(actions), 0.5)}, NULL
                  FROM generate_series(0, {frames} - 1) AS g WHERE g <> ALL($1::bigint[])""",
            absent,
        )
        for index, row in enumerate(episodes):
            values = (*row, None, None, None)[:4]
            await connection.execute(
                "INSERT INTO episode VALUES ($1, $2, $3, $4, $5, $6)", session, index, *values
            )
        for first, end, reason in gaps:
            await connection.execute(
                "INSERT INTO frame_gap VALUES ($1, $2, $3, $4)", session, first, end, reason
            )
        return session

    return record


@pytest.fixture
def record(database) -> Record:
    """Stores sessions in this test's own database."""
    return recorder(database.connection)


@pytest.fixture
def record_elsewhere() -> Callable[[Any], Record]:
    """The same for any other connection."""
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
async def serving(database_url: str, root: Path) -> AsyncIterator[Backend]:
    app = create_app(ExportSettings(database_url=database_url, export_root=root, _env_file=None))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on"))
    # Signals belong to the test run.
    task = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
        if task.done():
            task.result()
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as http:
        yield Backend(http, root)
    server.should_exit = True
    await task


@pytest.fixture
def serve(database_url, tmp_path) -> Callable[[], AbstractAsyncContextManager[Backend]]:
    """Runs an export-service on this test's own database and folder, as often as wanted."""
    return lambda: serving(database_url, tmp_path / "exports")


@pytest_asyncio.fixture
async def backend(serve) -> AsyncIterator[Backend]:
    """A running export-service."""
    async with serve() as backend:
        yield backend
