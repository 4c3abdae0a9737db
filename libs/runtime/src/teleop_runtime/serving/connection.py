"""The connections of every server: uvicorn's, with limits on request heads, and patience with slow readers.

HTTP: a request target that is too long is answered at once. WebSocket: whatever arrives is a sign of life,
and an endpoint can see (`peer_of`) whether the other end reads what it sends.
"""

import asyncio
import socket
from asyncio.transports import BaseTransport
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import msgspec
from starlette.websockets import WebSocket
from teleop_schema.errors import (
    BackendError,
    BadInput,
    BadMessage,
    HeadersTooLarge,
    MessageTooLarge,
    TargetTooLong,
    TooManyConnections,
    TooSlow,
)
from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import HeaderLineTooLong, TooManyHeaders
from websockets.frames import Close, CloseCode, Frame
from websockets.http11 import Request

from teleop_runtime.access.far_end import FAR_END, FarEnd
from teleop_runtime.descriptors import Room
from teleop_runtime.logs import get_logger
from teleop_runtime.metrics import ERRORS
from teleop_runtime.serving.problems import as_problem

log = get_logger(__name__)

# RFC 9110 demands as much; with it, the whole request line stays within the WebSocket side's limit.
MAX_TARGET_BYTES = 8000
# As other servers have them; a head has some ten lines, and one that never ends would fill the memory.
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 128
# A head is a few hundred bytes, in one packet; whoever sends a part of it, or nothing, holds a descriptor.
HEAD_WITHIN_S = 30.0
# Time for a client to read why it was refused while it is still sending.
LINGER_S = 2.0
PEER = "lerobot.peer"
# TCP notices that a machine is gone after 5 + 2 * 5 s.
KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 2}
ABNORMAL_CLOSURE = 1006


class Peer:
    """The other end of a WebSocket.

    reads       False while a ping is unanswered although the connection is alive: sent messages pile up
    patient     set by the endpoint: silence does not end the connection, because a client that does not read
                answers no pings; TCP notices by itself if the other machine is gone
    on_reading  called when it reads again
    unread      why the message that closed the connection could not be read
    """

    def __init__(self) -> None:
        self.reads = True
        self.patient = False
        self.on_reading: Callable[[], None] = lambda: None
        self.unread: BackendError | None = None


def peer_of(websocket: WebSocket) -> Peer:
    """The other end; if the server does not know it, one that counts as reading."""
    found: Peer = websocket.scope.get("extensions", {}).setdefault(PEER, Peer())
    return found


