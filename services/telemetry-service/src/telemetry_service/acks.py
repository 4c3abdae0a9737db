"""Telling the robot what is durable."""

from starlette.websockets import WebSocket
from teleop_schema.messages import Ack

from telemetry_service.wire import tell
from telemetry_service.writer import Writer


async def send_acks(websocket: WebSocket, writer: Writer) -> None:
    """Send cumulative acknowledgements until cancelled; raises the writer's failure.

    Only the newest is ever waiting to be sent, however slowly the robot reads.
    """
    while True:
        await writer.changed.wait()
        writer.changed.clear()
        if writer.failure is not None:
            raise writer.failure
        await tell(websocket, Ack(next=writer.committed))
