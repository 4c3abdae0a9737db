"""A backend in memory, that can be told to misbehave; the real one is used in tests/e2e."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import pytest_asyncio
from lerobot_robot_backend.client import TelemetryClient
from teleop_schema.limits import Limits
from teleop_schema.messages import (
    SUBPROTOCOL,
    Ack,
    Batch,
    Ended,
    Event,
    Hello,
    Nack,
    Welcome,
    decode_batch,
    decode_robot_control,
    encode_control,
)
from teleop_schema.session import SessionDescription
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

NAMES = ("shoulder.pos", "elbow.pos")


class Stream:
    """What the backend has of one stream."""

    def __init__(self, session_id: int, session: SessionDescription) -> None:
        self.session_id = session_id
        self.session = session
        self.next = 0
        self.epoch = 0
        self.timestamps: list[int] = []
        self.rows: list[list[float]] = []  # state and action; empty for a missing frame
        self.extra: dict[int, dict] = {}
        self.gaps: list[tuple[int, int, str]] = []
        self.events: set[str] = set()
        self.told: list[Event] = []
        self.end: object = None

    def store(self, batch: Batch) -> None:
        skip = self.next - batch.first
        if batch.gap:
            self.gaps.append((self.next, batch.end - self.next, batch.gap))
            self.rows += [[] for _ in range(batch.count - skip)]
        else:
            state, action = (
                np.frombuffer(part, "<f4").reshape(batch.count, -1) for part in (batch.state, batch.action)
            )
            self.rows += np.hstack([state, action])[skip:].tolist()
            self.timestamps += np.frombuffer(batch.timestamps, "<i8")[skip:].tolist()
            self.extra.update({batch.first + offset: extra for offset, extra in batch.extra.items()})
        self.take(batch.events)
        self.next = batch.end

    def take(self, events: tuple[Event, ...]) -> None:
        for event in events:
            if repr(event) not in self.events:
                self.events.add(repr(event))
                self.told.append(event)


class Backend:
    """Speaks the acknowledged mode; `script` may take a connection over before each message is handled.

    script  (connection, number of the connection, number of the message in it, message) -> handled?
    """

    def __init__(self) -> None:
        self.url = ""
        self.limits = Limits()
        self.streams: dict[UUID, Stream] = {}
        self.script: Callable[[ServerConnection, int, int, str | bytes], Awaitable[bool]] | None = None
        self.connections = 0
        self.headers: list[dict[str, str]] = []

    @property
    def stream(self) -> Stream:
        (stream,) = self.streams.values()
        return stream

    async def speak(self, connection: ServerConnection) -> None:
        number, self.connections = self.connections, self.connections + 1
        self.headers.append(dict(connection.request.headers) | {"path": connection.request.path})
        stream = None
        count = 0
        try:
            async for message in connection:
                handled = self.script and await self.script(connection, number, count, message)
                count += 1
                if not handled:
                    stream = await self.answer(connection, stream, message)
        except ConnectionClosed:
            pass

    async def answer(
        self, connection: ServerConnection, stream: Stream | None, message: str | bytes
    ) -> Stream:
        if isinstance(message, str):
            control = decode_robot_control(message)
            if isinstance(control, Hello):
                stream = self.streams.setdefault(
                    control.stream, Stream(len(self.streams) + 1, control.session)
                )
                stream.epoch += 1
                welcome = Welcome(stream.session_id, stream.epoch, stream.next, self.limits)
                await connection.send(encode_control(welcome))
            else:
                assert control.frames == stream.next
                stream.take(control.events)
                stream.end = control
                await connection.send(encode_control(Ended(stream.next)))
            return stream
        batch = decode_batch(message, self.limits)
        if batch.first > stream.next:
            await connection.send(encode_control(Nack(stream.next)))
        else:
            if batch.end > stream.next:
                stream.store(batch)
            await connection.send(encode_control(Ack(stream.next)))
        return stream


@pytest_asyncio.fixture
async def backend() -> AsyncIterator[Backend]:
    """A backend on a port of its own, empty."""
    backend = Backend()
    async with serve(backend.speak, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL], compression=None) as server:
        backend.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield backend


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """A spool of the test's own."""
    return tmp_path / "spool"


@pytest.fixture
def make_client(spool: Path, backend: Backend) -> Callable[..., TelemetryClient]:
    """Opens a session with two joints; without a shipper unless asked for."""

    def make(**options: object) -> TelemetryClient:
        settings = {"state_names": NAMES, "action_names": NAMES, "fps": 60, "spool_dir": spool, "ship": False}
        return TelemetryClient(backend.url, "robot_A", **(settings | {"min_free_bytes": 0} | options))

    return make
