"""HTTP operations, declared once: the route, its input and its answer, for the server and for OpenAPI."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from functools import wraps
from typing import Annotated, Any, TypeVar, cast, get_args

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from teleop_schema.decoding import DECODE_ERRORS, explain, field_of, hint_of
from teleop_schema.errors import BackendError, BadInput, BodyTooLarge, WrongMediaType

from teleop_runtime.access.roles import Need
from teleop_runtime.serving.bodies import body_parts
from teleop_runtime.serving.guard import guard, guard_socket
from teleop_runtime.serving.problems import CLIENT_LEFT

# Such a body is in memory as a whole. Larger bodies (files, plans) are read in parts, or set their own limit.
MAX_JSON_BYTES = 1024 * 1024
JSON = "application/json"
# The media type that `curl -d` sends for everything.
UNTOLD = "application/x-www-form-urlencoded"

Endpoint = Callable[[Request], Awaitable[Response]]
T = TypeVar("T")

# Content that is not text, in descriptions.
Bytes = Annotated[str, msgspec.Meta(extra_json_schema={"format": "binary"})]


@dataclass(frozen=True)
class Header:
    """One header of a request, or of an answer.

    says  what it means, with its unit
    kind  msgspec type of its value
    """

    name: str
    says: str
    kind: Any = str
    required: bool = False


@dataclass(frozen=True)
class Answer:
    """One answer of an operation that is not an error.

    says     when it is given, or what it has
    kind     msgspec type of its JSON
    media    msgspec types of its content by other media types
    headers  that it has, apart from those of every answer
    """

    status: int = 200
    says: str = ""
    kind: Any = None
    media: Mapping[str, Any] = field(default_factory=dict)
    headers: Sequence[Header] = ()


@dataclass(frozen=True)
class Operation:
    """One method of one address: the route, and what its description says.

    path      in Starlette's form ("/sessions/{session_id:int}")
    needs     what a caller must be allowed to do
    query     msgspec Struct of the query parameters
    headers   headers of the request that it reads
    body      msgspec type of the JSON body
    content   msgspec types of the body by other media types
    may_be_empty
              whether the request needs no body
    example   of a JSON body
    answer    msgspec type of the JSON answer; for more than that, `answers`
    status    of that answer
    answers   what it answers unless something is wrong
    errors    errors that a client should expect
    name      of the operation in clients; by default that of its endpoint
    tag       what it is listed with; by default the first part of its path
    own_check
              whether the endpoint checks by itself whether the caller may touch the data of the robot that it
              is about; otherwise its path says which robot, or it is about all of them
    """

    method: str
    path: str
    endpoint: Endpoint
    needs: Need
    query: type[msgspec.Struct] | None = None
    headers: Sequence[Header] = ()
    body: Any = None
    content: Mapping[str, Any] = field(default_factory=dict)
    may_be_empty: bool = False
    example: Any = None
    answer: Any = None
    status: int = 200
    answers: Sequence[Answer] = ()
    errors: Sequence[type[BackendError]] = field(default_factory=tuple)
    name: str | None = None
    tag: str | None = None
    own_check: bool = False

    def route(self) -> Route:
        endpoint = guard(self.endpoint, self.needs, self.own_check)
        endpoint = while_connected(endpoint) if self.method == "GET" else endpoint
        return Route(self.path, endpoint, methods=[self.method])


@dataclass(frozen=True)
class Conversation:
    """One address for WebSocket: the route, and what its description says.

    needs        what a caller must be allowed to do
    query        msgspec Struct of the query parameters
    headers      headers of the handshake that it reads
    from_client  msgspec types of the JSON messages that a client may send
    from_server  and of those that it may hear
    errors       errors that the handshake can be refused with
    """

    path: str
    endpoint: Callable[[WebSocket], Awaitable[None]]
    needs: Need
    query: type[msgspec.Struct] | None = None
    headers: Sequence[Header] = ()
    from_client: Sequence[Any] = ()
    from_server: Sequence[Any] = ()
    errors: Sequence[type[BackendError]] = field(default_factory=tuple)

    def route(self) -> WebSocketRoute:
        return WebSocketRoute(self.path, guard_socket(self.endpoint, self.needs))


def while_connected(endpoint: Endpoint) -> Endpoint:
    """The endpoint, which is cancelled, with its queries, if its client leaves before the answer.

    For requests without a body and without an effect that must be completed.
    """

    @wraps(endpoint)
    async def answer(request: Request) -> Response:
        working = asyncio.ensure_future(endpoint(request))
        leaving = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            return await working if working.done() else Response(status_code=CLIENT_LEFT)
        finally:
            working.cancel()
            leaving.cancel()
            await asyncio.gather(working, leaving, return_exceptions=True)

    return answer


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class JsonResponse(Response):
    """Any msgspec-encodable content as JSON."""

    media_type = JSON

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)


def read_query[T](request: HTTPConnection, kind: type[T]) -> T:
    """Query parameters as `kind`; raises BadInput naming the parameter."""
    values: dict[str, Any] = {}
    lists = {info.encode_name for info in msgspec.structs.fields(cast(Any, kind)) if _is_list(info.type)}
    for name, value in request.query_params.multi_items():
        if "\0" in value:
            raise BadInput(f"{name} holds a NUL character", field=name)
        if name in lists:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise BadInput(f"{name} is given twice", field=name)
        else:
            values[name] = value
    try:
        found = msgspec.convert(values, kind, strict=False)
    except DECODE_ERRORS as error:
        field = field_of(error)
        # A query has no other types.
        told = explain(error, field or "the query").removesuffix(", not a string")
        raise BadInput(told, field=field, hint=hint_of(error, kind)) from error
    for info in msgspec.structs.fields(cast(Any, kind)):
        # msgspec takes the word "null" for None.
        if info.encode_name in values and getattr(found, info.name) is None:
            raise BadInput(f"{info.encode_name} can't be null", field=info.encode_name, hint="leave it out")
        if info.encode_name in values and datetime in _kinds(info.type):
            _check_time(info.encode_name, values[info.encode_name])
    return found


async def read_body[T](request: Request, kind: type[T], *, limit_bytes: int = MAX_JSON_BYTES) -> T:
    """JSON body as `kind`; raises WrongMediaType, BodyTooLarge, TooSlow, or BadInput naming the field."""
    media_type = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if media_type not in (JSON, UNTOLD) and not media_type.endswith("+json"):
        raise WrongMediaType(
            f"send JSON, not {media_type[:100]!r}", field="Content-Type", hint=f"send {JSON}"
        )
    body = bytearray()
    async with aclosing(body_parts(request)) as parts:
        async for part in parts:
            body += part
            if len(body) > limit_bytes:
                raise BodyTooLarge(f"this JSON body may have at most {limit_bytes} bytes", limit=limit_bytes)
    if not body:
        raise BadInput("the request has no body", hint="send JSON; see /openapi.json")
    try:
        return msgspec.json.decode(body, type=kind)
    except DECODE_ERRORS as error:
        field = field_of(error)
        raise BadInput(explain(error, field or "the body"), field=field, hint=hint_of(error, kind)) from error


def _check_time(name: str, value: str) -> None:
    """Raise BadInput for a number, which msgspec takes for seconds since 1970."""
    try:
        msgspec.convert(value, datetime)
    except msgspec.ValidationError as error:
        raise BadInput(explain(error, name), field=name) from error


def _kinds(annotation: Any) -> set[Any]:
    """The types that an annotation is made of."""
    parts = get_args(annotation)
    return {annotation}.union(*map(_kinds, parts)) if parts else {annotation}


def _is_list(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", annotation) in (list, tuple)
