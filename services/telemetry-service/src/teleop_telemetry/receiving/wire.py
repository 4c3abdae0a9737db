"""Messages to and from a WebSocket."""

import asyncio
import contextlib
from collections.abc import Sequence

from msgspec.structs import replace
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from teleop_runtime.serving.connection import peer_of
from teleop_schema.messages import (
    OLDEST_SUBPROTOCOL,
    SUBPROTOCOLS,
    ErrorMessage,
    ServerMessage,
    encode_control,
)

# A close frame has at most 125 bytes, two of them for the code.
MAX_REASON_BYTES = 123
# Time limit for the last message to a client that may not be reading any more.
FAREWELL_TIMEOUT_S = 5.0
# RuntimeError: uvicorn has closed by itself, after a ping that was not answered.
GONE = (WebSocketDisconnect, RuntimeError)


def subprotocol_of(websocket: WebSocket) -> str | None:
    """The newest subprotocol that the robot offers and this server speaks; None: plain mode."""
    return next((each for each in SUBPROTOCOLS if each in websocket.scope["subprotocols"]), None)


async def receive_message(websocket: WebSocket) -> str | bytes:
    """The next message, text or binary.

    Raises WebSocketDisconnect when there is none any more, MessageTooLarge or BadMessage if the connection
    was closed for one that could not be read.
    """
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        if (unread := peer_of(websocket).unread) is not None:
            raise unread
        raise WebSocketDisconnect(message["code"], message.get("reason"))
    text: str | None = message.get("text")
    return message["bytes"] if text is None else text


async def tell(websocket: WebSocket, message: ServerMessage) -> None:
    """Send a message; does nothing if the client is gone.

    The receiving side finds the end of the connection by itself, after everything that was sent before it: a
    client may send its frames and leave.
    """
    if isinstance(message, ErrorMessage) and subprotocol_of(websocket) == OLDEST_SUBPROTOCOL:
        message = replace(message, retryable=None)
    if websocket.application_state == WebSocketState.CONNECTED:
        with contextlib.suppress(*GONE):
            await websocket.send_text(encode_control(message))


async def close(
    websocket: WebSocket, code: int, reason: str = "", *, last_words: Sequence[ServerMessage] = ()
) -> None:
    """Close the connection if it is still open, after `last_words`; does not wait for a client
    that does not read."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FAREWELL_TIMEOUT_S):
            for message in last_words:
                await tell(websocket, message)
            if websocket.application_state == WebSocketState.CONNECTED:
                with contextlib.suppress(*GONE):
                    await websocket.close(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))
