"""telemetry-service running in this process on a real socket."""

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio
from teleop_telemetry.app import create_app
from teleop_telemetry.settings import TelemetrySettings
from teleop_testing.backends.serving import client_of, serving


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
