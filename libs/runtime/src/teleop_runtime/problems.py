"""Errors as RFC 9457 problem documents, with a request id to find them in the logs."""

from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from teleop_schema.errors import BackendError, MethodNotAllowed, NotFound
from teleop_schema.messages import ErrorMessage

from teleop_runtime.logs import get_logger
from teleop_runtime.metrics import ERRORS

log = get_logger(__name__)


class Problem(msgspec.Struct, omit_defaults=True, kw_only=True):
    """An error as the client sees it.

    code   stable name of the error
    field  which part of the request was wrong
    limit  the limit that was crossed
    hint   what to do about it
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    limit: int | float | None = None
    hint: str | None = None
    request_id: str | None = None


def as_problem(error: BackendError, request_id: str | None = None) -> Problem:
    """The document that tells `error` over HTTP."""
    return Problem(
        type=f"urn:lerobot-backend:{error.code}",
        title=type(error).__name__,
        status=error.status,
        detail=error.detail,
        code=error.code,
        field=error.field,
        limit=error.limit,
        hint=error.hint,
        request_id=request_id,
    )


def as_message(error: BackendError, *, fatal: bool) -> ErrorMessage:
    """The message that tells `error` over a WebSocket."""
    return ErrorMessage(code=error.code, detail=error.detail, fatal=fatal, field=error.field, hint=error.hint)


async def answer_backend_error(request: Request, error: Exception) -> Response:
    """Handler of BackendError: the error's own status and facts."""
    assert isinstance(error, BackendError)  # noqa: S101
    return _answer(request, error)


async def answer_http_exception(request: Request, error: Exception) -> Response:
    """Handler of what Starlette itself refuses: unknown addresses, wrong methods."""
    assert isinstance(error, HTTPException)  # noqa: S101
    if error.status_code == 405:
        return _answer(request, MethodNotAllowed(f"{request.url.path} does not take {request.method}"))
    if error.status_code == 404:
        return _answer(request, NotFound(f"nothing lives at {request.url.path}", hint="see /openapi.json"))
    failure = BackendError(error.detail)
    failure.status = error.status_code
    return _answer(request, failure)


async def answer_surprise(request: Request, error: Exception) -> Response:
    """Handler of everything else: no internals to the client, all of them to the log."""
    log.error("request failed", path=request.url.path, exc_info=error)
    return _answer(request, BackendError("something went wrong in the backend; its log says what"))


def _answer(request: Request, error: BackendError) -> Response:
    ERRORS.labels(error.code).inc()
    headers: dict[str, Any] = {"Retry-After": "1"} if error.status == 503 else {}
    problem = as_problem(error, request.scope.get("request_id"))
    return Response(
        msgspec.json.encode(problem), error.status, headers, media_type="application/problem+json"
    )
