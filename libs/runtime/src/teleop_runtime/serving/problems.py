"""Errors as RFC 9457 problem documents, with a request id to find them in the logs."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.convertors import IntegerConvertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Match, Route, WebSocketRoute
from starlette.websockets import WebSocket
from teleop_schema.errors import BackendError, MethodNotAllowed, NotFound, UpgradeRequired
from teleop_schema.messages import ErrorMessage

from teleop_runtime.logs import get_logger
from teleop_runtime.metrics import ERRORS
from teleop_runtime.serving.middleware.forwarded import PREFIX
from teleop_runtime.trouble import trouble_of

log = get_logger(__name__)

# nginx's status for an answer that nobody waits for any more; only the metrics see it.
CLIENT_LEFT = 499
UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade"}
# nginx removes both headers, and speaks HTTP/1.0 to servers, unless its configuration says otherwise.
NGINX_UPGRADE = (
    'proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";'
)


class NoSuchAddress(NotFound):
    """Nothing is at this address."""

    # An admin can route requests elsewhere, or update a backend that is older than the address.
    retryable = True


class Problem(msgspec.Struct, omit_defaults=True, kw_only=True):
    """An error as the client sees it.

    type       URN of the error
    title      name of its kind
    status     HTTP status
    detail     what was wrong, in words
    code       stable name of the error
    retryable  true: the same request may succeed later, once time or a person has fixed the cause; false: it
               is refused however often it is sent
    field      which part of the request was wrong
    limit      the limit that was crossed
    hint       what to do about it
    request_id
               by which the backend's log names the request
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    field: str | None = None
    limit: int | float | None = None
    hint: str | None = None
    request_id: str | None = None


def as_problem(error: BackendError, request_id: str | None = None) -> Problem:
    """The document for `error` over HTTP."""
    return Problem(
        type=f"urn:lerobot-backend:{error.code}",
        title=type(error).__name__,
        status=error.status,
        detail=error.detail,
        code=error.code,
        retryable=error.retryable,
        field=error.field,
        limit=error.limit,
        hint=error.hint,
        request_id=request_id,
    )


def as_message(error: BackendError, *, fatal: bool) -> ErrorMessage:
    """The message for `error` over a WebSocket."""
    return ErrorMessage(
        code=error.code,
        detail=error.detail,
        fatal=fatal,
        retryable=error.retryable,
        field=error.field,
        hint=error.hint,
    )


def read_noted(problem: dict[str, Any] | None) -> Problem | None:
    """A problem document as a table keeps it; one of a release that did not note whether a retry can help may
    be of either kind: trying is the way to know."""
    return None if problem is None else msgspec.convert({"retryable": True, **problem}, Problem)


async def answer_backend_error(request: Request, error: Exception) -> Response:
    """Handler of BackendError: the error's own status and facts."""
    assert isinstance(error, BackendError)  # noqa: S101
    return _answer(request, error)


async def answer_http_exception(request: Request, error: Exception) -> Response:
    """Handler of Starlette's own refusals: unknown addresses, wrong methods."""
    assert isinstance(error, HTTPException)  # noqa: S101
    if error.status_code == 405:
        allowed = ", ".join(sorted(_allowed_methods(request)))
        refusal = MethodNotAllowed(
            f"{request.url.path} does not accept {request.method}", hint=f"allowed: {allowed}"
        )
        return _answer(request, refusal, {"Allow": allowed})
    if error.status_code == 404:
        if _is_for_websocket(request):
            return _answer(request, _upgrade_required(request), UPGRADE)
        return _answer(request, _not_found(request))
    failure = BackendError(error.detail)
    failure.status, failure.retryable = error.status_code, error.status_code >= 500
    return _answer(request, failure)


async def refuse(websocket: WebSocket, error: BackendError) -> None:
    """Answer a WebSocket handshake with an HTTP error instead of accepting it."""
    response = _answer(Request({**websocket.scope, "type": "http"}), error)
    await websocket.send_denial_response(response)


