"""Robots that cost next to nothing: prebuilt messages over hand-made WebSocket frames.

The server is measured, so the load generator must not be what is slow: each message is encoded once and
sent with an all-zero mask, so that it goes out as it is; of the answers only acks are read.
"""

import asyncio
import base64
import os
import struct
import time
from collections import deque
from uuid import uuid4

import msgspec
import numpy as np
from teleop_schema.messages import SUBPROTOCOL, Batch, Hello, encode_batch, encode_control
from teleop_schema.session import SessionDescription

JOINTS = tuple(f"joint_{number}.pos" for number in range(6))
STARTED_US = 1_763_860_000_000_000
PERIOD_US = 16_667


def frames_batch(first: int, count: int) -> Batch:
    """Frames of six joints with smooth values."""
    indexes = np.arange(first, first + count)
    values = np.sin(indexes[:, None] / 60 + np.arange(12)).astype("<f4")
    return Batch(
        first=first,
        count=count,
        timestamps=(STARTED_US + indexes * PERIOD_US).astype("<i8").tobytes(),
        state=values[:, :6].tobytes(),
        action=values[:, 6:].tobytes(),
    )


def message_of(batch: Batch) -> bytes:
    """A batch as a masked binary WebSocket frame."""
    return websocket_frame(0x82, encode_batch(batch))


def websocket_frame(opcode: int, payload: bytes) -> bytes:
    """A client's WebSocket frame whose mask is zero."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", opcode, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", opcode, 0x80 | 127, size)
    return head + bytes(4) + payload


class LoadRobot(asyncio.Protocol):
    """One connection that sends what it is given and notes when it was acknowledged.

    delays_s  send to ack, one per message
    """

    def __init__(self, robot_id: str) -> None:
        self.robot_id = robot_id
        self.ready = asyncio.get_running_loop().create_future()
        self.acked = 0
        self.delays_s: list[float] = []
        self._sent: deque[tuple[int, float]] = deque()
        self._changed = asyncio.Event()
        self._buffer = b""
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET /ws/log/{self.robot_id} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n".encode()
        )
        session = SessionDescription(
            robot_type="load", fps=60, state_names=JOINTS, action_names=JOINTS, started_at_us=STARTED_US
        )
        hello = encode_control(Hello(stream=uuid4(), session=session))
        self._hello = websocket_frame(0x81, hello.encode())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._upgraded:
            if b"\r\n\r\n" not in self._buffer:
                return
            head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
            assert b" 101 " in head, head
            self._upgraded = True
            self.transport.write(self._hello)
        while len(self._buffer) >= 2:
            size, start = self._buffer[1], 2
            if size == 126:
                if len(self._buffer) < 4:
                    return
                size, start = struct.unpack_from("!H", self._buffer, 2)[0], 4
            if len(self._buffer) < start + size:
                return
            opcode, payload = self._buffer[0] & 0xF, self._buffer[start : start + size]
            self._buffer = self._buffer[start + size :]
            self._hear(opcode, payload)

    def _hear(self, opcode: int, payload: bytes) -> None:
        if opcode == 9:
            self.transport.write(websocket_frame(0x8A, payload))
            return
        if opcode == 8:
            raise AssertionError(f"{self.robot_id} was closed: {payload!r}")
        message = msgspec.json.decode(payload)
        if message["type"] == "welcome":
            self.ready.set_result(message["session_id"])
        elif message["type"] == "ack":
            self.acked = message["next"]
            now = time.perf_counter()
            while self._sent and self._sent[0][0] <= self.acked:
                self.delays_s.append(now - self._sent.popleft()[1])
            self._changed.set()
        else:
            raise AssertionError(message)

    def send(self, message: bytes, end: int) -> None:
        """Send a prebuilt message whose last frame is `end - 1`."""
        self._sent.append((end, time.perf_counter()))
        self.transport.write(message)

    async def acknowledged(self, end: int) -> None:
        """Wait until every frame below `end` is durable."""
        while self.acked < end:
            self._changed.clear()
            await self._changed.wait()


async def connect(port: int, robots: int) -> list[LoadRobot]:
    """That many welcomed robots."""
    loop = asyncio.get_running_loop()
    connected = []
    for number in range(robots):
        _, robot = await loop.create_connection(lambda n=number: LoadRobot(f"load_{n}"), "127.0.0.1", port)
        connected.append(robot)
    await asyncio.gather(*(robot.ready for robot in connected))
    return connected
