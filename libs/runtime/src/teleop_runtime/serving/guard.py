"""Checks who calls, once for each request and each WebSocket, before the endpoint runs.

A token that is shown is always checked, whoever else would be let in without one.
"""

import asyncio
import contextlib
import time
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Hashable,
    Mapping,
)
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from teleop_schema.errors import (
    BackendError,
    RateLimited,
    SessionNotFound,
    StorageUnavailable,
    Unauthorized,
)

from teleop_runtime.access.principal import THE_NETWORK, Principal
from teleop_runtime.access.rates import RateLimits, counted_as
from teleop_runtime.access.roles import AUDITED, Need
from teleop_runtime.access.sessions import hash_of_secret
from teleop_runtime.access.tokens import hash_of
from teleop_runtime.logs import get_logger, holds_token
from teleop_runtime.metrics import REQUESTS_LIMITED
from teleop_runtime.serving.bodies import STILL_ADMITTED
from teleop_runtime.serving.identity import session_shown, sessions_of, signed_in
from teleop_runtime.serving.posture import SHOW, Posture
from teleop_runtime.serving.problems import as_backend_error, as_message, refuse
from teleop_runtime.serving.validity import SocketEndpoint, events_while_valid, while_valid
from teleop_runtime.trouble import trouble_of

log = get_logger(__name__)

READING = ("GET", "HEAD")
# Where browsers, which can't set headers, show a token to a WebSocket: one more subprotocol that they offer.
OFFERED = "bearer."
# Answers that last as long as a connection does.
EVENTS = "text/event-stream"
# Parts of addresses that stand for somebody's data. The parts of a server that have such addresses know whose
# it is: `bound_<name>`, a Bound, in the state.
BOUND = ("session_id", "video_id", "upload_id", "export_id")
# How often to look whether who sends a long body, or reads a long answer, is still let in.
LOOK_AGAIN_S = 2.0
ENDED = "the token was revoked, has expired, or is for fewer robots now"
# For the last words to a client that may not be reading any more.
FAREWELL_TIMEOUT_S = 2.0

type HttpEndpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Bound:
    """Whose data a part of an address stands for.

    robots_of  the robots of what has that number; none if nothing has it
    lacking    what is said where nothing has it
    """

    robots_of: Callable[[Any], Awaitable[Collection[str]]]
    lacking: Callable[[Any], BackendError]


class Tokens(Protocol):
    """What is known about tokens; in the state of a server as `tokens`."""

    async def find(self, token: str, key: bytes) -> Principal:
        """Whose token, with this hash, it is; raises Unauthorized."""

    async def ended(self, principal: Principal) -> None:
        """Return once its token is revoked or expired, or for fewer robots."""

    async def robots_of_sessions(self, session_ids: Collection[int]) -> Mapping[int, Collection[str]]:
        """The robot of each of the sessions that exists, or has been erased."""

    async def note(self, principal: Principal, address: str | None, action: str, subject: str) -> None:
        """Keep what was done."""


def check_address(scope: Scope) -> None:
    """Raise Unauthorized if the address holds a token: proxies, browsers and shells keep addresses."""
    query: bytes = scope.get("query_string", b"")
    # Unquoted, as a token with an escaped underscore is the same token.
    if holds_token(scope["path"]) or (query and holds_token(unquote(query.decode("latin-1")))):
        raise Unauthorized(
            "a token must not be a part of an address, because addresses are kept in many places",
            hint=f"revoke this token, and make another one; {SHOW}",
        )


def shown_token(connection: HTTPConnection) -> str | None:
    """The token that the client shows, "" if it shows an empty one; None: it shows none.

    Raises Unauthorized if it shows several. Credentials of other schemes are for proxies on the way.
    """
    shown = []
    for header in connection.headers.getlist("authorization"):
        scheme, _, credentials = header.strip().partition(" ")
        # An empty header comes from a script whose variable is not set: it must not be let in as nobody.
        if scheme.lower() in ("bearer", ""):
            shown.append(credentials.strip())
    if connection.scope["type"] == "websocket":
        offered = connection.scope["subprotocols"]
        shown += [each.removeprefix(OFFERED) for each in offered if each.startswith(OFFERED)]
    if len(shown) > 1:
        raise Unauthorized("more than one token is shown", hint=SHOW)
    return shown[0] if shown else None


def caller_of(connection: HTTPConnection) -> Principal:
    """Who calls, for endpoints that find the robot, or a further need, in the query or the body."""
    found: Principal = connection.state.principal
    return found


def counted_caller(connection: HTTPConnection) -> Hashable:
    """As whom a caller counts where callers share something."""
    return _counted_as(connection, caller_of(connection))


