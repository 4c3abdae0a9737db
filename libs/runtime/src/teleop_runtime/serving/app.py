"""A server made of parts: each service is one part, the one-process default has all of them."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from teleop_schema.decoding import prepare_types
from teleop_schema.errors import BackendError, StorageUnavailable

from teleop_runtime.access.forward_auth import ForwardAuth
from teleop_runtime.access.rates import RateLimits
from teleop_runtime.access.roles import Exposure
from teleop_runtime.descriptors import Room, raise_limit
from teleop_runtime.logs import get_logger
from teleop_runtime.metrics import show_metrics
from teleop_runtime.proxies import Network
from teleop_runtime.serving import problems
from teleop_runtime.serving.graceful import ask_server_to_end, drain_before_exit, start_ends_when_asked
from teleop_runtime.serving.middleware.compression import Compression
from teleop_runtime.serving.middleware.early_answers import EarlyAnswers
from teleop_runtime.serving.middleware.forwarded import Forwarded
from teleop_runtime.serving.middleware.front_door import FrontDoor
from teleop_runtime.serving.middleware.vouching import Vouching
from teleop_runtime.serving.openapi.document import Described, describe
from teleop_runtime.serving.openapi.page import POLICY, page_of
from teleop_runtime.serving.operations import Answer, Conversation, JsonResponse, Operation
from teleop_runtime.serving.posture import Pages, Posture
from teleop_runtime.serving.starting import Start
from teleop_runtime.settings import ProcessSettings

log = get_logger(__name__)

# Kubernetes and proxies give up soon; including the network, this stays below 2 s.
CHECKED_WITHIN_S = 1.5
# Addresses that answer while the parts of the server wait to start; the page waits for them by itself.
WITHOUT_PARTS = {"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/"}
OF_PAGE = "/ui/"

Status = Annotated[
    dict[str, str],
    Meta(
        description="`status`, and what is wrong with each part that something is wrong with, by its name",
        examples=[{"status": "ready"}],
    ),
]
ALIVE = Answer(200, "It does", Status)
READY = Answer(200, "Everything is in order, or what is not keeps nothing from its work", Status)
METRICS = Answer(
    200, "Prometheus' text format; the stack's proxy does not publish it", media={"text/plain": str}
)
DOCUMENT = Answer(200, "OpenAPI 3.1", dict[str, Any])
PAGE = Answer(200, "HTML that fetches nothing", media={"text/html": str})
UNREADY = Answer(503, "Something is wrong: `status` is `unready`, and the rest says why", Status)
# What the addresses that every server has are listed with.
OWN = "server"
ABOUT_OWN = "Whether the server runs, what it measures, and this description"

Check = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Running:
    """A part that has started.

    state   values that its endpoints find in `request.state`
    checks  checks that must pass for the part to be ready, by name; each raises if it does not pass
    told    checks whose failure a person should know of although the part works, by name; each raises then
    silent  what it means, and what to do, if one of these checks does not end in time, by name
    drain   finishes the work in hand before the process stops
    """

    state: Mapping[str, Any]
    checks: Mapping[str, Check] = field(default_factory=dict)
    told: Mapping[str, Check] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)
    drain: Check | None = None


@dataclass(frozen=True)
class ServicePart:
    """One service: its addresses, its start and its end.

    for_pages   beginnings of addresses that chosen pages of other sites may read ("/hub/")
    described   what the description says of its addresses
    """

    name: str
    operations: Sequence[Operation]
    lifespan: Callable[[], AbstractAsyncContextManager[Running]]
    websockets: Sequence[Conversation] = ()
    for_pages: Sequence[str] = ()
    described: Described = field(default_factory=Described)


class Health:
    """The answer of `/healthz` and `/readyz`."""

    def __init__(self) -> None:
        self.checks: dict[str, Check] = {}
        self.told: dict[str, Check] = {}
        self.silent: dict[str, str] = {}
        self.draining = False
        self._asked: dict[str, asyncio.Task[str | None]] = {}

    async def healthz(self, _request: Request) -> Response:
        """Whether the process runs; it does, if there is an answer."""
        return JsonResponse({"status": "ok"})

    async def readyz(self, _request: Request) -> Response:
        """Whether the backend can do its work: 200 while every check passes, 503 with the reasons otherwise.

        Both come within 2 s, and with everything else that a person should know.
        """
        words = await self._reasons(self.checks | self.told)
        if self.draining:
            # Load balancers send nobody here any more, while what is here is finished.
            words = {"process": "draining", **words}
        unready = bool(words.keys() - self.told.keys())
        status = "unready" if unready else "ready"
        return JsonResponse({"status": status, **words}, status_code=503 if unready else 200)

    async def _reasons(self, checks: Mapping[str, Check]) -> dict[str, str]:
        """The reasons of the checks that do not pass, by name."""
        asked = {name: self._ask(name, check) for name, check in checks.items()}
        if asked:
            await asyncio.wait(asked.values(), timeout=CHECKED_WITHIN_S)
        reasons = {}
        for name, task in asked.items():
            reason = task.result() if task.done() else self._of_silence(name)
            if reason is not None:
                reasons[name] = reason
        return reasons

    def _of_silence(self, name: str) -> str:
        late = f"no answer within {CHECKED_WITHIN_S:g} s"
        return f"{self.silent[name]} ({late})" if name in self.silent else late

    def _ask(self, name: str, check: Check) -> "asyncio.Task[str | None]":
        """The running check; a check that is still running since the last time is not started again."""
        task = self._asked.get(name)
        if task is None or task.done():
            task = self._asked[name] = asyncio.create_task(_reason(check))
        return task


async def _reason(check: Check) -> str | None:
    """Why a check does not pass; None if it passes."""
    try:
        await check()
    except Exception as error:
        hint = error.hint if isinstance(error, BackendError) else None
        return f"{error}; {hint}" if hint else str(error) or type(error).__name__
    return None


class CannotStart(Exception):
    """A person has to change something before a service can start; `serve` ends with this message."""


def unusable(folder: str | Path, error: Exception, *, setting: str) -> CannotStart:
    """The error for a folder that can't be used because of `error`; `setting` is its environment variable."""
    reason = getattr(error, "strerror", None) or str(error)
    return CannotStart(
        f"cannot keep files in {folder}: {reason}; choose another folder ({setting}; in one process "
        "LEROBOT_BACKEND_BACKUP_DIR), or let this user write there"
    )


