"""uvicorn as every service runs it."""

import gc
import logging
import sys
from typing import Any

import uvicorn
from starlette.applications import Starlette
from teleop_schema.limits import MAX_MESSAGE_BYTES

from teleop_runtime.connection import HttpConnection, WebSocketConnection

PING_INTERVAL_S = 5.0
DEAD_AFTER_S = 15.0
# After the drain: time for connections to close, whatever their clients do.
CLOSE_TIMEOUT_S = 5
# Objects made between two looks for reference cycles; a thousand robots make that many in a moment.
GC_THRESHOLD = 50_000

# Compression costs CPU and saves nothing on arrays of floats.
SERVER_OPTIONS: dict[str, Any] = {
    "http": HttpConnection,
    "ws": WebSocketConnection,
    "ws_max_size": MAX_MESSAGE_BYTES,
    "ws_ping_interval": PING_INTERVAL_S,
    "ws_ping_timeout": DEAD_AFTER_S - PING_INTERVAL_S,
    "ws_per_message_deflate": False,
    "access_log": False,
    "log_config": None,
    "lifespan": "on",
    "timeout_graceful_shutdown": CLOSE_TIMEOUT_S,
}


def serve(app: Starlette, *, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; SystemExit with the reason if a part of the app raised CannotStart."""
    # What is loaded now stays; looking through it for garbage again and again would stall every robot.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    # What it logs of such an end is told below, in a plain last line.
    logging.getLogger("uvicorn.error").addFilter(lambda _: not hasattr(app.state, "cannot_start"))
    try:
        uvicorn.run(app, host=host, port=port, **SERVER_OPTIONS)
    except SystemExit:
        if reason := getattr(app.state, "cannot_start", None):
            sys.exit(reason)
        raise
