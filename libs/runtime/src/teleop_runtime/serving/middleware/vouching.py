"""Requests of people whom a reverse proxy has signed in."""

from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send
from teleop_schema.errors import Unauthorized

from teleop_runtime.access.forward_auth import VOUCHED, ForwardAuth
from teleop_runtime.proxies import Network, is_trusted


class Vouching:
    """Middleware that notes for whom a trusted proxy vouches (what it says may also be an error, which then
    is what a caller without a token hears), and takes the headers away, whoever sends them.

    It must see a request before `Forwarded` puts the client in the place of the proxy.
    """

    def __init__(self, app: ASGIApp, proxies: Sequence[Network], forward_auth: ForwardAuth) -> None:
        self.app = app
        self.proxies = proxies
        self.forward_auth = forward_auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            headers = scope["headers"]
            scope["headers"] = self.forward_auth.without(headers)
            if is_trusted((scope.get("client") or ("",))[0], self.proxies):
                try:
                    scope[VOUCHED] = self.forward_auth.read(headers)
                except Unauthorized as error:
                    scope[VOUCHED] = error
        await self.app(scope, receive, send)
