"""`WS /ws/log/{robot_id}`: from the handshake to the last acknowledgement."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from teleop_runtime.app import refuse
from teleop_runtime.logs import get_logger
from teleop_runtime.operations import read_query
from teleop_runtime.problems import as_message
from teleop_schema.errors import BackendError, StorageUnavailable
from teleop_schema.identifiers import check_robot_id
from teleop_schema.messages import SUBPROTOCOL, Ack, Drain, encode_control

from telemetry_service import metrics
from telemetry_service.acknowledged import AcknowledgedConnection, receive_hello
from telemetry_service.acks import send_acks
from telemetry_service.connections import Connections
from telemetry_service.plain_mode import PlainConnection, PlainQuery
from telemetry_service.session_table import SessionTable
from telemetry_service.writer import Writer

log = get_logger(__name__)

MAX_CONNECTIONS = 10_000
NORMAL_CLOSE, SERVICE_RESTART = 1000, 1012


class Connection(Protocol):
    """What both modes have in common."""

    writer: Writer

    async def receive(self) -> None: ...


async def log_telemetry(websocket: WebSocket) -> None:
    """Store one robot's frames, acknowledging them after their commit.

    With subprotocol `lerobot.telemetry.v1` in acknowledged mode, without in plain mode. Errors are told in
    an `error` message, then as the close code of the error's class; the handshake of a bad address is
    refused over HTTP.
    """
    connections: Connections = websocket.state.connections
    try:
        robot_id = check_robot_id(websocket.path_params["robot_id"])
        query = read_query(websocket, PlainQuery)
        connections.admit(MAX_CONNECTIONS)
    except BackendError as error:
        await refuse(websocket, error)
        return
    acknowledged = SUBPROTOCOL in websocket.scope["subprotocols"]
    mode = "acknowledged" if acknowledged else "plain"
    await websocket.accept(subprotocol=SUBPROTOCOL if acknowledged else None)
    with metrics.CONNECTIONS.labels(mode).track_inprogress():
        async with errors_told(websocket, robot_id):
            if acknowledged:
                await _acknowledged(websocket, robot_id)
            else:
                await _plain(websocket, robot_id, query)


async def _acknowledged(websocket: WebSocket, robot_id: str) -> None:
    table: SessionTable = websocket.state.session_table
    hello = await receive_hello(websocket)
    opened = await table.open(hello.stream, robot_id, hello.session, delivery="acknowledged")
    log.info("session opened", robot=robot_id, session=opened.id, epoch=opened.epoch, next=opened.next)
    connection = AcknowledgedConnection(websocket, opened, hello, websocket.state.batcher, table)
    await _talk(websocket, connection)


async def _plain(websocket: WebSocket, robot_id: str, query: PlainQuery) -> None:
    connection = PlainConnection(
        websocket, robot_id, query, websocket.state.batcher, websocket.state.session_table
    )
    try:
        await _talk(websocket, connection)
    finally:
        await connection.finish()


async def _talk(websocket: WebSocket, connection: Connection) -> None:
    """Receive and acknowledge until the robot is done, goes away, or this process drains."""
    connections: Connections = websocket.state.connections
    receiving = asyncio.ensure_future(connection.receive())
    acking = asyncio.ensure_future(send_acks(websocket, connection.writer))
    with connections.entered() as drained:
        draining = asyncio.ensure_future(drained.wait())
        tasks = (receiving, acking, draining)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if receiving in done or acking in done:
                await (receiving if receiving in done else acking)
                return
            receiving.cancel()
            await websocket.send_text(encode_control(Drain()))
            await connection.writer.settled()
            await websocket.send_text(encode_control(Ack(next=connection.writer.committed)))
            await websocket.close(SERVICE_RESTART)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def errors_told(websocket: WebSocket, robot_id: str) -> AsyncIterator[None]:
    """Close the connection as its end demands, telling what went wrong first."""
    error: BackendError
    try:
        yield
        await _close(websocket, NORMAL_CLOSE)
        return
    except WebSocketDisconnect:
        return
    except BackendError as known:
        error = known
        log.warning("connection refused", robot=robot_id, code=error.code, detail=error.detail)
    except Exception as surprise:
        # Whatever it was, the robot keeps its frames and comes back.
        error = StorageUnavailable()
        log.error("connection failed", robot=robot_id, exc_info=surprise)
    metrics.MESSAGES_REFUSED.labels(error.code).inc()
    try:
        await websocket.send_text(encode_control(as_message(error, fatal=True)))
        await _close(websocket, error.close_code, error.detail)
    except (WebSocketDisconnect, RuntimeError):
        log.info("the robot was gone before it could be told", robot=robot_id)


async def _close(websocket: WebSocket, code: int, reason: str = "") -> None:
    if websocket.application_state == WebSocketState.CONNECTED:
        await websocket.close(code, reason.encode()[:120].decode(errors="ignore"))
