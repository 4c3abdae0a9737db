"""`WS /ws/log/{robot_id}`: from the handshake to the last acknowledgement."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from msgspec import UNSET
from starlette.websockets import WebSocket, WebSocketDisconnect
from teleop_runtime.logs import get_logger
from teleop_runtime.serving.connection import peer_of
from teleop_runtime.serving.operations import Conversation, Header, read_query
from teleop_runtime.serving.problems import as_backend_error, as_message, refuse
from teleop_runtime.trouble import trouble_of
from teleop_schema.errors import (
    BackendError,
    BadInput,
    BadRobotId,
    TooManyConnections,
    UnknownSubprotocol,
    UpgradeRequired,
)
from teleop_schema.identifiers import check_robot_id
from teleop_schema.messages import (
    PLAIN_SUBPROTOCOL,
    SUBPROTOCOL,
    SUBPROTOCOLS,
    Ack,
    Drain,
    End,
    Ended,
    ErrorMessage,
    Hello,
    Nack,
    Welcome,
)
from teleop_schema.plain import PlainFrame

from teleop_telemetry import metrics
from teleop_telemetry.receiving.acknowledged import AcknowledgedConnection, receive_hello
from teleop_telemetry.receiving.acks import Notices, send_acks
from teleop_telemetry.receiving.connections import Connections
from teleop_telemetry.receiving.plain_mode import PlainConnection, PlainQuery
from teleop_telemetry.receiving.wire import FAREWELL_TIMEOUT_S, close, is_acknowledged, subprotocol_of, tell
from teleop_telemetry.receiving.writer import Writer
from teleop_telemetry.tables.session_table import SessionTable

log = get_logger(__name__)

# Per process; further robots are asked to reconnect, and find another replica.
MAX_CONNECTIONS = 10_000
# Of one robot, which has one for each recording that it sends.
MAX_CONNECTIONS_OF_ROBOT = 1000
NORMAL_CLOSE, SERVICE_RESTART = 1000, 1012
# Close codes of a client that has finished: done, going away (a page that was left), closed without a code. A
# broken connection, and an end because of an error, have other codes.
ORDERLY = (1000, 1001, 1005)


class RobotConnection(Protocol):
    """The common interface of both modes."""

    writer: Writer
    notices: Notices

    async def receive(self) -> None: ...


async def log_telemetry(websocket: WebSocket) -> None:
    """Store one robot's frames, acknowledging them after their commit.

    With subprotocol `lerobot.telemetry.v1.4` (or `v1.3`, `v1.2`, `v1.1`, `v1`) in acknowledged mode, without
    in plain mode: docs/telemetry-protocol.md.
    Errors are told in an `error` message, then as the close code of the error's class; the handshake of a bad
    address is refused over HTTP.
    """
    connections: Connections = websocket.state.connections
    try:
        robot_id = check_robot_id(websocket.path_params["robot_id"])
        query = read_query(websocket, PlainQuery)
        entered = connections.entered(robot_id, limit=MAX_CONNECTIONS, of_robot=MAX_CONNECTIONS_OF_ROBOT)
        with entered as draining:
            await _converse(websocket, robot_id, query, draining)
    except BackendError as error:
        await refuse(websocket, error)


async def _converse(websocket: WebSocket, robot_id: str, query: PlainQuery, draining: asyncio.Event) -> None:
    subprotocol = subprotocol_of(websocket)
    acknowledged = is_acknowledged(subprotocol)
    mode = "acknowledged" if acknowledged else "plain"
    await websocket.accept(subprotocol=subprotocol)
    with metrics.CONNECTIONS.labels(mode).track_inprogress():
        async with errors_told(websocket, robot_id):
            if acknowledged:
                await _acknowledged(websocket, robot_id, draining)
            else:
                await _plain(websocket, robot_id, query, draining)


async def _acknowledged(websocket: WebSocket, robot_id: str, draining: asyncio.Event) -> None:
    table: SessionTable = websocket.state.session_table
    hello = await receive_hello(websocket)
    secret = None if hello.secret is UNSET else hello.secret
    opened = await table.open(hello.stream, robot_id, hello.session, delivery="acknowledged", secret=secret)
    log.info("session opened", robot=robot_id, session=opened.id, epoch=opened.epoch, next=opened.next)
    if hello.first_unacked > opened.next:
        log.error(
            "acknowledged frames are gone from the database; the robot sends what it still has",
            session=opened.id,
            next=opened.next,
            acknowledged=hello.first_unacked,
        )
    connection = AcknowledgedConnection(websocket, opened, hello, websocket.state.batcher, table)
    await _talk(websocket, connection, draining)


async def _plain(websocket: WebSocket, robot_id: str, query: PlainQuery, draining: asyncio.Event) -> None:
    connection = PlainConnection(
        websocket, robot_id, query, websocket.state.batcher, websocket.state.session_table
    )
    # A client that never reads no longer answers pings once its buffers are full of acknowledgements.
    peer_of(websocket).patient = True
    orderly = False
    try:
        await _talk(websocket, connection, draining)
    except WebSocketDisconnect as gone:
        orderly = gone.code in ORDERLY
        raise
    finally:
        await connection.finish(orderly=orderly)


async def _talk(websocket: WebSocket, connection: RobotConnection, draining: asyncio.Event) -> None:
    """Receive and acknowledge until the robot is done, goes away, or this process drains."""
    receiving = asyncio.ensure_future(connection.receive())
    acking = asyncio.ensure_future(send_acks(websocket, connection.writer, connection.notices))
    drained = asyncio.ensure_future(draining.wait())
    tasks = (receiving, acking, drained)
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if receiving in done or acking in done:
            await (receiving if receiving in done else acking)
            return
        # This process stops: nothing more is taken, but what was taken is still stored and acknowledged.
        receiving.cancel()
        # A client that does not read must not prevent its frames from being settled.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_TIMEOUT_S):
                await tell(websocket, Drain())
        await connection.writer.settled()
        last = Ack(next=connection.writer.committed)
        await close(websocket, SERVICE_RESTART, last_words=[last])
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
        await close(websocket, NORMAL_CLOSE)
        return
    except WebSocketDisconnect as gone:
        # A client that says goodbye leaves no line: there may be thousands an hour.
        if gone.code not in ORDERLY:
            log.info("connection lost", robot=robot_id, close_code=gone.code)
        return
    except BackendError as known:
        error = known
        log.warning("connection refused", robot=robot_id, code=error.code, detail=error.detail)
    except Exception as surprise:
        # Whatever the error was, the robot keeps its frames and reconnects.
        error = as_backend_error(surprise)
        if trouble_of(surprise) is not None:
            log.warning("database away", robot=robot_id, error=repr(surprise), hint=error.hint)
        else:
            log.error("connection failed", robot=robot_id, exc_info=surprise)
    metrics.MESSAGES_REFUSED.labels(error.code).inc()
    await close(websocket, error.close_code, error.detail, last_words=[as_message(error, fatal=True)])


TELEMETRY = Conversation(
    "/ws/log/{robot_id:path}",
    log_telemetry,
    needs="send",
    query=PlainQuery,
    headers=[
        Header(
            "Sec-WebSocket-Protocol",
            f"`{SUBPROTOCOL}` for the acknowledged mode, which loses nothing; older: "
            f"{', '.join(f'`{each}`' for each in SUBPROTOCOLS[1:])}. "
            f"`{PLAIN_SUBPROTOCOL}` or none: the plain mode",
        ),
    ],
    from_client=[PlainFrame, list[PlainFrame], Hello, End],
    from_server=[Welcome, Ack, Nack, Ended, Drain, ErrorMessage],
    errors=[UnknownSubprotocol, BadRobotId, BadInput, TooManyConnections, UpgradeRequired],
)
