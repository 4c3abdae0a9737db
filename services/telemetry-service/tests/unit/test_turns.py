"""Connections share the event loop by bytes; counted in turns of a loop, whatever the time."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from starlette.websockets import WebSocket
from teleop_schema.limits import MAX_MESSAGE_BYTES
from teleop_schema.plain import PlainFrame, decoding_plain
from teleop_telemetry.receiving.batcher import Batcher
from teleop_telemetry.receiving.plain_mode import PlainConnection, PlainQuery
from teleop_telemetry.receiving.session import PlainSession
from teleop_telemetry.receiving.turns import TURN_BYTES, Turns

SMALL_BYTES = TURN_BYTES // 8


async def sender(turns: Turns, size_bytes: int, taken: list[int]) -> None:
    """One whose next message is always there already."""
    while True:
        taken.append(size_bytes)
        await turns.take(size_bytes)


@pytest.fixture
async def tasks():
    """Tasks that end with the test."""
    begun: list[asyncio.Task[None]] = []
    yield begun
    for task in begun:
        task.cancel()
    await asyncio.gather(*begun, return_exceptions=True)


async def test_one_with_large_messages_gets_no_more_than_the_others(tasks):
    """Before its next message each of three hundred others has had as many bytes as it."""
    taken: list[list[int]] = [[] for _ in range(301)]
    sizes = [MAX_MESSAGE_BYTES] + [SMALL_BYTES] * 300
    tasks += [
        asyncio.create_task(sender(Turns(), size, mine)) for size, mine in zip(sizes, taken, strict=True)
    ]
    for _ in range(MAX_MESSAGE_BYTES // TURN_BYTES):
        await asyncio.sleep(0)
    assert len(taken[0]) == 1
    assert min(sum(mine) for mine in taken[1:]) >= MAX_MESSAGE_BYTES - TURN_BYTES


async def test_small_messages_cost_no_turn(tasks):
    """A robot's messages that came together are taken together."""
    mine: list[int] = []
    tasks.append(asyncio.create_task(sender(Turns(), SMALL_BYTES, mine)))
    await asyncio.sleep(0)
    assert len(mine) == TURN_BYTES // SMALL_BYTES


async def test_what_is_refused_takes_its_turns_too(tasks):
    """A client that sends nonsense nonstop, the next always there already, lets the loop go on."""
    received = 0

    async def receive() -> dict[str, object]:
        nonlocal received
        received += 1
        if received > 2:
            return {"type": "websocket.disconnect", "code": 1000}
        return {"type": "websocket.receive", "bytes": bytes(MAX_MESSAGE_BYTES)}

    scope = {"type": "websocket", "subprotocols": [], "headers": [], "path": "/", "query_string": b""}
    websocket = WebSocket(scope, receive, receive)
    websocket.client_state = websocket.application_state = websocket.client_state.CONNECTED
    batcher = Batcher(SimpleNamespace())  # type: ignore[arg-type]
    connection = PlainConnection(websocket, "robot_A", PlainQuery(), batcher, SimpleNamespace())  # type: ignore[arg-type]
    tasks.append(asyncio.create_task(connection.receive()))
    for _ in range(MAX_MESSAGE_BYTES // TURN_BYTES):
        await asyncio.sleep(0)
    assert received == 1


async def test_one_large_message_lets_the_others_in_between(tasks):
    """Not only after it: each of its steps is followed by the turns that it cost."""
    values = {f"joint_{joint}.pos": 1.2345678 for joint in range(6)}
    frame = {"observation": values, "action": values}
    text = json.dumps([frame] * (MAX_MESSAGE_BYTES // (len(json.dumps(frame)) + 2)))
    session, turns = PlainSession(PlainFrame(**frame), fps=60.0), Turns()
    begun: list[int] = []

    async def take() -> int:
        frames = await turns.through(decoding_plain(text), len(text) // 2)
        begun.append(len(frames))
        return (await turns.through(session.receive(frames, 0), len(text) // 2)).rows

    task = asyncio.create_task(take())
    tasks.append(task)
    taken = 0
    while not task.done():
        await asyncio.sleep(0)
        taken += 1
    assert await task == begun[0] == session.next
    assert taken >= len(text) // TURN_BYTES - 2
