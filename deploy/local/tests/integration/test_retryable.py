"""Whether a retry can help: every error of every service says it, and says it to its client."""

import importlib
import pkgutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest
import pytest_asyncio
import teleop_backend
import teleop_dataset
import teleop_export
import teleop_runtime
import teleop_schema
import teleop_telemetry
import teleop_video_ingest
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket
from teleop_runtime.serving.app import Running, ServicePart, assemble
from teleop_runtime.serving.operations import Conversation, Operation
from teleop_runtime.serving.problems import as_message, refuse
from teleop_schema.errors import BackendError
from teleop_schema.messages import OLDEST_SUBPROTOCOL, SUBPROTOCOL
from teleop_telemetry.receiving.wire import close, subprotocol_of
from teleop_testing.backends.serving import serving
from teleop_testing.robots.lines import connect
from teleop_testing.waiting import PATIENCE_S
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

PACKAGES = (
    teleop_schema,
    teleop_dataset,
    teleop_runtime,
    teleop_telemetry,
    teleop_video_ingest,
    teleop_export,
    teleop_backend,
)
# Alembic alone imports these, and `python -m` these.
RUN_ONLY = ("migrations", "__main__")


def kinds() -> dict[str, type[BackendError]]:
    """Every class of errors, by its full name."""
    for package in PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not any(part in module.name for part in RUN_ONLY):
                importlib.import_module(module.name)

    def below(kind: type[BackendError]) -> Iterator[type[BackendError]]:
        yield kind
        for each in kind.__subclasses__():
            yield from below(each)

    packages = tuple(package.__name__ for package in PACKAGES)
    every = {f"{kind.__module__}.{kind.__name__}": kind for kind in below(BackendError)}
    return {name: kind for name, kind in every.items() if name.startswith(packages)}


KINDS = kinds()


def raised(name: str) -> BackendError:
    """An error of that class, of which nothing but the class is told."""
    kind = KINDS[name]
    error = kind.__new__(kind)
    BackendError.__init__(error, "as a test wants it")
    return error


async def over_http(request: Request) -> Response:
    """Raise the error that the address names."""
    raise raised(request.path_params["name"])


async def over_websocket(websocket: WebSocket) -> None:
    """Tell the error that the address names, as telemetry-service tells its own."""
    error = raised(websocket.path_params["name"])
    await websocket.accept(subprotocol=subprotocol_of(websocket))
    await close(websocket, error.close_code, last_words=[as_message(error, fatal=True)])


async def over_handshake(websocket: WebSocket) -> None:
    """Refuse the handshake with the error that the address names."""
    await refuse(websocket, raised(websocket.path_params["name"]))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def address() -> AsyncIterator[str]:
    """A server that answers with whatever error it is asked for."""

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[Running]:
        yield Running({})

    part = ServicePart(
        "errors",
        [Operation("GET", "/http/{name}", over_http, "read")],
        lifespan,
        websockets=[
            Conversation("/ws/{name}", over_websocket, "read"),
            Conversation("/handshake/{name}", over_handshake, "read"),
        ],
    )
    async with serving(assemble("errors", [part], exposure="local")) as found:
        yield found


def test_the_walk_reaches_every_service():
    """Classes of each package that has errors are looked at."""
    assert {name.split(".")[0] for name in KINDS} == {
        "teleop_schema",
        "teleop_dataset",
        "teleop_runtime",
        "teleop_telemetry",
        "teleop_video_ingest",
        "teleop_export",
    }


@pytest.mark.parametrize("name", KINDS)
def test_every_error_has_decided(name):
    """Each class says for itself whether a retry can help: none has it by accident from the one above."""
    assert isinstance(vars(KINDS[name]).get("retryable"), bool)


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_sent_is_what_was_decided(address):
    """A problem document, a refused handshake and a message over a WebSocket tell it, of every class."""
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as http:
        for name, kind in KINDS.items():
            answer = await http.get(f"/http/{name}")
            assert answer.headers["content-type"] == "application/problem+json"
            told = [answer.json()["retryable"], (await last_message(address, name, SUBPROTOCOL))["retryable"]]
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://{address}/handshake/{name}")
            told.append(msgspec.json.decode(refused.value.response.body)["retryable"])
            assert told == [kind.retryable] * 3, name


@pytest.mark.asyncio(loop_scope="module")
async def test_robots_of_an_older_release_hear_errors_that_they_understand(address):
    """They refuse fields that they do not know, so none is told to them; a plain client is told all."""
    name = "teleop_schema.errors.NoSpace"
    assert "retryable" not in await last_message(address, name, OLDEST_SUBPROTOCOL)
    assert (await last_message(address, name, None))["retryable"] is True


async def last_message(address: str, name: str, subprotocol: str | None) -> dict[str, object]:
    """What is told of an error to a robot that offers that subprotocol."""
    offered = None if subprotocol is None else [Subprotocol(subprotocol)]
    async with connect(f"ws://{address}/ws/{name}", subprotocols=offered) as connection:
        assert connection.subprotocol == subprotocol
        found: dict[str, object] = msgspec.json.decode(await connection.recv())
        return found
