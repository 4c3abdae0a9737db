"""Requests that have come through a reverse proxy, as their clients have sent them."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from teleop_runtime.logs import get_logger
from teleop_runtime.proxies import (
    FORWARDED,
    OF_PROXIES,
    PASSED_ON,
    THROUGH_PROXY,
    Network,
    Told,
    is_trusted,
    read_forwarded,
)

log = get_logger(__name__)

SETTING = "LEROBOT_BACKEND_PROXIES"
# Machines whose headers were ignored are logged once each, up to this many.
MAX_LOGGED = 16
PREFIX = "lerobot.prefix"
WEBSOCKET_SCHEMES = {"http": "ws", "https": "wss"}


def address_of(request: Request, path: str) -> str:
    """The absolute address of a path of this backend, by which the client of this request can reach it."""
    prefix: str = request.scope.get(PREFIX, "")
    return str(request.base_url).rstrip("/") + prefix + path


class Forwarded:
    """Middleware that gives a request of a trusted proxy the client's address, the scheme, and the `Host`
    header that the client has used, and the prefix for `address_of`; each request learns whether it has come
    through a proxy, trusted or not.

    It must be the first to see a request: whether a caller is admitted depends on them.
    """

    def __init__(self, app: ASGIApp, proxies: Sequence[Network]) -> None:
        self.app = app
        self.proxies = proxies
        self._logged: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            headers = Headers(scope=scope)
            told = {name: values for name in FORWARDED if (values := headers.getlist(name))}
            peer = (scope.get("client") or ("",))[0]
            trusted = is_trusted(peer, self.proxies)
            scope[PASSED_ON] = any(name in headers for name in OF_PROXIES)
            scope[THROUGH_PROXY] = trusted or scope[PASSED_ON]
            if told and trusted:
                _apply(read_forwarded(told, self.proxies), scope)
            elif told:
                self._log(peer)
        await self.app(scope, receive, send)

    def _log(self, peer: str) -> None:
        if peer not in self._logged and len(self._logged) < MAX_LOGGED:
            self._logged.add(peer)
            hint = f"if this machine is your reverse proxy, add its address to {SETTING}"
            log.warning("forwarded headers ignored", client=peer, hint=hint)


def _apply(told: Told, scope: Scope) -> None:
    if told.client is not None:
        # No header tells its port.
        scope["client"] = (told.client, 0)
    if told.scheme is not None:
        is_websocket = scope["type"] == "websocket"
        scope["scheme"] = WEBSOCKET_SCHEMES[told.scheme] if is_websocket else told.scheme
    if told.host is not None:
        others = [(name, value) for name, value in scope["headers"] if name != b"host"]
        scope["headers"] = [(b"host", told.host.encode()), *others]
    scope[PREFIX] = told.prefix
