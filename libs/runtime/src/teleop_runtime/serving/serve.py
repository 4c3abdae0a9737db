"""uvicorn as every service runs it."""

import gc
import logging
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from ssl import SSLContext
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from teleop_schema.limits import MAX_MESSAGE_BYTES

from teleop_runtime.serving.connection import HttpConnection, WebSocketConnection

# Less than the minute after which proxies and NATs drop a silent connection.
PING_INTERVAL_S = 5.0
# Three pings, so that one lost second does not end the connection of a robot on Wi-Fi.
DEAD_AFTER_S = 15.0
# After the drain, the time for connections to close, whatever their clients do.
CLOSE_TIMEOUT_S = 5
# Exit status if it could not start; the same as uvicorn's.
STARTUP_FAILURE = 3
# Objects created between two searches for reference cycles; a thousand robots create the default in a moment.
GC_THRESHOLD = 50_000

# Compression costs CPU and saves nothing on arrays of floats.
SERVER_OPTIONS: dict[str, Any] = {
    "http": HttpConnection,
    "ws": WebSocketConnection,
    "ws_max_size": MAX_MESSAGE_BYTES,
    "ws_ping_interval": PING_INTERVAL_S,
    "ws_ping_timeout": DEAD_AFTER_S - PING_INTERVAL_S,
    "ws_per_message_deflate": False,
    # Ours believes the proxies of our setting alone, and more of what they say.
    "proxy_headers": False,
    "access_log": False,
    "log_config": None,
    "lifespan": "on",
    "timeout_graceful_shutdown": CLOSE_TIMEOUT_S,
}


def serve(
    app: Starlette,
    *,
    host: str,
    port: int,
    started: Callable[[], None] = lambda: None,
    tls: SSLContext | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; SystemExit with the reason if a part of the app raised CannotStart.

    started  called once everything has started and the port is open
    tls      for HTTPS, with its certificate loaded; None: plain HTTP
    """
    _spare_garbage_collection()
    # uvicorn's log of such an end is suppressed; a plain last line below says it.
    logging.getLogger("uvicorn.error").addFilter(lambda _: not hasattr(app.state, "cannot_start"))
    config = uvicorn.Config(app, host=host, port=port, **SERVER_OPTIONS)
    if tls is not None:
        config.ssl_context_factory = lambda *_: tls
    server = _Server(config, started)
    try:
        with suppress(KeyboardInterrupt):
            server.run()
    except SystemExit:
        if reason := getattr(app.state, "cannot_start", None):
            sys.exit(reason)
        raise
    reason = getattr(app.state, "cannot_start", None)
    if reason or not server.started:
        sys.exit(reason or STARTUP_FAILURE)


class _Server(uvicorn.Server):
    """A server that reports when it has started."""

    def __init__(self, config: uvicorn.Config, tell_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell_started = tell_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._tell_started()


def adapt_uvicorn(tls: SSLContext | None = None) -> None:
    """Let a uvicorn that was started by hand serve as `serve` does; called while it loads the app by name.

    An app has no way to tell uvicorn which connections, limits and time-outs it wants. But uvicorn sets its
    configuration before it loads the app, and reads it only afterwards.

    tls  as of `serve`; None: as uvicorn was told
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        config = frame.f_locals.get("self")
        if isinstance(config, uvicorn.Config):
            config.http_protocol_class = SERVER_OPTIONS["http"]
            config.ws_protocol_class = SERVER_OPTIONS["ws"]
            for name, value in SERVER_OPTIONS.items():
                if name.startswith(("ws_", "timeout_", "proxy_")):
                    setattr(config, name, value)
            if tls is not None:
                config.ssl = tls
            _spare_garbage_collection()
            return
        frame = frame.f_back


def _spare_garbage_collection() -> None:
    """Exempt everything loaded now from garbage collection; searching it again and again would stall every
    robot."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
