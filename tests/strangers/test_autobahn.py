"""Autobahn's test suite for WebSocket servers, 247 cases of framing, UTF-8, fragments and closing.

It needs Python 2.7, which no supported system has any more, so it runs where somebody has installed it:
`python2.7 -m pip install autobahntestsuite`, with its `wstest` on the PATH.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect
from teleop_runtime.serving.app import Running, ServicePart, assemble
from teleop_runtime.serving.operations import Conversation
from teleop_testing.backends.reverse_proxies import caddy_without_tls, needs_caddy
from teleop_testing.backends.serving import serving

WSTEST = shutil.which("wstest")
pytestmark = pytest.mark.skipif(WSTEST is None, reason="wstest is missing, which needs Python 2.7")
# Limits and speed with messages of up to 16 MiB, of which no robot may send half (9); compression, which the
# server does not offer (12, 13).
WITHOUT = ["9.*", "12.*", "13.*"]
CASES = 247
# A close between the fragments of a message: `websockets` answers 1002, where the suite wants 1000.
OF_THE_LIBRARY = {"7.1.5"}
FINE = ("OK", "NON-STRICT", "INFORMATIONAL")


async def echo(websocket: WebSocket) -> None:
    """Says what it hears."""
    await websocket.accept()
    try:
        while (message := await websocket.receive())["type"] == "websocket.receive":
            await websocket.send({**message, "type": "websocket.send"})
    except WebSocketDisconnect:
        return


@asynccontextmanager
async def lifespan() -> AsyncIterator[Running]:
    yield Running(state={})


@pytest.fixture
async def server() -> AsyncIterator[str]:
    """The server that all services have."""
    part = ServicePart(
        name="part", lifespan=lifespan, operations=[], websockets=[Conversation("/echo", echo, "read")]
    )
    async with serving(assemble("example", [part], exposure="lab", trust_network=True)) as address:
        yield address


async def test_the_server(server, tmp_path):
    assert await failures(server, tmp_path) == OF_THE_LIBRARY


@needs_caddy
async def test_through_the_proxy(server, tmp_path):
    async with caddy_without_tls(tmp_path, f"reverse_proxy {server}") as port:
        assert await failures(f"127.0.0.1:{port}", tmp_path) == OF_THE_LIBRARY


async def failures(address: str, folder: Path) -> set[str]:
    """The cases in which the server does wrong."""
    specification = {"outdir": str(folder), "servers": [{"agent": "server", "url": f"ws://{address}/echo"}]}
    specification |= {"cases": ["*"], "exclude-cases": WITHOUT, "exclude-agent-cases": {}}
    (folder / "specification.json").write_text(json.dumps(specification))
    words = ("-m", "fuzzingclient", "-s", str(folder / "specification.json"))
    suite = await asyncio.create_subprocess_exec(str(WSTEST), *words, stdout=asyncio.subprocess.DEVNULL)
    assert await suite.wait() == 0
    [cases] = json.loads((folder / "index.json").read_text()).values()
    assert len(cases) == CASES
    return {
        name
        for name, case in cases.items()
        if case["behavior"] not in FINE or case["behaviorClose"] not in FINE
    }
