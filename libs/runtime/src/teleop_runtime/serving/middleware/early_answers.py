"""Lets answers that need no request body wait for a small one, and closes the connection before a large one.

If the connection stayed open, the server would take whatever comes next for the rest of that body, and would
never answer the client's next request.
"""

import asyncio
import math

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Arriving bytes are read for this long before the connection is closed. Closing a socket with unread bytes
# resets the connection, and the answer would be lost.
LINGER_S = 2.0
# Bytes of a body that are waited for, as long. A proxy that is written in Go, like Caddy, throws as many away
# once it has an answer, then finds that it has sent too few of them, and loses that answer.
FIRST_BYTES = 256 * 1024


class EarlyAnswers:
    """Middleware that reads small bodies for those who do not, and closes the connection of larger ones."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _has_body(scope):
            exchange = _Exchange(receive, send, sends_at_once=not _expects(scope))
            await self.app(scope, exchange.receive, exchange.send)
        else:
            await self.app(scope, receive, send)


class _Exchange:
    """One request with a body, and its answer."""

    def __init__(self, receive: Receive, send: Send, *, sends_at_once: bool) -> None:
        """
        sends_at_once  whether the client does not wait to be asked for the body
        """
        self._receive = receive
        self._send = send
        self._sends_at_once = sends_at_once
        self._bytes = 0
        self._is_read = False
        self._is_early = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._is_read = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and not self._is_read and self._sends_at_once:
            await self._linger(FIRST_BYTES)
        if message["type"] == "http.response.start" and not self._is_read:
            self._is_early = True
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        elif (
            self._is_early and message["type"] == "http.response.body" and not message.get("more_body", False)
        ):
            # The answer is out; its end is held back, because the server closes the connection with it.
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _linger(self, most_bytes: float = math.inf) -> None:
        try:
            async with asyncio.timeout(LINGER_S):
                while not self._is_read and self._bytes < most_bytes:
                    await self.receive()
        except TimeoutError:
            return


def _expects(scope: Scope) -> bool:
    """Whether the client sends the body once it is asked for it (`Expect: 100-continue`)."""
    return b"expect" in dict(scope["headers"])


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0").strip() != b"0"
