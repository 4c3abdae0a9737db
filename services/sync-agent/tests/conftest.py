"""Agents in the test's own process, against a backend that can be told to misbehave, and as processes against
the real service."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from teleop_backend.demo.relay import Relay, relay_to
from teleop_sync_agent.agent import Agent
from teleop_sync_agent.settings import Settings
from teleop_testing.backends.file_backend import FileBackend, file_backend
from teleop_testing.backends.processes import ServiceProcess, ingest_process
from teleop_testing.robots.agent_commands import AgentCommands


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """The watched folder."""
    folder = tmp_path / "outputs"
    folder.mkdir()
    return folder


@pytest_asyncio.fixture
async def backend() -> AsyncIterator[FileBackend]:
    async with file_backend() as backend:
        yield backend


@pytest.fixture
def make_agent(tmp_path: Path, outputs: Path, backend: FileBackend) -> Iterator[Callable[..., Agent]]:
    """Makes agents of robot_A that watch `outputs`, with everything else in the test's folder."""
    agents: list[Agent] = []

    def make(*, quiet_ns: int = 300 * 10**9, **chosen: object) -> Agent:
        settings = {
            "server": backend.url,
            "robot_id": "robot_A",
            "roots": (outputs,),
            "spool_dir": tmp_path / "spool",
            "state_dir": tmp_path / "state",
        }
        agents.append(Agent(Settings(**(settings | chosen)), quiet_ns=quiet_ns))
        return agents[-1]

    yield make
    for agent in agents:
        agent.close()


@pytest.fixture
def running() -> Callable[[Agent], AbstractAsyncContextManager[Agent]]:
    """Lets an agent work for as long as a block lasts."""

    @asynccontextmanager
    async def run(agent: Agent) -> AsyncIterator[Agent]:
        task = asyncio.create_task(agent.run())
        try:
            yield agent
        finally:
            task.cancel()
            (end,) = await asyncio.gather(task, return_exceptions=True)
            agent.close()
            assert isinstance(end, asyncio.CancelledError), end

    return run


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[ServiceProcess]:
    """The real service, with its files in `store`."""
    with ingest_process(database_url, tmp_path / "store") as service:
        yield service


@pytest.fixture
def line(service: ServiceProcess) -> Iterator[Relay]:
    """The line to it, which can be cut."""
    with relay_to(service.port) as line:
        yield line


@pytest.fixture
def agent(tmp_path: Path, line: Relay, outputs: Path) -> AgentCommands:
    """Runs commands of robot_A, which watch `outputs` and reach the service over `line`."""
    return AgentCommands(tmp_path, f"http://127.0.0.1:{line.port}", outputs)