def assemble_for(settings: ProcessSettings, title: str, parts: Sequence[ServicePart]) -> Starlette:
    """`assemble`, for callers that these settings let in."""
    return assemble(
        title,
        parts,
        exposure=settings.exposure,
        trust_network=settings.trust_network,
        names=settings.known_as,
        open_metrics=settings.open_metrics,
        proxies=settings.trusted,
        pages=settings.readers,
        forward_auth=settings.vouching,
        room=Room(settings.connections, settings.connections_per_address, settings.trusted),
    )


def assemble(
    title: str,
    parts: Sequence[ServicePart],
    *,
    exposure: Exposure,
    trust_network: bool = False,
    names: Collection[str] = (),
    open_metrics: bool = False,
    proxies: Sequence[Network] = (),
    pages: Collection[str] = (),
    forward_auth: ForwardAuth | None = None,
    room: Room | None = None,
) -> Starlette:
    """The ASGI application of `parts`, with health, metrics, OpenAPI and error answers.

    trust_network  whether nobody who can connect needs a token
    names          by which it is known to callers without a token, besides those of this machine
    open_metrics   whether whoever connects directly may read the metrics without a token
    proxies        whose word counts about the address and the client of a request
    pages          origins of the pages of other sites that may read what parts have for pages
    forward_auth   what the proxies say of people; None: nothing that counts
    room           for connections; None: they are not counted
    """
    prepare_types()
    posture = Posture(exposure, trust_network, frozenset(names), open_metrics)
    health = Health()
    state: dict[str, Any] = {}
    handlers: dict[Any, Any] = {
        BackendError: problems.answer_backend_error,
        HTTPException: problems.answer_http_exception,
        ClientDisconnect: problems.answer_nobody,
    }
    app = Starlette(
        routes=_routes(title, parts, health),
        lifespan=partial(_lifespan, parts=parts, posture=posture, health=health, state=state),
        exception_handlers=handlers,
    )
    app.state.room = room
    app.router.default = _nowhere
    # `/files/` is served as `/files` is: few clients send a body again to where they are redirected.
    app.router.redirect_slashes = False
    beginnings = tuple(beginning for part in parts for beginning in part.for_pages)
    readers = Pages(frozenset(pages), beginnings)
    # What is added last sees a request first.
    app.add_middleware(Started, state=state)
    app.add_middleware(Compression)
    # Whoever uses their own machine need not be held off.
    limits = None if exposure == "local" else RateLimits()
    app.add_middleware(FrontDoor, posture=posture, pages=readers, limits=limits)
    app.add_middleware(EarlyAnswers)
    app.add_middleware(Forwarded, proxies=proxies)
    if forward_auth is not None:
        app.add_middleware(Vouching, proxies=proxies, forward_auth=forward_auth)
    return app


