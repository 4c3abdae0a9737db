"""Whoever opens many connections, and says little, too much or nothing: a robot beside them loses nothing."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import psutil
import pytest
from teleop_runtime.descriptors import raise_limit
from teleop_schema.limits import MAX_MESSAGE_BYTES
from teleop_testing.backends.processes import ServiceProcess, telemetry_process
from teleop_testing.robots.lines import connect
from teleop_testing.waiting import PATIENCE_S, until
from websockets.asyncio.client import ClientConnection

MIB = 1024 * 1024
MOST_MIB = 256
MANY = 1000
HANDSHAKE = (
    "GET /ws/log/robot_{number} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
# With a mask of zeros: a client's frames have one.
TEXT = b'{"observation":{"a":1}}'
FRAME = b"\x81" + bytes([0x80 | len(TEXT)]) + bytes(4) + TEXT

type Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]
type Flood = Callable[[ServiceProcess, AsyncExitStack], Awaitable[None]]


@pytest.fixture
def service(database_url):
    """A service as a process of its own, whose memory is counted."""
    raise_limit()
    with telemetry_process(database_url) as process:
        yield process


async def opened(service: ServiceProcess, stack: AsyncExitStack, first: bytes) -> Line:
    """A connection that says this, and stays open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    # A writer that nobody holds would be closed.
    stack.callback(lambda: writer.transport.abort())
    writer.write(first)
    return reader, writer


async def half_open(service: ServiceProcess, stack: AsyncExitStack) -> None:
    """Nothing, or the beginning of a head."""
    for number in range(MANY):
        await opened(service, stack, b"GET /sessions HT" if number % 2 else b"")


async def heads_without_end(service: ServiceProcess, stack: AsyncExitStack) -> None:
    """Each as large as the network takes it."""
    for _ in range(100):
        await opened(service, stack, b"GET / HTTP/1.1\r\nX: " + b"x" * 4 * MIB)


async def bodies_that_stand_still(service: ServiceProcess, stack: AsyncExitStack) -> None:
    """Of JSON, with less than they announce."""
    head = b"POST /tokens HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for _ in range(MANY):
        await opened(service, stack, head + b"Content-Length: 100000\r\n\r\n{")


async def sockets_that_never_read(service: ServiceProcess, stack: AsyncExitStack) -> None:
    """Robots by their handshakes, which send frames and take no answer."""
    for number in range(MANY):
        reader, writer = await opened(service, stack, HANDSHAKE.format(number=number).encode())
        # No byte more is taken than the handshake's answer.
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(FRAME * 20)


async def large_messages(service: ServiceProcess, stack: AsyncExitStack) -> None:
    """One after the other, as large as a message may be."""
    message = json.dumps({"observation": {"a": 1}, "note": "x" * (MAX_MESSAGE_BYTES - 100)})
    address = f"ws://127.0.0.1:{service.port}/ws/log/large"
    for _ in range(20):
        socket = await connect(address, compression=None, max_size=None)
        stack.callback(socket.transport.abort)
        await socket.send(message)


@asynccontextmanager
async def robot(service: ServiceProcess) -> AsyncIterator[ClientConnection]:
    async with connect(f"ws://127.0.0.1:{service.port}/ws/log/robot_beside", compression=None) as line:
        yield line


@pytest.mark.parametrize(
    "flood",
    [half_open, heads_without_end, bodies_that_stand_still, sockets_that_never_read, large_messages],
    ids=lambda flood: flood.__name__,
)
async def test_a_robot_beside_a_flood_loses_nothing(service, database, flood: Flood):
    """All of its frames are stored, and the service's memory stays bounded."""
    process = psutil.Process(service.pid)
    async with robot(service) as line, AsyncExitStack() as stack:
        sent = 0

        async def record() -> None:
            nonlocal sent
            while True:
                await line.send(json.dumps({"observation": {"a": sent}}))
                sent += 1
                await asyncio.sleep(1 / 60)

        recording = asyncio.create_task(record())
        await until(lambda: sent > 30)
        idle = process.memory_info().rss
        async with asyncio.timeout(PATIENCE_S):
            await flood(service, stack)
        reached = sent + 60
        await until(lambda: sent > reached)
        taken_mib = (process.memory_info().rss - idle) / MIB
        recording.cancel()
        await asyncio.gather(recording, return_exceptions=True)
    stored = (
        "SELECT next_frame_index FROM teleop_session WHERE robot_id = 'robot_beside' AND status = 'complete'"
    )
    await until(lambda: database.value(stored))
    # What was on its way as it was cancelled may have arrived.
    assert sent <= await database.value(stored) <= sent + 1
    assert taken_mib < MOST_MIB
