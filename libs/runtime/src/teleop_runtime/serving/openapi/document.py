"""The OpenAPI document of a server, made of the declarations of its operations."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from inspect import getdoc
from typing import Any

import msgspec
from teleop_schema.errors import (
    BackendError,
    Forbidden,
    HttpsNeeded,
    NotAllowed,
    NotFound,
    Overloaded,
    RateLimited,
    StorageUnavailable,
    TargetTooLong,
    TooSlow,
    Unauthorized,
    WrongMediaType,
)

from teleop_runtime.access.roles import roles_for
from teleop_runtime.access.sessions import PLAIN_NAME
from teleop_runtime.serving.openapi.schemas import Schemas, fields_of, without_null
from teleop_runtime.serving.operations import JSON, Answer, Conversation, Header, Operation
from teleop_runtime.serving.problems import Problem, as_problem

EXAMPLES = "#/components/examples/"
PROBLEM_JSON = "application/problem+json"
# Errors of every operation: of an address with a token in it, too.
ALWAYS: tuple[type[BackendError], ...] = (
    Unauthorized,
    Forbidden,
    HttpsNeeded,
    TargetTooLong,
    BackendError,
    StorageUnavailable,
    Overloaded,
)
BEARER, SESSION = "bearer", "session"
ABOUT = """
Every address of this backend. Clients can be generated from this document.

- **Errors** are problem documents (RFC 9457, `application/problem+json`). `code` names the error and never
  changes; `retryable` says whether the same request can succeed later; `field`, `limit` and `hint` say what
  was wrong and what to do. An address that does not exist is answered with 404, a method that it does not
  have with 405, an address or headers that are too long with 414 or 431.
- **Every answer** has `X-Request-Id`, by which the log of the backend names the request.
- **Times** are in RFC 3339 with their offset to UTC, or in microseconds since the Unix epoch if the name ends
  in `_us`. Other units, too, stand at the end of names: `_bytes`, `_hz`, `_ms`, `_s`.
- **Ranges** of frames hold the first and end before the end: frames `first` to `end - 1`, counted from 0.
- **Lists** come in pages: ask again with `cursor` set to `next_cursor` of the page before, until it is null.
- **Names in addresses** (`name`, `path`) may contain slashes, which may be sent as they are or as `%2F`.
- **HEAD** is answered wherever GET is.
- **Access**: by default, the backend answers its own machine only, and asks for no token. Where it trusts no
  network, every address but those of health and of this description needs a token, as
  `Authorization: Bearer <token>`. A token that is sent is always checked. Browsers of people who have signed
  in send a cookie instead (by https `__Host-lerobot_session`), which changes something only if a page of the
  backend asks for it.
""".strip()


@dataclass(frozen=True)
class Described:
    """What the description of a service says beyond its operations.

    tags   what the addresses below "/<tag>" are for, by tag
    names  msgspec types of the parts of addresses, by their names
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, Any] = field(default_factory=dict)


def describe(
    title: str, operations: Sequence[Operation], conversations: Sequence[Conversation], described: Described
) -> dict[str, Any]:
    """OpenAPI 3.1 document of the operations."""
    handshakes = {conversation.path: _handshake(conversation) for conversation in conversations}
    asked = [*operations, *handshakes.values()]
    forms = [kind for operation in asked for kind in operation.content.values()]
    schemas = Schemas(*_kinds(asked, conversations, described), forms)
    paths: dict[str, dict[str, Any]] = {}
    for operation in asked:
        told = _operation(operation, schemas, described)
        paths.setdefault(_address(operation.path), {})[operation.method.lower()] = told
    for conversation in conversations:
        messages = [schemas.of(kind) for kind in (*conversation.from_client, *conversation.from_server)]
        upgraded = paths[_address(conversation.path)]["get"]["responses"]["101"]
        upgraded["content"] = {JSON: {"schema": {"anyOf": messages} if messages else {}}}
    used = {_tag(operation) for operation in asked}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": "1",
            "description": ABOUT,
            "contact": {"name": "The authors of lerobot-backend"},
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The server that this document comes from"}],
        # No token is needed where the posture of the server lets everybody in.
        "security": [{}, {BEARER: []}, {SESSION: []}],
        "tags": [{"name": tag, "description": described.tags.get(tag, tag)} for tag in sorted(used)],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "examples": _examples(asked),
            "securitySchemes": {
                BEARER: {"type": "http", "scheme": "bearer", "bearerFormat": "lrb_…"},
                SESSION: {"type": "apiKey", "in": "cookie", "name": PLAIN_NAME},
            },
        },
    }


