"""What a server's connections refuse before a request is looked at, and what they tell of the other end."""

import asyncio
import json
from contextlib import asynccontextmanager, contextmanager

import pytest
import pytest_asyncio
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket, WebSocketDisconnect
from teleop_runtime.descriptors import Room
from teleop_runtime.serving import connection
from teleop_runtime.serving.app import Running, ServicePart, assemble
from teleop_runtime.serving.connection import MAX_HEAD_BYTES, MAX_HEADERS, MAX_TARGET_BYTES, peer_of
from teleop_runtime.serving.operations import Conversation, Operation
from teleop_runtime.serving.problems import refuse
from teleop_runtime.serving.serve import SERVER_OPTIONS
from teleop_schema.errors import StorageUnavailable
from teleop_testing.backends.serving import serving
from teleop_testing.robots.lines import connect
from teleop_testing.waiting import PATIENCE_S, until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Opcode

KOREAN = "%EC%A7%91"


class Listener:
    """Takes what comes, and notes how its connections ended."""

    def __init__(self, *, patient: bool) -> None:
        self.patient = patient
        self.heard = []
        self.peers = []
        self.codes = []

    async def listen(self, websocket) -> None:
        await websocket.accept()
        self.peers.append(peer_of(websocket))
        self.peers[-1].patient = self.patient
        try:
            while True:
                self.heard.append(await websocket.receive_text())
        except WebSocketDisconnect as gone:
            self.codes.append(gone.code)


@pytest.fixture
def listener(request):
    return Listener(patient=getattr(request, "param", False))


@pytest_asyncio.fixture
async def server(listener):
    """Address of a server that listens at /listen, and tells the target of a request at /names/…"""

    async def tell(request: Request):
        """The length of what the address holds."""
        return PlainTextResponse(str(len(request.path_params["name"]) + len(request.url.query)))

    @asynccontextmanager
    async def lifespan():
        yield Running(state={})

    async def decline(websocket: WebSocket) -> None:
        await refuse(websocket, StorageUnavailable("this process is stopping"))

    part = ServicePart(
        name="part",
        lifespan=lifespan,
        operations=[Operation("GET", "/names/{name:path}", tell, "read")],
        websockets=[
            Conversation("/listen", listener.listen, "read"),
            Conversation("/refused", decline, "read"),
        ],
    )
    async with serving(assemble("example", [part], exposure="local")) as address:
        yield address


