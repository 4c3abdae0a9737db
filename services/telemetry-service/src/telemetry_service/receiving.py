"""Messages of a WebSocket, whichever kind comes."""

from starlette.websockets import WebSocket, WebSocketDisconnect


async def receive_message(websocket: WebSocket) -> str | bytes:
    """Next message, text or binary; raises WebSocketDisconnect when there is none any more."""
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message["code"], message.get("reason"))
    text: str | None = message.get("text")
    return message["bytes"] if text is None else text