def refusal(error: BackendError) -> bytes:
    """The whole HTTP answer to a request that is refused unread."""
    ERRORS.labels(error.code).inc()
    body = msgspec.json.encode(as_problem(error))
    return (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n"
        "content-type: application/problem+json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    ).encode() + body


class HttpConnection(HttpToolsProtocol):
    """An HTTP connection; a WebSocket begins as one too."""

    far_end: FarEnd
    leave: Callable[[], None] | None = None
    _refused = False
    _begun = False
    _head_bytes = _header_bytes = 0
    _awaited: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.far_end = FarEnd(transport.get_extra_info("socket"))
        try:
            self.leave = _enter(self.app, self.client)
        except TooManyConnections as error:
            self._refused = True
            # At once: whoever opens too many must not keep them for a moment longer.
            transport.write(refusal(error))
            transport.close()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        if self.leave is not None:
            self.leave()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        # The connection is the other protocol's now.
        cast(WebSocketConnection, self.transport.get_protocol()).leave = self.leave

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast(dict[str, Any], self.scope)["extensions"] = {FAR_END: self.far_end}
        self._begun = True
        self._head_bytes = self._header_bytes = 0
        if self._awaited is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        self._begun = False
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._awaited = self.loop.call_later(HEAD_WITHIN_S, self._refuse_slow_head)

    def _stop_waiting(self) -> None:
        if self._awaited is not None:
            self._awaited.cancel()
            self._awaited = None

    def _refuse_slow_head(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            # Nothing more is read before the request in front of it is answered.
            self._await_head()
            return
        self._awaited, self._refused = None, True
        if not self._begun:
            self.transport.close()
            return
        error = TooSlow(f"the head of the request did not arrive within {HEAD_WITHIN_S:g} s")
        _say_and_close(self.transport, refusal(error), self.loop)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        in_head = self._begun
        super().data_received(data)
        # Still in the head after all of this data: it has grown by it.
        if in_head and self._begun and not self._refused:
            # What the parser has taken of a header that has not ended is told by nobody else.
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse_large_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._header_bytes += len(name) + len(value)
        if self._head_is_large():
            # Stops the parser, which then requests an answer.
            raise ValueError("request head too large")

    def _head_is_large(self) -> bool:
        return self._header_bytes > MAX_HEAD_BYTES or len(self.headers or ()) > MAX_HEADERS

    def _refuse_large_head(self) -> None:
        self._stop_waiting()
        self._refused = True
        error = HeadersTooLarge(
            f"a request may have at most {MAX_HEADERS} headers, and {MAX_HEAD_BYTES // 1024} KB of them",
            limit=MAX_HEADERS,
        )
        log.warning("request refused", client=self.client and self.client[0], code=error.code)
        _say_and_close(self.transport, refusal(error), self.loop)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_TARGET_BYTES:
            # Stops the parser, which then requests an answer.
            raise ValueError("request target too long")

    def send_400_response(self, msg: str) -> None:
        if self._head_is_large():
            self._refuse_large_head()
            return
        if len(getattr(self, "url", b"")) <= MAX_TARGET_BYTES:
            super().send_400_response(msg)
            return
        self._refused = True
        error = TargetTooLong(
            f"the request address may have at most {MAX_TARGET_BYTES} bytes, including escapes",
            limit=MAX_TARGET_BYTES,
            hint="each character outside ASCII counts as up to nine bytes",
        )
        log.warning("request refused", client=self.client and self.client[0], code=error.code)
        _say_and_close(self.transport, refusal(error), self.loop)


class WebSocketConnection(WebSocketsSansIOProtocol):
    """A WebSocket that ends only after silence, and not because a client that only sends has not read a ping.

    Based on the uvicorn WebSocket implementation that costs the least per message.
    """

    peer: Peer
    heard_at: float
    leave: Callable[[], None] | None = None
    _said_goodbye = False
    _refused = False

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.peer = Peer()
        self.heard_at = self.loop.time()
        _keep_alive(transport)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            # The endpoint's task exists, and begins only after this.
            extensions = cast(dict[str, Any], self.scope["extensions"])
            extensions[PEER] = self.peer
            extensions[FAR_END] = FarEnd(self.transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        self.heard_at = self.loop.time()
        if self._refused:
            return
        super().data_received(data)
        if not self.handshake_initiated and self.conn.handshake_exc is not None:
            self._refuse(self.conn.handshake_exc)

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not self.close_sent:
            content = b"".join(self.frames)
            try:
                content.decode()
            except UnicodeDecodeError:
                # uvicorn would log its client's mistake as a fault of the server, with a traceback.
                self.frames = []
                self.conn.send_close(CloseCode.INVALID_DATA, "a text message is not UTF-8")
                self.handle_parser_exception()
                return
            self.frames = [content]
        super().send_receive_event_to_app()

    async def receive(self) -> ASGIReceiveEvent:
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            # Nothing could arrive while reading was paused.
            self.heard_at = self.loop.time()
            self.read_paused = False
            self.transport.resume_reading()
        return message

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            # A refusal over HTTP is the whole answer; uvicorn would log a fault of the endpoint.
            self.handshake_complete = True

    def keepalive_timeout(self) -> None:
        """A ping was not answered in time; uvicorn would end the connection, whatever else has arrived."""
        assert self.ping_timeout is not None  # noqa: S101
        silent_s = 0.0 if self.read_paused else self.loop.time() - self.heard_at
        if silent_s >= self.ping_timeout and not self.peer.patient:
            super().keepalive_timeout()
            return
        # The ping stays unanswered, and no other follows; a client that reads again will answer it.
        self.peer.reads = False
        again_s = self.ping_timeout - (0.0 if self.peer.patient else silent_s)
        self.pong_timer = self.loop.call_later(again_s, self.keepalive_timeout)

    def handle_pong(self, event: Frame) -> None:
        super().handle_pong(event)
        if self.pending_ping_payload is None and not self.peer.reads:
            self.peer.reads = True
            self.peer.on_reading()

    def handle_close(self, event: Frame) -> None:
        self._said_goodbye = not self.close_sent
        super().handle_close(event)

    def handle_parser_exception(self) -> None:
        """Close because of an unreadable message, after handling messages before it in the same piece of
        data.

        uvicorn would forget those, and would close at once, so that a client that is still sending learns
        nothing.
        """
        self.handle_events()
        if self._refused:
            return
        said = self.conn.close_sent
        assert said is not None  # noqa: S101
        self.peer.unread = _unread(said)
        self.queue.put_nowait({"type": "websocket.disconnect", "code": said.code, "reason": said.reason})
        self._refused = self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        _say_and_close(self.transport, b"".join(self.conn.data_to_send()), self.loop)

    def _refuse(self, reason: Exception) -> None:
        """Answer a handshake that could not be read; uvicorn would leave it hanging."""
        error: BackendError
        if isinstance(reason, HeaderLineTooLong | TooManyHeaders):
            error = HeadersTooLarge(
                f"{reason}: a WebSocket handshake may have at most 128 headers of 8 KB each"
            )
        else:
            error = BadInput(f"not a WebSocket handshake: {reason}")
        log.warning("handshake refused", client=self.client and self.client[0], code=error.code)
        self._refused = self.handshake_complete = self.close_sent = True
        _say_and_close(self.transport, refusal(error), self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._said_goodbye:
            # uvicorn reports 1005, which also means an orderly close without a code.
            self.queue.put_nowait({"type": "websocket.disconnect", "code": ABNORMAL_CLOSURE})
        if self.leave is not None:
            self.leave()
        super().connection_lost(exc)

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        # Unread data would keep a closed connection open forever.
        self.loop.call_later(self.close_timeout, self.transport.abort)


def _enter(app: Any, client: tuple[str, int] | None) -> Callable[[], None] | None:
    """Count a connection; returns what to call at its end. Raises TooManyConnections.

    An application that is not one of `assemble` counts none.
    """
    room: Room | None = getattr(getattr(app, "state", None), "room", None)
    if room is None:
        return None
    address = client[0] if client else ""
    try:
        room.enter(address)
    except TooManyConnections as error:
        log.warning("connection refused", client=address, code=error.code, reason=error.detail)
        raise
    return partial(room.leave, address)


def _say_and_close(transport: asyncio.Transport, last: bytes, loop: asyncio.AbstractEventLoop) -> None:
    """Send it, and close only once the client has had time to read it; closing now would reset the
    connection."""
    transport.write(last)
    if transport.can_write_eof():
        transport.write_eof()
    loop.call_later(LINGER_S, transport.abort)


def _unread(said: Close) -> BackendError:
    """Why a message that closed the connection could not be read."""
    kind = MessageTooLarge if said.code == CloseCode.MESSAGE_TOO_BIG else BadMessage
    return kind(f"a message could not be read: {said.reason}")


def _keep_alive(transport: BaseTransport) -> None:
    line = transport.get_extra_info("socket")
    if line is None or line.family not in (socket.AF_INET, socket.AF_INET6):
        return
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