async def ask(address: str, *lines: str) -> tuple[bytes, bytes]:
    """Head and body of the answer to a request made by hand, read to the end of the connection."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    async with asyncio.timeout(PATIENCE_S):
        writer.write("\r\n".join([*lines, "", ""]).encode())
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


UPGRADE = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="


def target_of(size: int, beginning: str) -> str:
    """An address of `size` bytes, filled up with Korean as a browser writes it."""
    letters, rest = divmod(size - len(beginning), len(KOREAN))
    return beginning + letters * KOREAN + rest * "x"


@pytest.mark.parametrize("beginning", ["/names/", "/names/a?b=", "/nowhere/"])
@pytest.mark.parametrize("size", [MAX_TARGET_BYTES + 1, 300_000])
async def test_target_too_long(server, beginning, size):
    """A request whose address is too long is answered 414 before anything looks at it, and the line ends."""
    target = target_of(size, beginning)
    head, body = await ask(server, f"GET {target} HTTP/1.1", f"Host: {server}")
    assert head.startswith(b"HTTP/1.1 414 ")
    problem = json.loads(body)
    assert (problem["code"], problem["limit"]) == ("target_too_long", MAX_TARGET_BYTES)


async def test_longest_target(server):
    """One that just fits is served."""
    target = target_of(MAX_TARGET_BYTES, "/names/")
    head, _ = await ask(server, f"GET {target} HTTP/1.1", f"Host: {server}", "Connection: close")
    assert head.startswith(b"HTTP/1.1 200 ")


async def test_refused_handshake_is_no_fault_in_the_log(server, caplog):
    """An endpoint that refuses over HTTP, as each does while its process ends, has answered."""
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://{server}/refused")
    assert refused.value.response.status_code == 503
    assert "stopping" in (refused.value.response.body or b"").decode()
    assert [record.getMessage() for record in caplog.records if record.name.startswith("uvicorn")] == []


async def test_handshake_with_a_target_too_long(server, listener):
    """A WebSocket handshake is answered likewise, and does not hang; the longest that fits is taken."""
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://{server}" + target_of(MAX_TARGET_BYTES + 1, "/listen?task="))
    assert refused.value.response.status_code == 414
    assert json.loads(refused.value.response.body)["code"] == "target_too_long"
    async with connect(f"ws://{server}" + target_of(MAX_TARGET_BYTES, "/listen?task=")):
        await until(lambda: listener.peers)


@pytest.mark.parametrize(
    "headers", [[f"X-Long: {'x' * 9000}"], [f"X-{number}: x" for number in range(200)]], ids=["long", "many"]
)
async def test_handshake_with_headers_too_large(server, headers):
    """So are headers that the WebSocket side does not take."""
    head, body = await ask(server, "GET /listen HTTP/1.1", f"Host: {server}", *UPGRADE, KEY, *headers)
    assert head.startswith(b"HTTP/1.1 431 ")
    assert json.loads(body)["code"] == "headers_too_large"


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setitem(SERVER_OPTIONS, "ws_ping_interval", 0.02)
    monkeypatch.setitem(SERVER_OPTIONS, "ws_ping_timeout", 0.2)


@contextmanager
def deaf(connection):
    """A client answers no pings meanwhile, as one whose queue of unread messages is full."""
    theirs = connection.protocol.recv_frame
    unheard = []

    def receive(frame) -> None:
        (unheard.append if frame.opcode is Opcode.PING else theirs)(frame)

    connection.protocol.recv_frame = receive
    yield
    connection.protocol.recv_frame = theirs
    for frame in unheard:
        theirs(frame)


async def test_silence_ends_a_line(impatient, server, listener):
    """Who answers no ping and says nothing is gone; the endpoint is told that the line was cut."""
    async with connect(f"ws://{server}/listen") as connection:
        with deaf(connection), pytest.raises(ConnectionClosed):
            await connection.recv()
    assert await until(lambda: listener.codes) == [1006]


async def test_whatever_arrives_is_a_sign_of_life(impatient, server, listener):
    """Who answers no ping but sends stays, is known not to read, and is known to read again later."""
    async with connect(f"ws://{server}/listen") as connection:
        await until(lambda: listener.peers)
        [peer] = listener.peers
        woken = asyncio.Event()
        peer.on_reading = woken.set
        with deaf(connection):
            while peer.reads or len(listener.heard) < 50:
                await connection.send("here")
                await asyncio.sleep(0.01)
            assert not listener.codes
        await connection.send("reading again")
        async with asyncio.timeout(PATIENCE_S):
            await woken.wait()
        assert peer.reads


@pytest.mark.parametrize("listener", [True], indirect=True)
async def test_patience(impatient, server, listener):
    """An endpoint may leave it to TCP whether somebody is there who neither reads nor says anything."""
    async with connect(f"ws://{server}/listen") as connection:
        with deaf(connection):
            await until(lambda: listener.peers and not listener.peers[0].reads)
            await connection.send("still here")
            assert await until(lambda: listener.heard) == ["still here"]
    assert await until(lambda: listener.codes) == [1000]


async def test_ends_are_told_apart(server, listener):
    """An orderly close with and without a code, and a line that was cut, are three things."""
    async with connect(f"ws://{server}/listen") as connection:
        await connection.close(1001)
    await until(lambda: listener.codes == [1001])
    head = ["GET /listen HTTP/1.1", f"Host: {server}", *UPGRADE, KEY, "", ""]
    host, port = server.split(":")
    for last_words in (b"\x88\x80\0\0\0\0", b""):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write("\r\n".join(head).encode())
        await until(lambda: len(listener.peers) > len(listener.codes))
        writer.write(last_words)
        await writer.drain()
        writer.close()
        seen = len(listener.codes)
        await until(lambda: len(listener.codes) > seen)  # noqa: B023
    assert listener.codes == [1001, 1005, 1006]


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (b"", []),
        (b"GET /names/a HTTP/1.1\r\nHost: local", [b"408"]),
        (b"GET /names/a HTTP/1.1\r\nHost: localhost\r\n\r\nGET /nam", [b"200", b"408"]),
    ],
    ids=["nothing", "half", "half of the second"],
)
async def test_a_head_that_does_not_come_is_not_waited_for(server, monkeypatch, sent, statuses):
    """Its connection ends, with an answer if a request had begun."""
    monkeypatch.setattr(connection, "HEAD_WITHIN_S", 0.3)
    host, port = server.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    async with asyncio.timeout(PATIENCE_S):
        told = await reader.read()
    writer.close()
    assert [each[:3] for each in told.split(b"HTTP/1.1 ")[1:]] == statuses


LARGE = b"x" * (MAX_HEAD_BYTES + 1)


@pytest.mark.parametrize(
    "head",
    [
        # More than one read of the server takes.
        b"X: " + LARGE * 6,
        b"X: " + LARGE + b"\r\n\r\n",
        b"X: 1\r\n" * (MAX_HEADERS + 1) + b"\r\n",
        b"".join(b"X%d: %s\r\n" % (number, LARGE[:8000]) for number in range(9)) + b"\r\n",
    ],
    ids=["one that does not end", "one", "too many", "several"],
)
async def test_a_head_that_is_too_large_is_refused(server, head):
    """However it comes; what follows is not kept."""
    host, port = server.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /names/a HTTP/1.1\r\nHost: localhost\r\n")
    # In pieces, as it arrives over a network.
    for at in range(0, len(head), 1000):
        writer.write(head[at : at + 1000])
        await writer.drain()
        await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        told = await reader.read()
    writer.close()
    assert told.startswith(b"HTTP/1.1 431 ")
    assert json.loads(told.partition(b"\r\n\r\n")[2])["code"] == "headers_too_large"


@asynccontextmanager
async def nothing():
    """A part that needs nothing."""
    yield Running(state={})


async def test_connections_are_counted(listener):
    """Beyond the limit of one address they are refused; whoever ends one, HTTP or WebSocket, makes room."""
    part = ServicePart("example", [], nothing, [Conversation("/listen", listener.listen, "read")])
    room = Room(100, 3)
    async with serving(assemble("example", [part], exposure="local", room=room)) as address:
        host, port = address.split(":")
        _, silent = await asyncio.open_connection(host, int(port))
        async with connect(f"ws://{address}/listen"), connect(f"ws://{address}/listen"):
            reader, writer = await asyncio.open_connection(host, int(port))
            async with asyncio.timeout(PATIENCE_S):
                told = await reader.read()
            writer.close()
            assert told.startswith(b"HTTP/1.1 429 ")
            assert json.loads(told.partition(b"\r\n\r\n")[2])["code"] == "too_many_connections"
        silent.close()
        for _ in range(2):
            await until(lambda: not room._by_address)
            async with connect(f"ws://{address}/listen"), connect(f"ws://{address}/listen"):
                pass
