"""HTTP operations, declared once: the route, its input and its answer, for the server and for OpenAPI."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar, cast

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route
from teleop_schema.decoding import DECODE_ERRORS, explain, field_of, hint_of
from teleop_schema.errors import BackendError, BadInput, BodyTooLarge, TooSlow, WrongMediaType

from teleop_runtime.serving.bodies import body_parts
from teleop_runtime.serving.problems import Problem

# Such a body is in memory as a whole. Larger bodies (files, plans) are read in parts, or set their own limit.
MAX_JSON_BYTES = 1024 * 1024
JSON = "application/json"
# The media type that `curl -d` sends for everything.
UNTOLD = "application/x-www-form-urlencoded"
# nginx's status for an answer that nobody waits for any more; only the metrics see it.
CLIENT_LEFT = 499

Endpoint = Callable[[Request], Awaitable[Response]]
T = TypeVar("T")


@dataclass(frozen=True)
class Operation:
    """One method of one address.

    path      in Starlette's form ("/sessions/{session_id:int}")
    query     msgspec Struct of the query parameters
    body      msgspec type of the JSON body
    answer    msgspec type of the JSON answer; None if the answer is not JSON
    media     further media types of the answer
    errors    errors that a client should expect
    """

    method: str
    path: str
    endpoint: Endpoint
    query: type[msgspec.Struct] | None = None
    body: Any = None
    answer: Any = None
    status: int = 200
    media: Sequence[str] = ()
    errors: Sequence[type[BackendError]] = field(default_factory=tuple)

    def route(self) -> Route:
        endpoint = while_connected(self.endpoint) if self.method == "GET" else self.endpoint
        return Route(self.path, endpoint, methods=[self.method])


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
        return msgspec.convert(values, kind, strict=False)
    except DECODE_ERRORS as error:
        field = field_of(error)
        # A query has no other types.
        told = explain(error, field or "the query").removesuffix(", not a string")
        raise BadInput(told, field=field, hint=hint_of(error, kind)) from error


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


def _is_list(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", annotation) in (list, tuple)


def describe(title: str, operations: Sequence[Operation]) -> dict[str, Any]:
    """OpenAPI 3.1 document of `operations`."""
    kinds: list[Any] = [Problem]
    for operation in operations:
        kinds += [kind for kind in (operation.query, operation.body, operation.answer) if kind is not None]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    schema_of = {id(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = "/".join(
            part.split(":")[0] + "}" if part.startswith("{") and ":" in part else part
            for part in operation.path.split("/")
        )
        paths.setdefault(path, {})[operation.method.lower()] = _describe(operation, schema_of, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1"},
        "paths": paths,
        "components": {"schemas": components},
    }


def _describe(
    operation: Operation, schema_of: Mapping[int, Any], components: Mapping[str, Any]
) -> dict[str, Any]:
    doc = (operation.endpoint.__doc__ or "").strip()
    content: dict[str, Any] = {media: {} for media in operation.media}
    if operation.answer is not None:
        content["application/json"] = {"schema": schema_of[id(operation.answer)]}
    described: dict[str, Any] = {
        "operationId": getattr(operation.endpoint, "__name__", operation.path),
        "summary": doc.splitlines()[0] if doc else "",
        "description": doc,
        "parameters": [
            *_path_parameters(operation.path),
            *_query_parameters(operation, schema_of, components),
        ],
        "responses": {
            str(operation.status): {"description": "done", **({"content": content} if content else {})}
        },
    }
    if operation.body is not None:
        schema = schema_of[id(operation.body)]
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    refusals: list[type[BackendError]] = [] if operation.body is None else [WrongMediaType, TooSlow]
    for error in (*operation.errors, *refusals):
        described["responses"][str(error.status)] = {
            "description": (error.__doc__ or "").strip().splitlines()[0],
            "content": {"application/problem+json": {"schema": schema_of_problem()}},
        }
    return described


def schema_of_problem() -> dict[str, str]:
    return {"$ref": "#/components/schemas/Problem"}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    found = []
    for part in path.split("/"):
        if part.startswith("{"):
            name, _, kind = part.strip("{}").partition(":")
            schema = {"type": "integer" if kind == "int" else "string"}
            found.append({"name": name, "in": "path", "required": True, "schema": schema})
    return found


def _query_parameters(
    operation: Operation, schema_of: Mapping[int, Any], components: Mapping[str, Any]
) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    name = schema_of[id(operation.query)]["$ref"].rsplit("/", 1)[-1]
    schema = components[name]
    required = schema.get("required", [])
    return [
        {"name": field_name, "in": "query", "required": field_name in required, "schema": field_schema}
        for field_name, field_schema in schema["properties"].items()
    ]