def _routes(title: str, parts: Sequence[ServicePart], health: Health) -> list[Route | WebSocketRoute]:
    operations = [operation for part in parts for operation in part.operations]
    conversations = [conversation for part in parts for conversation in part.websockets]
    described = Described(
        tags={OWN: ABOUT_OWN, **{tag: says for part in parts for tag, says in part.described.tags.items()}},
        names={name: kind for part in parts for name, kind in part.described.names.items()},
    )

    async def openapi(_request: Request) -> Response:
        """This document."""
        return JsonResponse(document)

    async def docs(_request: Request) -> Response:
        """This document as a page to read."""
        return HTMLResponse(page(), headers={"Content-Security-Policy": POLICY})

    own = [
        Operation("GET", "/healthz", health.healthz, needs="nothing", answers=[ALIVE], tag=OWN),
        Operation("GET", "/readyz", health.readyz, needs="nothing", answers=[READY, UNREADY], tag=OWN),
        Operation("GET", "/metrics", show_metrics, needs="metrics", answers=[METRICS], tag=OWN),
        Operation("GET", "/openapi.json", openapi, needs="nothing", answers=[DOCUMENT], tag=OWN),
        Operation("GET", "/docs", docs, needs="nothing", answers=[PAGE], tag=OWN),
    ]
    document = describe(title, [*own, *operations], conversations, described)

    @cache
    def page() -> str:
        # Not at the start: few processes are ever asked for it.
        return page_of(document)

    routes: list[Route | WebSocketRoute] = [
        *(operation.route() for operation in (*own, *operations)),
        *(conversation.route() for conversation in conversations),
    ]
    for route in routes:
        route.path_regex = _whole(route.path_regex)
    return routes


@asynccontextmanager
async def _lifespan(
    app: Starlette,
    *,
    parts: Sequence[ServicePart],
    posture: Posture,
    health: Health,
    state: dict[str, Any],
) -> AsyncIterator[None]:
    """Starts the parts, and ends them; `health` and `state` have what is theirs once they have started."""
    raise_limit()
    posture.tell()
    start = app.state.start = Start(_all_parts(parts, health, state), partial(_end_for, app))
    health.checks["start"] = start.check

    async def drain() -> None:
        health.draining = True
        for part in start.result or ():
            if part.drain is not None:
                await part.drain()

    try:
        with start_ends_when_asked():
            await start.heard()
        with drain_before_exit(drain):
            yield
    except CannotStart as error:
        app.state.cannot_start = str(error)
        raise
    except asyncio.CancelledError:
        app.state.cannot_start = "asked to stop before it started"
        raise
    finally:
        await start.end()


@asynccontextmanager
async def _all_parts(
    parts: Sequence[ServicePart], health: Health, state: dict[str, Any]
) -> AsyncIterator[list[Running]]:
    async with AsyncExitStack() as stack:
        running = [await stack.enter_async_context(part.lifespan()) for part in parts]
        for part in running:
            health.checks.update(part.checks)
            health.told.update(part.told)
            health.silent.update(part.silent)
            state.update(part.state)
        yield running


def _end_for(app: Starlette, error: BaseException) -> None:
    """End the server, which listens already, because a part can't start."""
    app.state.cannot_start = str(error)
    log.error("cannot start", error=str(error), exc_info=None if isinstance(error, CannotStart) else error)
    ask_server_to_end()


def _whole(address: re.Pattern[str]) -> re.Pattern[str]:
    """The address as Starlette compiled it, with or without a slash behind it. Starlette would let a line
    break at its end fall away, and with it make another name of what it names.

    Convertors of our own could not do that: Starlette puts its `$` behind them, and many addresses end in a
    fixed word.
    """
    return re.compile(address.pattern.removesuffix("$") + r"/?\Z", re.DOTALL)


class Started:
    """Gives requests the state of the parts; until these have started, answers with what they wait for.

    Health, metrics, the description and the page need no part.
    """

    def __init__(self, app: ASGIApp, state: Mapping[str, Any]) -> None:
        self.app = app
        self.state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            path: str = scope["path"]
            if path not in WITHOUT_PARTS and not path.startswith(OF_PAGE):
                try:
                    await scope["app"].state.start.check()
                except StorageUnavailable as error:
                    await _answer(error, scope, receive, send)
                    return
            scope.setdefault("state", {}).update(self.state)
        await self.app(scope, receive, send)


async def _answer(error: BackendError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await problems.refuse(WebSocket(scope, receive, send), error)
        return
    response = await problems.answer_backend_error(Request(scope), error)
    await response(scope, receive, send)


async def _nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer for an address that no route has. Starlette answers a WebSocket with a 403 and no reason."""
    if scope["type"] == "websocket":
        websocket = WebSocket(scope, receive, send)
        await problems.refuse(websocket, problems.no_websocket_at(websocket))
        return
    raise HTTPException(404)
