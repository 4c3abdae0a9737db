"""Requests and WebSocket messages byte by byte, as no client of ours would send them."""

import asyncio
import json
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import google_crc32c
import msgspec
from teleop_testing.waiting import PATIENCE_S

ACKNOWLEDGED = "lerobot.telemetry.v1.3"
TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9


@dataclass
class Told:
    """What the server answered.

    status  of HTTP, or the close code of a WebSocket; None: it said neither
    code    of the error
    names   the field of it
    said    everything, for a failed test
    """

    status: int | None = None
    code: str | None = None
    names: str | None = None
    said: list[Any] = field(default_factory=list)

    def __str__(self) -> str:
        return " ".join(str(each) for each in (self.status, self.code, self.names) if each is not None)


def request(
    method: str,
    target: str,
    body: bytes = b"",
    *headers: str,
    host: str = "localhost",
    length: str | None = None,
) -> bytes:
    """A request of HTTP/1.1, whatever it says about itself."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *headers]
    if length is not None or body:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8") + body


def handshake(
    target: str = "/ws/log/attacker",
    subprotocol: str | None = ACKNOWLEDGED,
    *headers: str,
    version: str = "13",
) -> bytes:
    """The beginning of a WebSocket."""
    offer = [f"Sec-WebSocket-Protocol: {subprotocol}"] if subprotocol else []
    return request(
        "GET",
        target,
        b"",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        f"Sec-WebSocket-Version: {version}",
        *offer,
        *headers,
    )


def frame(opcode: int, content: bytes, *, last: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    """A frame of RFC 6455; its mask is all zeros, which leaves the content as it is."""
    head = bytes([(last << 7) | (reserved << 4) | opcode])
    mask = 0x80 if masked else 0
    if len(content) < 126:
        head += bytes([mask | len(content)])
    elif len(content) < 65_536:
        head += bytes([mask | 126]) + struct.pack(">H", len(content))
    else:
        head += bytes([mask | 127]) + struct.pack(">Q", len(content))
    return head + (b"\0\0\0\0" if masked else b"") + content


def text(content: str | bytes) -> bytes:
    """A text message."""
    return frame(TEXT, content.encode() if isinstance(content, str) else content)


def hello(session: dict[str, Any] | None = None, **fields: Any) -> str:
    """The first message of the acknowledged mode, with these fields changed."""
    described = {"robot_type": "r", "fps": 60.0, "state_names": ["a", "b"], "action_names": ["c"]}
    described |= {"started_at_us": 1_763_860_000_123_456, **(session or {})}
    return json.dumps({"type": "hello", "stream": str(uuid4()), "session": described, **fields})


def batch(body: bytes | None = None, crc: int | None = None, **fields: Any) -> bytes:
    """A batch of two frames with these fields changed (None: left out), or with this body."""
    times = struct.pack("<2q", 1_763_860_000_123_456, 1_763_860_000_140_123)
    content = {"first": 0, "count": 2, "timestamps": times, "state": bytes(16), "action": bytes(8), **fields}
    if body is None:
        body = msgspec.msgpack.encode({name: each for name, each in content.items() if each is not None})
    return frame(BINARY, struct.pack("<I", google_crc32c.value(body) if crc is None else crc) + body)


class Line:
    """One connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.told = Told()

    @classmethod
    async def open(cls, port: int) -> "Line":
        """A new one."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, content: bytes) -> None:
        """Send it; a server that has closed takes no more, and what it said before counts."""
        with suppress(ConnectionError):
            self._writer.write(content)
            await self._writer.drain()

    async def http(self) -> Told:
        """Read the answer to a request."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.told.status = int(head.split(" ", 2)[1])
            headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            self.told.said.append(head)
            if self.told.status != 101:
                self._note_problem(await self._body(headers))
        return self.told

    async def messages(self) -> Told:
        """Read messages until the server closes, or answers with one that is not the welcome."""
        self.told.status = None
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                opcode, content = await self._frame()
                if opcode == CLOSE:
                    self.told.status = struct.unpack(">H", content[:2])[0] if content else 1005
                    return self.told
                if opcode != TEXT:
                    continue
                message = json.loads(content)
                self.told.said.append(message)
                if message["type"] == "error":
                    self.told.code, self.told.names = message["code"], message.get("field")
                    if message["fatal"]:
                        continue
                if message["type"] != "welcome":
                    self.told.code = self.told.code or message["type"]
                    return self.told
        return self.told

    async def welcome(self) -> None:
        """Read until the server has opened the session."""
        while True:
            opcode, content = await self._frame()
            if opcode == TEXT and json.loads(content)["type"] == "welcome":
                return

    async def rest(self) -> bytes:
        """What comes until the server closes."""
        with suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE_S):
                return await self._reader.read()
        return b""

    def close(self) -> None:
        """End it, without a word."""
        self._writer.transport.abort()

    def _note_problem(self, body: bytes) -> None:
        self.told.said.append(body)
        with suppress(ValueError, AttributeError):
            problem = json.loads(body)
            self.told.code, self.told.names = problem.get("code"), problem.get("field")

    async def _body(self, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            return await self._reader.readexactly(int(headers["content-length"]))
        return await self._reader.read(65_536)

    async def _frame(self) -> tuple[int, bytes]:
        opcode, length = await self._reader.readexactly(2)
        if length == 126:
            (length,) = struct.unpack(">H", await self._reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", await self._reader.readexactly(8))
        return opcode & 0x0F, await self._reader.readexactly(length)


async def ask(port: int, content: bytes) -> Told:
    """The answer to a request."""
    line = await Line.open(port)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await line.send(content)
            return await line.http()
    finally:
        line.close()


async def converse(port: int, opening: bytes, messages: Sequence[bytes], *, greeted: bool) -> Told:
    """What the server says to messages after a handshake; greeted: first a `hello` that is in order."""
    line = await Line.open(port)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await line.send(opening)
            told = await line.http()
            if told.status != 101:
                return told
            if greeted:
                await line.send(text(hello()))
                await line.welcome()
            for each in messages:
                await line.send(each)
            return await line.messages()
    finally:
        line.close()
