"""A client of the plain mode, the simplest there is, and what becomes of its session."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection

from teleop_testing.backends.database import Database
from teleop_testing.robots.lines import connect
from teleop_testing.waiting import PATIENCE_S, until

FRAME: dict[str, Any] = {
    "observation": {"pan.pos": 1.5, "grip.pos": -2},
    "action": {"pan.pos": 1.25},
    "timestamp": 1763860000.123,
}


class Client:
    """The simplest client there is."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, message: object) -> None:
        """A frame, several of them, or a message as it is."""
        await self.connection.send(message if isinstance(message, str | bytes) else json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        """The next message."""
        async with asyncio.timeout(PATIENCE_S):
            message: dict[str, Any] = json.loads(await self.connection.recv())
            return message

    async def acked(self, next_frame: int) -> None:
        """Wait until everything below `next_frame` is acknowledged."""
        while (message := await self.hear()).get("next", 0) < next_frame or message["type"] != "ack":
            assert message["type"] in ("ack", "welcome"), message

    async def refused(self) -> dict[str, Any]:
        """Next error, which does not end the connection."""
        while (message := await self.hear())["type"] != "error":
            pass
        assert message["fatal"] is False
        return message


@asynccontextmanager
async def client(service: str, path: str = "robot_A") -> AsyncIterator[Client]:
    """A client that is connected; `path`: its robot_id, with what it asks for."""
    async with connect(f"ws://{service}/ws/log/{path}", compression=None) as connection:
        yield Client(connection)


async def ended(database: Database, status: str) -> dict[str, Any]:
    """The only session, once it has ended that way."""
    [row] = await until(lambda: database.fetch("SELECT * FROM teleop_session WHERE status = $1", status))
    return dict(row)


async def complete(database: Database) -> dict[str, Any]:
    """The only session, once it is complete."""
    return await ended(database, "complete")


async def ledger_of(http: httpx.AsyncClient, session: dict[str, Any]) -> dict[str, Any]:
    """The session's account."""
    ledger: dict[str, Any] = (await http.get(f"/sessions/{session['id']}/ledger")).json()
    return ledger
