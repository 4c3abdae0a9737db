"""telemetry-service running in this process on a real socket."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
import pytest_asyncio
from teleop_telemetry.app import create_app
from teleop_telemetry.settings import TelemetrySettings
from teleop_testing.backends.serving import client_of, serving
from teleop_testing.waiting import PATIENCE_S


@pytest_asyncio.fixture
async def service(database_url) -> AsyncIterator[str]:
    """Address of a telemetry-service on this test's own database."""
    settings = TelemetrySettings(database_url=database_url, _env_file=None)
    async with serving(create_app(settings)) as address:
        yield address


@pytest_asyncio.fixture
async def http(service) -> AsyncIterator[httpx.AsyncClient]:
    """HTTP client of that service."""
    async with client_of(service) as client:
        yield client


@pytest.fixture
def command(database_url: str) -> Callable[..., Awaitable[str]]:
    """Runs the command of the service's container: what it prints, or if that fails, complains of."""

    async def command(*words: str, status: int = 0) -> str:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "teleop_telemetry.access", *words],
            env={**os.environ, "DATABASE_URL": database_url},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr

    return command
