"""Messages to and from a WebSocket."""

import asyncio
import contextlib
from collections.abc import Sequence

from msgspec.structs import replace
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from teleop_runtime.serving.connection import peer_of
from teleop_schema.errors import UnknownSubprotocol
from teleop_schema.messages import (
    OLDEST_SUBPROTOCOL,
    PLAIN_SUBPROTOCOL,
    SUBPROTOCOL_FAMILY,
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
    """The subprotocol to choose: the newest of the acknowledged mode that the client offers and this server
    speaks, or that of the plain mode; None: plain mode, without a subprotocol.

    Whatever else is offered (some libraries always offer a name of their own) has no meaning here. Raises
    UnknownSubprotocol if names of this protocol are offered, and none is known: the client speaks a version
    of the acknowledged mode, and would wait for a welcome that never comes.
    """
    offered: list[str] = websocket.scope["subprotocols"]
    known = (*SUBPROTOCOLS, PLAIN_SUBPROTOCOL)
    chosen = next((each for each in known if each in offered), None)
    unknown = [each for each in offered if each.startswith(SUBPROTOCOL_FAMILY)]
    if chosen is None and unknown:
        raise UnknownSubprotocol(
            f"this server does not know the subprotocol {', '.join(unknown)}",
            field="Sec-WebSocket-Protocol",
            hint=f"one of {', '.join(known)}; plain frames need none",
        )
    return chosen


def is_acknowledged(subprotocol: str | None) -> bool:
    """Whether a connection with this subprotocol is in acknowledged mode."""
    return subprotocol in SUBPROTOCOLS


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
    # ASGI allows both keys, one of them None.
    return message["bytes"] if text is None else text


async def tell(websocket: WebSocket, message: ServerMessage) -> None:
    """Send a message; does nothing if the client is gone.

    The receiving side finds the end of the connection by itself, after everything that was sent before it: a
    client may send its frames and leave.
    """
    # The first version of the protocol has no such field.
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