async def answer_nobody(_request: Request, _error: ClientDisconnect) -> Response:
    """Handler of a connection that ended, or was closed for what it sent, in the middle of a body."""
    return Response(status_code=CLIENT_LEFT)


async def answer_surprise(request: Request, error: Exception) -> Response:
    """Handler of all other errors: the client gets no internals, the log gets all of them."""
    if (trouble := trouble_of(error)) is not None:
        log.warning("database away", path=request.url.path, error=repr(error))
        return _answer(request, trouble)
    log.error("request failed", path=request.url.path, request_id=_request_id(request), exc_info=error)
    return _answer(request, as_backend_error(error))


def as_backend_error(error: Exception) -> BackendError:
    """What a client learns about an unforeseen error: its kind, but no internals."""
    return trouble_of(error) or BackendError("something went wrong in the backend; its log has the details")


def _answer(request: Request, error: BackendError, headers: Mapping[str, str] | None = None) -> Response:
    ERRORS.labels(error.code).inc()
    retry = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    asked = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    return Response(
        msgspec.json.encode(as_problem(error, _request_id(request))),
        error.status,
        {**retry, **asked, **(headers or {})},
        media_type="application/problem+json",
    )


def _request_id(request: Request) -> str | None:
    found: str | None = request.scope.get("request_id")
    return found


def no_websocket_at(connection: HTTPConnection) -> NotFound:
    """For a WebSocket's address that no route has."""
    routes = [route for route in connection.app.routes if isinstance(route, WebSocketRoute)]
    addresses = ", ".join(route.path_format for route in routes)
    hint = f"addresses for WebSocket are {addresses}" if addresses else "no address here is for WebSocket"
    return NoSuchAddress(f"nothing exists at {connection.url.path} for WebSocket", hint=hint)


def _is_for_websocket(request: Request) -> bool:
    return any(
        isinstance(route, WebSocketRoute) and route.path_regex.fullmatch(request.scope["path"])
        for route in request.app.routes
    )


def _upgrade_required(request: Request) -> UpgradeRequired:
    """For an HTTP request to a WebSocket's address: somebody who looks, or a handshake cut by a proxy."""
    if "sec-websocket-key" in request.headers:
        return UpgradeRequired(
            "this WebSocket handshake arrived without `Upgrade: websocket` and `Connection: Upgrade`: "
            "a proxy between the client and this server has removed them",
            hint=f"let the proxy pass them on; in nginx: {NGINX_UPGRADE}",
        )
    return UpgradeRequired(
        f"{request.url.path} is an address for WebSocket only", hint="connect with ws:// or wss://"
    )


def _not_found(request: Request) -> NotFound:
    """Names the part of the address that should be a number, if nothing else is wrong."""
    for route in request.app.routes:
        if not isinstance(route, Route):
            continue
        loosely = route.path_regex.pattern.replace(IntegerConvertor.regex, "[^/]+")
        found = re.fullmatch(loosely, request.scope["path"], re.DOTALL)
        for field, value in (found.groupdict() if found else {}).items():
            convertor = route.param_convertors[field]
            if isinstance(convertor, IntegerConvertor) and not re.fullmatch(convertor.regex, value):
                return NotFound(f"{field} must be a whole number, not {value[:100]!r}", field=field)
    hint = "see /openapi.json"
    prefix = request.scope.get(PREFIX)
    if prefix and request.url.path.startswith(f"{prefix}/"):
        hint = f"let the proxy remove {prefix} from the address; in nginx: a slash at the end of proxy_pass"
    return NoSuchAddress(f"nothing exists at {request.url.path}", hint=hint)


def _allowed_methods(request: Request) -> set[str]:
    """Methods of the request's address; not those of a wider one, as `/a/{name:path}` is of `/a/b/parts`."""
    routes = [
        route
        for route in request.app.routes
        if isinstance(route, Route) and route.matches(request.scope)[0] != Match.NONE
    ]
    return {method for route in routes if route.path == routes[0].path for method in route.methods or ()}