def _handshake(conversation: Conversation) -> Operation:
    """A WebSocket's address as the request that opens it."""
    return Operation(
        "GET",
        conversation.path,
        conversation.endpoint,  # type: ignore[arg-type]  # only its name and its text are looked at
        conversation.needs,
        query=conversation.query,
        headers=conversation.headers,
        answers=[Answer(101, "A WebSocket from here on, with these as its text messages in both directions")],
        errors=conversation.errors,
    )


def _kinds(
    operations: Iterable[Operation], conversations: Iterable[Conversation], described: Described
) -> tuple[list[Any], list[Any]]:
    """The types in what clients send, and in what the server sends."""
    read: list[Any] = [int, str, *described.names.values()]
    sent: list[Any] = [Problem]
    for operation in operations:
        read += [*operation.content.values(), *(header.kind for header in operation.headers)]
        read += [] if operation.body is None else [operation.body]
        for answer in _answers(operation):
            sent += [*answer.media.values(), *(header.kind for header in answer.headers)]
            sent += [] if answer.kind is None else [answer.kind]
    for conversation in conversations:
        read += conversation.from_client
        sent += conversation.from_server
    return read, sent


def _tag(operation: Operation) -> str:
    return operation.tag or operation.path.split("/")[1]


def _answers(operation: Operation) -> Sequence[Answer]:
    return operation.answers or [Answer(operation.status, kind=operation.answer)]


def _operation(operation: Operation, schemas: Schemas, described: Described) -> dict[str, Any]:
    summary, _, text = (getdoc(operation.endpoint) or "").partition("\n\n")
    parameters = [
        *_path_parameters(operation.path, schemas, described),
        *_query_parameters(operation),
        *(_header_parameter(header, schemas) for header in operation.headers),
    ]
    told: dict[str, Any] = {
        "tags": [_tag(operation)],
        "operationId": operation.name or operation.endpoint.__name__,
        "summary": " ".join(summary.split()),
        "description": text or summary,
    }
    if operation.needs == "nothing":
        told["security"] = []
    else:
        told["description"] += f"\n\nWhere tokens are needed: one of the role {roles_for(operation.needs)}."
    if parameters:
        told["parameters"] = parameters
    content = {media: {"schema": schemas.of(kind)} for media, kind in operation.content.items()}
    if operation.body is not None:
        content[JSON] = {"schema": schemas.of(operation.body), "example": operation.example}
    if content:
        told["requestBody"] = {"required": not operation.may_be_empty, "content": content}
    given = {str(answer.status): _answer(operation, answer, schemas) for answer in _answers(operation)}
    told["responses"] = dict(sorted((_refusals(operation) | given).items()))
    return told


def _answer(operation: Operation, answer: Answer, schemas: Schemas) -> dict[str, Any]:
    told: dict[str, Any] = {"description": answer.says or _phrase(answer)}
    if answer.headers:
        told["headers"] = {
            header.name: {
                "description": header.says,
                "required": header.required,
                "schema": schemas.of(header.kind),
            }
            for header in answer.headers
        }
    content = {media: {"schema": schemas.of(kind)} for media, kind in answer.media.items()}
    if answer.kind is not None:
        content[JSON] = {"schema": schemas.of(answer.kind)}
    if content and operation.method != "HEAD":
        told["content"] = content
    return told


