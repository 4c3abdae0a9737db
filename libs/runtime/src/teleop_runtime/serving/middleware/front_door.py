"""The first that every request meets: who may come in, and what every answer says."""

import time
from collections.abc import Iterable, Iterator
from uuid import uuid4

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from teleop_schema.errors import BackendError

from teleop_runtime.access.rates import RateLimits
from teleop_runtime.metrics import HTTP_REQUESTS, HTTP_SECONDS
from teleop_runtime.serving import problems
from teleop_runtime.serving.guard import check_address
from teleop_runtime.serving.posture import Pages, Posture, check_access, origin_of

# Of answers that are no page: if a browser shows one all the same, it runs and loads nothing, in no frame.
POLICY_OF_DATA = b"default-src 'none'; frame-ancestors 'none'"

# For a year, browsers then ask for nothing of this name without HTTPS; names below it may be others'.
HTTPS_ONLY = b"max-age=31536000"

type Headers = Iterator[tuple[bytes, bytes]]


class FrontDoor:
    """Admits or refuses a caller, gives each request an id, and counts and times the answers."""

    def __init__(
        self,
        app: ASGIApp,
        posture: Posture,
        pages: Pages,
        limits: RateLimits | None,
    ) -> None:
        """
        posture  who is let in without a token; endpoints ask once they know that none is shown
        limits   of requests; they count once they know whose it is. None: there are none
        """
        self.app = app
        self.posture = posture
        self.pages = pages
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {}).update(posture=self.posture, rate_limits=self.limits)
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._lifespan(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = scope["request_id"] = uuid4().hex
        begun = time.perf_counter()
        started = False

        async def send_counted(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                route = getattr(scope.get("route"), "path", "unknown")
                HTTP_REQUESTS.labels(scope["method"], route, message["status"]).inc()
                HTTP_SECONDS.labels(route).observe(time.perf_counter() - begun)
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    *self._for_browsers(scope, message["headers"]),
                ]
            await send(message)

        try:
            self.posture.check_way(scope)
            check_access(scope, self.pages)
            check_address(scope)
            await self.app(scope, receive, send_counted)
        except BackendError as error:
            response = await problems.answer_backend_error(Request(scope), error)
            await response(scope, receive, send_counted)
        except Exception as error:
            # Only cutting the connection tells the client that a body has ended too early.
            response = await problems.answer_surprise(Request(scope), error)
            if started:
                raise
            await response(scope, receive, send_counted)

    def _for_browsers(self, scope: Scope, headers: Iterable[tuple[bytes, bytes]]) -> Headers:
        """What a browser may do with an answer: nothing for other sites, but for the chosen pages."""
        yield b"x-content-type-options", b"nosniff"
        if self.posture.exposure == "internet" and scope["scheme"] == "https":
            yield b"strict-transport-security", HTTPS_ONLY
        if not any(name.lower() == b"content-security-policy" for name, _ in headers):
            yield b"content-security-policy", POLICY_OF_DATA
        if self.pages.may_read(scope):
            yield b"access-control-allow-origin", origin_of(dict(scope["headers"])).encode("latin-1")
            yield b"vary", b"Origin"
        else:
            yield b"cross-origin-resource-policy", b"same-origin"

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self.posture.check_way(scope)
            check_access(scope)
            check_address(scope)
        except BackendError as error:
            await problems.refuse(WebSocket(scope, receive, send), error)
            return
        await self.app(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_reason(message: Message) -> None:
            """An error that a person has to fix needs no traceback."""
            reason = getattr(scope["app"].state, "cannot_start", None)
            await send(message if reason is None else {**message, "message": reason})

        await self.app(scope, receive, send_reason)
