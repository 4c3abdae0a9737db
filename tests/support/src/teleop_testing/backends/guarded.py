"""A server with addresses of every kind, and its guard before them; tokens in a real database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket
from teleop_runtime.access.tokens import Kind, hash_of, make_token, prefix_of
from teleop_runtime.gate import access_part
from teleop_runtime.serving.app import Running, ServicePart, assemble
from teleop_runtime.serving.bodies import body_parts
from teleop_runtime.serving.guard import caller_of
from teleop_runtime.serving.operations import Conversation, JsonResponse, Operation

from teleop_testing.backends.database import Database
from teleop_testing.backends.serving import serving

_ADD = """
WITH p AS (INSERT INTO principal (name, role, robot_ids) VALUES ($1, $2, $3)
           ON CONFLICT (role, name) DO UPDATE SET name = $1 RETURNING id)
INSERT INTO access_token (principal_id, hash, prefix, expires_at, revoked_at)
SELECT id, $4, $5, now() + $6::text::interval, CASE WHEN $7 THEN now() END FROM p RETURNING id
"""


async def whoami(request: Request) -> Response:
    """Who calls."""
    return JsonResponse(caller_of(request).name)


async def say_open(_request: Request) -> Response:
    """What everybody may know."""
    return JsonResponse("open")


async def follow(_request: Request) -> Response:
    """Something every now and then."""

    async def events() -> AsyncIterator[bytes]:
        yield b"data: first\n\n"
        await asyncio.Event().wait()

    return StreamingResponse(events(), media_type="text/event-stream")


async def count(_request: Request) -> Response:
    """Events that come to an end."""

    async def events() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"data: %d\n\n" % number

    return StreamingResponse(events(), media_type="text/event-stream")


async def take(request: Request) -> Response:
    """How many bytes came."""
    came = 0
    async with aclosing(body_parts(request)) as parts:
        async for part in parts:
            came += len(part)
    return JsonResponse(came)


async def give(_request: Request) -> Response:
    """A file that has no end."""

    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield bytes(64 * 1024)

    return StreamingResponse(parts(), media_type="application/octet-stream")


async def echo(websocket: WebSocket) -> None:
    """Whatever comes."""
    await websocket.accept(subprotocol=next(iter(websocket.scope["subprotocols"]), None))
    while True:
        await websocket.send_text(await websocket.receive_text())


@asynccontextmanager
async def lifespan() -> AsyncIterator[Running]:
    """Nothing to start."""
    yield Running(state={})


PART = ServicePart(
    name="example",
    operations=[
        Operation("GET", "/open", say_open, "nothing"),
        Operation("GET", "/whoami", whoami, "browse"),
        Operation("GET", "/robots/{robot_id}", whoami, "read"),
        Operation("GET", "/events", follow, "browse"),
        Operation("GET", "/few-events", count, "browse"),
        Operation("POST", "/change", whoami, "operate"),
        Operation("GET", "/file", give, "browse"),
        Operation("POST", "/file/{robot_id}", take, "send"),
        Operation("GET", "/sessions/{session_id:int}", whoami, "read"),
    ],
    websockets=[Conversation("/ws/{robot_id}", echo, "send")],
    lifespan=lifespan,
)


@asynccontextmanager
async def guarded(database_url: str, **posture: Any) -> AsyncIterator[str]:
    """Address of the server, which takes its tokens from that database."""
    app = assemble("example", [access_part(database_url), PART], **posture)
    async with serving(app) as address:
        yield address


async def add_token(
    database: Database,
    role: Kind,
    name: str = "someone",
    robots: list[str] | None = None,
    *,
    lasts: str | None = None,
    revoked: bool = False,
) -> str:
    """A new token in the database; a robot's is for the robot of its name.

    lasts  as PostgreSQL writes a duration; None: forever
    """
    token = make_token(role)
    robots = [name] if role == "robot" else robots
    values = (name, role, robots, hash_of(token), prefix_of(token), lasts, revoked)
    await database.connection.fetchval(_ADD, *values)
    return token


def bearer(token: str) -> dict[str, str]:
    """The header that shows a token."""
    return {"Authorization": f"Bearer {token}"}


def assert_refused(answer: httpx.Response, status: int, code: str) -> Any:
    """A problem that another token can help."""
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["retryable"]) == (status, code, True)
    assert ("www-authenticate" in answer.headers) == (status == 401)
    return problem