async def check_sessions(connection: HTTPConnection, session_ids: Collection[int]) -> None:
    """Raise SessionNotFound, for a caller who may touch the data of some robots only, if some of the sessions
    are not theirs or do not exist, which are not told apart."""
    caller = caller_of(connection)
    if caller.robot_ids is not None:
        robots = await _tokens(connection).robots_of_sessions(session_ids)
        lacking = [each for each in session_ids if not caller.may_touch(robots.get(each, ()))]
        if lacking:
            raise SessionNotFound.of(*lacking, field="session_ids")


async def admit(connection: HTTPConnection, needs: Need, own_check: bool) -> Principal:
    """Who calls; raises Unauthorized or NotAllowed for whoever may not use this address, and says of what
    is of a robot that is not for them that it does not exist.

    own_check  whether the endpoint checks by itself of which robot it is about
    """
    try:
        caller = await _identify_few(connection, needs)
        caller.check_need(needs)
        if caller.robot_ids is not None:
            await _check_robots(connection, caller, own_check)
    except BackendError as error:
        # Refusals by a limit have a line of their own, and not one for each.
        if error.status in (401, 403):
            address = connection.client.host if connection.client else None
            path = connection.scope["path"]
            log.warning("access refused", address=address, path=path, code=error.code, reason=error.detail)
        raise
    connection.state.principal = caller
    return caller


async def _identify_few(connection: HTTPConnection, needs: Need) -> Principal:
    """Who calls; raises RateLimited if there are too many requests of whoever it is.

    What robots send is not counted: one that catches up sends as fast as the server takes it, and what it may
    have open, and store, is limited.
    """
    limits: RateLimits | None = getattr(connection.state, "rate_limits", None)
    if limits is None:
        return await _identify(connection, needs, _shown(connection))
    now_s, address = time.monotonic(), counted_as(connection.client.host if connection.client else "")
    by = "nobody known"
    try:
        shown = _shown(connection)
        if shown.key is not None:
            # Before the database is asked, so that guessing costs it nothing.
            limits.check_shown(shown.key, address, now_s)
        try:
            caller = await _identify(connection, needs, shown)
        except Unauthorized:
            limits.count_stranger(address, now_s)
            raise
        # Whoever was let in once is not held off by the guesses of others from the same address.
        if shown.key is not None and _can_end(caller):
            limits.note_known(shown.key)
        if needs != "send":
            by = caller.name
            limits.count(_counted_as(connection, caller), now_s)
    except RateLimited as error:
        REQUESTS_LIMITED.inc()
        if limits.is_news(now_s):
            log.warning("requests are limited", by=by, address=address, reason=error.detail)
        raise
    return caller


def _counted_as(connection: HTTPConnection, caller: Principal) -> Hashable:
    address = counted_as(connection.client.host if connection.client else "")
    return address if caller.how == "network" else (caller.role, caller.name)


class _Shown(NamedTuple):
    """What a request shows to be let in.

    token  None: none
    key    hash of the token, or of a session's id; None: it shows neither, or an empty token
    """

    token: str | None
    key: bytes | None


def _shown(connection: HTTPConnection) -> _Shown:
    if (token := shown_token(connection)) is not None:
        return _Shown(token, hash_of(token) if token else None)
    secret = session_shown(connection)
    return _Shown(None, None if secret is None else hash_of_secret(secret))


async def _identify(connection: HTTPConnection, needs: Need, shown: _Shown) -> Principal:
    if shown.token is not None:
        return await _tokens(connection).find(shown.token, shown.key or b"")
    if (known := await signed_in(connection, shown.key)) is not None:
        return known
    posture: Posture = connection.state.posture
    unknown = posture.unknown_caller(connection.scope, needs)
    if needs == "grant" and unknown is THE_NETWORK:
        raise Unauthorized(
            "tokens are made and revoked with a token of the role admin, even where the network is trusted",
            hint="make the first one on the server itself: tokens add <name> --role admin",
        )
    return unknown


async def _check_robots(connection: HTTPConnection, caller: Principal, own_check: bool) -> None:
    named = connection.path_params
    if "robot_id" in named:
        caller.check_robot(named["robot_id"])
        return
    name = next((name for name in BOUND if name in named), None)
    if name is not None:
        bound: Bound = getattr(connection.state, f"bound_{name}")
        robots = await bound.robots_of(named[name])
        if not caller.may_touch(robots):
            if robots:
                path = connection.scope["path"]
                log.warning("access refused", by=caller.name, path=path, reason="another robot's data")
            # Numbers can be tried one after the other: the answer is the same where nothing has it.
            raise bound.lacking(named[name])
    elif not own_check:
        caller.check_all_robots()


