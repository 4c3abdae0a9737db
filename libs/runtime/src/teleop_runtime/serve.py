"""uvicorn as every service runs it."""

import uvicorn
from starlette.applications import Starlette
from teleop_schema.limits import MAX_MESSAGE_BYTES

PING_INTERVAL_S = 5.0
DEAD_AFTER_S = 15.0


def serve(app: Starlette, *, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT.

    websockets-sansio costs the least per message of uvicorn's WebSocket sides; compression costs CPU and
    saves nothing on arrays of floats.
    """
    uvicorn.run(
        app,
        host=host,
        port=port,
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_ping_interval=PING_INTERVAL_S,
        ws_ping_timeout=DEAD_AFTER_S - PING_INTERVAL_S,
        ws_per_message_deflate=False,
        access_log=False,
        log_config=None,
        lifespan="on",
        timeout_graceful_shutdown=5,
    )