def _phrase(answer: Answer) -> str:
    """What the type of the answer says about itself."""
    if isinstance(answer.kind, type) and issubclass(answer.kind, msgspec.Struct):
        return " ".join((getdoc(answer.kind) or "").partition("\n\n")[0].split())
    return HTTPStatus(answer.status).phrase


def _refusals(operation: Operation) -> dict[str, Any]:
    """All errors by their status; one that is declared hides none of the same status."""
    by_status: dict[int, dict[str, type[BackendError]]] = {}
    for error in _errors(operation):
        by_status.setdefault(error.status, {}).setdefault(error.code, error)
    return {str(status): _problems(operation, errors) for status, errors in sorted(by_status.items())}


def _errors(operation: Operation) -> list[type[BackendError]]:
    body = [WrongMediaType, TooSlow] if operation.body is not None or operation.content else []
    numbered = [NotFound] if ":int}" in operation.path else []
    access = [] if operation.needs == "nothing" else [NotAllowed, RateLimited]
    return [*operation.errors, *body, *numbered, *access, *ALWAYS]


def _problems(operation: Operation, errors: Mapping[str, type[BackendError]]) -> dict[str, Any]:
    first = {code: (getdoc(error) or "").partition("\n\n")[0] for code, error in errors.items()}
    told: dict[str, Any] = {
        "description": "\n".join(f"- `{code}`: {' '.join(text.split())}" for code, text in first.items())
    }
    if any(error.retry_after_s is not None for error in errors.values()):
        seconds = {"type": "integer", "format": "int64"}
        told["headers"] = {"Retry-After": {"description": "Seconds to wait", "schema": seconds}}
    if operation.method != "HEAD":
        examples = {code: {"$ref": EXAMPLES + code} for code in errors}
        told["content"] = {
            PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}
        }
    return told


def _examples(operations: Iterable[Operation]) -> dict[str, Any]:
    """Each error that any operation may answer with, as it looks, by its code."""
    errors: dict[str, type[BackendError]] = {}
    for operation in operations:
        for error in _errors(operation):
            errors.setdefault(error.code, error)
    return {code: _example(error) for code, error in sorted(errors.items())}


def _example(error: type[BackendError]) -> dict[str, Any]:
    blank = error.__new__(error)
    BackendError.__init__(blank)
    problem = msgspec.to_builtins(as_problem(blank, "0f1e2d3c4b5a69788796a5b4c3d2e1f0"))
    return {"summary": problem["detail"], "value": problem}


def _address(path: str) -> str:
    """A path in Starlette's form as OpenAPI writes it."""
    return re.sub(r":\w+}", "}", path)


def _path_parameters(path: str, schemas: Schemas, described: Described) -> list[dict[str, Any]]:
    told = []
    for part in path.split("/"):
        if part.startswith("{"):
            name, _, kind = part.strip("{}").partition(":")
            schema = schemas.of(described.names.get(name, int if kind == "int" else str))
            told.append(_parameter(name, "path", True, schema))
    return told


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    return [
        _parameter(name, "query", required, schema) for name, required, schema in fields_of(operation.query)
    ]


def _header_parameter(header: Header, schemas: Schemas) -> dict[str, Any]:
    schema = {**schemas.of(header.kind), "description": header.says}
    return _parameter(header.name, "header", header.required, schema)


def _parameter(name: str, place: str, required: bool, schema: Mapping[str, Any]) -> dict[str, Any]:
    """`schema` with the parameter's description and example, which stand beside it."""
    schema = without_null(dict(schema))
    told = {"name": name, "in": place, "required": required}
    if "description" in schema:
        told["description"] = schema.pop("description")
    if "examples" in schema:
        told["example"] = schema.pop("examples")[0]
    return {**told, "schema": schema}
