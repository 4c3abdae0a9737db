"""Tokens, and a server that nobody may use without one."""

import functools

import httpx
import pytest
import pytest_asyncio
from teleop_testing.backends.guarded import add_token, guarded
from teleop_testing.waiting import PATIENCE_S


@pytest.fixture
def add(database):
    """Adds a token to the database."""
    return functools.partial(add_token, database)


@pytest_asyncio.fixture
async def address(database_url):
    """Address of a server that nobody may use without a token."""
    async with guarded(database_url, exposure="lab", trust_network=False) as address:
        yield address


@pytest_asyncio.fixture
async def http(address):
    """HTTP client of it."""
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as client:
        yield client