def _tokens(connection: HTTPConnection) -> Tokens:
    found: Tokens | None = getattr(connection.state, "tokens", None)
    if found is None:
        raise StorageUnavailable("tokens can't be checked before the backend has started")
    return found


def guard(endpoint: HttpEndpoint, needs: Need, own_check: bool) -> HttpEndpoint:
    """The endpoint, for those who may use it; what changes something is noted in the table `audit`."""
    if needs == "nothing":
        return endpoint

    @wraps(endpoint)
    async def answer(request: Request) -> Response:
        caller = await admit(request, needs, own_check)
        still = _StillAdmitted(request, needs, caller)
        if _can_end(caller):
            setattr(request.state, STILL_ADMITTED, still.check)
        response = await endpoint(request)
        # After the endpoint: what was refused, or failed, has changed nothing.
        if needs in AUDITED and request.method not in READING and response.status_code < 400:
            subject = getattr(request.state, "subject", request.url.path)
            await note(request, caller, endpoint.__name__, subject)
        if not isinstance(response, StreamingResponse) or not _can_end(caller):
            return response
        if response.media_type != EVENTS:
            return _WhileAdmitted(response, still)
        ended = partial(_ended, request, caller)
        response.body_iterator = events_while_valid(caller, ended, response.body_iterator)
        return response

    return answer


async def note(request: Request, caller: Principal, action: str, subject: str) -> None:
    """Keep what was done; it was, so the caller does not hear it if that fails."""
    tokens: Tokens | None = getattr(request.state, "tokens", None)
    address = request.client.host if request.client else None
    log.info("changed", by=caller.name, token_prefix=caller.prefix, action=action, subject=subject)
    if tokens is not None:
        try:
            await tokens.note(caller, address, action, subject)
        except Exception as error:
            log.error("a change could not be noted", action=action, subject=subject, error=repr(error))


def guard_socket(endpoint: SocketEndpoint, needs: Need) -> SocketEndpoint:
    """The endpoint, for those who may use it, and only as long as their token or session is valid."""

    @wraps(endpoint)
    async def converse(websocket: WebSocket) -> None:
        try:
            caller = await admit(websocket, needs, own_check=False)
        except Exception as error:
            if not isinstance(error, BackendError) and trouble_of(error) is None:
                log.error("a token could not be checked", exc_info=error)
            known = error if isinstance(error, BackendError) else as_backend_error(error)
            await refuse(websocket, known)
            return
        if not _can_end(caller):
            await endpoint(websocket)
        elif await while_valid(websocket, endpoint, caller, partial(_ended, websocket, caller)):
            await _dismiss(websocket, caller)

    return converse


class _StillAdmitted:
    """Looks now and then whether what has let a caller in is still valid."""

    def __init__(self, connection: HTTPConnection, needs: Need, caller: Principal) -> None:
        self._connection = connection
        self._needs = needs
        self._caller = caller
        self._looked_at_s = time.monotonic()

    async def check(self) -> None:
        """Raise Unauthorized if it is not. What can't be asked at the moment is not taken for ended."""
        if time.monotonic() - self._looked_at_s < LOOK_AGAIN_S:
            return
        try:
            found = await _identify(self._connection, self._needs, _shown(self._connection))
        except Exception as error:
            if not isinstance(error, StorageUnavailable) and trouble_of(error) is None:
                raise
        else:
            if not self._caller.keeps(found.robot_ids):
                raise Unauthorized(ENDED)
        self._looked_at_s = time.monotonic()


class _WhileAdmitted(Response):
    """An answer, which is cut off once what has let its caller in is not valid any more."""

    def __init__(self, answer: Response, still: _StillAdmitted) -> None:
        self._answer = answer
        self._still = still

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_checked(message: Message) -> None:
            # The last part goes in any case: a check in front of it could cut a whole answer.
            if message.get("more_body"):
                await self._still.check()
            await send(message)

        await self._answer(scope, receive, send_checked)


def _can_end(caller: Principal) -> bool:
    """Whether it was let in by what can be revoked."""
    return caller.token_id is not None or caller.session_id is not None


async def _ended(connection: HTTPConnection, caller: Principal) -> None:
    """Return once what let the caller in has ended."""
    known = _tokens(connection) if caller.token_id is not None else sessions_of(connection)
    await known.ended(caller)


async def _dismiss(websocket: WebSocket, caller: Principal) -> None:
    """Tell a caller that is not let in any more, and close."""
    if caller.token_id is not None:
        error = Unauthorized(ENDED, hint="let the robot join again")
    else:
        error = Unauthorized("the session has ended", hint="sign in again")
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
        async with asyncio.timeout(FAREWELL_TIMEOUT_S):
            await websocket.send_text(msgspec.json.encode(as_message(error, fatal=True)).decode())
            await websocket.close(error.close_code, error.detail)
