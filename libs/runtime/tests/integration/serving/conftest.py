"""A server of two small parts."""

import errno
from contextlib import asynccontextmanager

import httpx
import pytest
import pytest_asyncio
from msgspec import Struct
from starlette.responses import StreamingResponse
from teleop_runtime.serving.app import Running, ServicePart, assemble
from teleop_runtime.serving.operations import Conversation, JsonResponse, Operation, read_body
from teleop_schema.errors import BadInput, NotFound, StorageUnavailable
from teleop_testing.backends.serving import serving
from teleop_testing.waiting import PATIENCE_S


class Thing(Struct, forbid_unknown_fields=True):
    """Something that can be changed."""

    name: str


async def get_thing(request):
    """One thing."""
    raise {
        "missing": NotFound("there is no such thing", field="thing_id", hint="look elsewhere"),
        "away": StorageUnavailable(),
        "refused": ConnectionRefusedError("database at 10.0.0.1 refused"),
        "broken": ZeroDivisionError("secret internals"),
        "forbidden": PermissionError(errno.EACCES, "secret internals"),
        "used_up": OSError(errno.EMFILE, "secret internals"),
    }[request.path_params["thing_id"]]


async def change_thing(request):
    """Change one thing."""
    return JsonResponse(await read_body(request, Thing))


async def tell_name(request):
    """The name that the address holds."""
    return JsonResponse(request.path_params["name"])


async def get_cell(request):
    """One cell."""
    return JsonResponse(request.path_params["row"])


async def break_off(_request):
    """Fail in the middle of the answer."""

    async def body():
        yield b"half of it"
        raise ZeroDivisionError

    return StreamingResponse(body())


async def echo(websocket):
    """Say what the parts have put into the state."""
    await websocket.accept()
    await websocket.send_text(f"{websocket.state.first} {websocket.state.second}")
    await websocket.close()


def part(name: str, checks=None, told=None, **more) -> ServicePart:
    """A part that puts its own name into the state."""

    @asynccontextmanager
    async def lifespan():
        yield Running(state={name: name}, checks=checks or {}, told=told or {})

    return ServicePart(name=name, lifespan=lifespan, **{"operations": [], **more})


@pytest.fixture
def ailments():
    """What the second part's check complains of."""
    return []


@pytest.fixture
def remarks():
    """What the second part wants a person to hear of."""
    return []


@pytest_asyncio.fixture
async def server(ailments, remarks):
    """Address of the server."""

    def complains(of):
        async def check():
            if of:
                raise RuntimeError(of[0])

        return check

    operations = [
        Operation("GET", "/things/{thing_id}", get_thing, "read", answer=Thing, errors=[NotFound]),
        Operation(
            "PATCH",
            "/things/{thing_id}",
            change_thing,
            "operate",
            body=Thing,
            answer=Thing,
            errors=[BadInput],
        ),
        Operation("GET", "/names/{name:path}", tell_name, "read", answer=str),
        Operation("GET", "/rows/{row:int}/cells/{name}", get_cell, "read", answer=str),
        Operation("GET", "/half", break_off, "read"),
    ]
    first = part("first", operations=operations, websockets=[Conversation("/echo", echo, "read")])
    second = part("second", {"second": complains(ailments)}, {"third": complains(remarks)})
    app = assemble("example", [first, second], exposure="local")
    async with serving(app) as address:
        yield address


@pytest_asyncio.fixture
async def http(server):
    """HTTP client of the server."""
    async with httpx.AsyncClient(base_url=f"http://{server}", timeout=PATIENCE_S) as client:
        yield client
