"""Closes the connection after an answer that was given before the whole request body had arrived.

If the connection stayed open, the server would take whatever comes next for the rest of that body, and would
never answer the client's next request.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Arriving bytes are read for this long before the connection is closed. Closing a socket with unread bytes
# resets the connection, and the answer would be lost.
LINGER_S = 2.0


class EarlyAnswers:
    """Middleware that closes the connection of a request whose body was not read to its end."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _has_body(scope):
            exchange = _Exchange(receive, send)
            await self.app(scope, exchange.receive, exchange.send)
        else:
            await self.app(scope, receive, send)


class _Exchange:
    """One request with a body, and its answer."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._is_read = False
        self._is_early = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._is_read = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and not self._is_read:
            self._is_early = True
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        elif (
            self._is_early and message["type"] == "http.response.body" and not message.get("more_body", False)
        ):
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _linger(self) -> None:
        try:
            async with asyncio.timeout(LINGER_S):
                while not self._is_read:
                    await self.receive()
        except TimeoutError:
            return


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0").strip() != b"0"
