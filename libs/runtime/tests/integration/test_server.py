"""A server of two small parts, over real sockets."""

import asyncio
import errno
import json
import re
from contextlib import asynccontextmanager

import httpx
import pytest
import pytest_asyncio
from msgspec import Struct
from openapi_spec_validator import validate
from starlette.responses import StreamingResponse
from teleop_runtime.serving import bodies
from teleop_runtime.serving.app import Running, ServicePart, assemble
from teleop_runtime.serving.middleware import early_answers
from teleop_runtime.serving.operations import Conversation, JsonResponse, Operation, read_body
from teleop_schema.errors import BadInput, NotFound, StorageUnavailable
from teleop_testing.backends.serving import serving
from teleop_testing.robots.lines import connect
from teleop_testing.waiting import PATIENCE_S, until
from websockets.exceptions import ConnectionClosed, InvalidStatus


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


async def test_a_body_that_does_not_come_is_not_waited_for(server, monkeypatch):
    """408, and the end of the connection, however little was to come."""
    monkeypatch.setattr(bodies, "PATIENCE_S", 0.3)
    host, port = server.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"PATCH /things/1 HTTP/1.1\r\nHost: {server}\r\nContent-Type: application/json\r\n"
    writer.write((head + "Content-Length: 100\r\n\r\n{").encode())
    async with asyncio.timeout(PATIENCE_S):
        told = await reader.read()
    writer.close()
    assert b" 408 " in told.partition(b"\r\n")[0]
    assert b'"too_slow"' in told


async def test_a_client_that_leaves_in_its_body_is_no_fault(server, http):
    """Also one whose body can't be read on: 499 for the metrics, and no error of the server's."""

    async def counted(sample: str) -> float:
        found = re.search(rf"^{sample} (\S+)", (await http.get("/metrics")).text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    left = r'http_requests_total\{method="PATCH",route="/things/\{thing_id\}",status="499"\}'
    faults = r'errors_total\{code="internal_error"\}'
    before = await counted(left), await counted(faults)
    head = f"PATCH /things/1 HTTP/1.1\r\nHost: {server}\r\nContent-Type: application/json\r\n".encode()
    for rest in (b"Content-Length: 9\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"):
        reader, writer = await asyncio.open_connection(*server.split(":"))
        writer.write(head + rest)
        writer.write_eof()
        await reader.read()
        writer.close()

    async def noticed() -> bool:
        return await counted(left) == before[0] + 2

    await until(noticed)
    assert await counted(faults) == before[1]


async def test_error_is_a_problem_document(http):
    """An error tells its status, code, field and hint as application/problem+json, with the request's id."""
    answer = await http.get("/things/missing")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json() == {
        "type": "urn:lerobot-backend:not_found",
        "title": "NotFound",
        "status": 404,
        "detail": "there is no such thing",
        "code": "not_found",
        "retryable": False,
        "field": "thing_id",
        "hint": "look elsewhere",
        "request_id": answer.headers["x-request-id"],
    }


async def test_address_counts_to_its_last_character(http):
    """A line break at its end makes it another address, and another name: it does not fall away."""
    assert (await http.get("/names/a/b%0A")).json() == "a/b\n"
    assert (await http.get("/names/a%0A/b")).json() == "a\n/b"
    assert (await http.get("/healthz%0A")).status_code == 404


async def test_every_answer_has_an_id_of_its_own(http):
    """Each request is known by an id that no other has, whatever its answer."""
    answers = [await http.get(path) for path in ("/healthz", "/nothing", "/things/broken", "/healthz")]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)
    assert len(set(ids)) == len(ids)
    assert {answer.headers["x-content-type-options"] for answer in answers} == {"nosniff"}


@pytest.mark.parametrize("trouble", ["broken", "forbidden"])
async def test_surprise_keeps_internals_inside(http, trouble):
    """What nobody foresaw is 500 without a word of what it was, and not said to be the database's fault."""
    answer = await http.get(f"/things/{trouble}")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "secret" not in answer.text


@pytest.mark.parametrize("trouble", ["away", "refused"])
async def test_database_away_asks_to_come_again(http, trouble):
    """A database that can't be reached is 503 with Retry-After, and no address of it."""
    answer = await http.get(f"/things/{trouble}")
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert "10.0.0.1" not in answer.text


async def test_used_up(http):
    """A process that can open nothing more says so, and asks to come again."""
    answer = await http.get("/things/used_up")
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"
    assert "secret" not in answer.text


async def test_unknown_address(http):
    """404 says what was asked for."""
    answer = await http.get("/nothing/here")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "/nothing/here" in answer.json()["detail"]


@pytest.mark.parametrize("row", ["abc", "-1", "1.5", "%D9%A3", "%00", "1%0A", "x" * 3000])
async def test_word_where_a_number_belongs(http, row):
    """404 names that part of the address."""
    answer = await http.get(f"/rows/{row}/cells/a")
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (404, "not_found", "row")


@pytest.mark.parametrize("path", ["/rows/7", "/rows/abc", "/rows/abc/cells/a/b"])
async def test_other_addresses_that_nothing_lives_at(http, path):
    """Are not said to lack a number."""
    assert "field" not in (await http.get(path)).json()


async def test_wrong_method(http):
    """405 names every method that the address takes."""
    answer = await http.delete("/things/1")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, PATCH"


async def test_bad_body(http):
    """422 names the field."""
    answer = await http.patch("/things/1", json={"name": 5})
    assert (answer.status_code, answer.json()["field"]) == (422, "name")


async def test_answer_that_breaks_off_is_cut(http):
    """An answer that fails half-way does not look complete."""
    with pytest.raises(httpx.RemoteProtocolError):
        await http.get("/half")


async def test_parts_share_one_state(server):
    """An endpoint of one part finds what another part has put there."""
    async with connect(f"ws://{server}/echo") as websocket:
        assert await websocket.recv() == "first second"
        with pytest.raises(ConnectionClosed):
            await websocket.recv()


async def test_page_of_another_site_is_refused(http, server):
    """A foreign Origin is 403 over HTTP and in the WebSocket handshake."""
    answer = await http.get("/healthz", headers={"Origin": "http://evil.example"})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (403, "forbidden", "Origin")
    assert "x-request-id" in answer.headers
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://{server}/echo", origin="http://evil.example")
    assert refused.value.response.status_code == 403
    assert json.loads(refused.value.response.body)["code"] == "forbidden"
    async with connect(f"ws://{server}/echo", origin=f"http://{server}") as websocket:
        assert await websocket.recv()


async def test_readiness_tells_what_ails(http, ailments):
    """/readyz is 503 with the reason while a check fails; /healthz is not concerned."""
    assert (await http.get("/readyz")).json() == {"status": "ready"}
    ailments.append("out of order")
    answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"status": "unready", "second": "out of order"})
    assert (await http.get("/healthz")).status_code == 200


async def test_readiness_tells_what_a_person_should_hear_of(http, ailments, remarks):
    """Which keeps nobody away: it is still 200."""
    remarks.append("a little slow")
    answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready", "third": "a little slow"})
    ailments.append("out of order")
    answer = await http.get("/readyz")
    words = {"status": "unready", "second": "out of order", "third": "a little slow"}
    assert (answer.status_code, answer.json()) == (503, words)


async def test_metrics_count_by_route(http):
    """Requests are counted by route, not by address, and errors by code."""
    for number in range(3):
        await http.patch(f"/things/{number}", json={"name": "x"})
    await http.get("/things/missing")
    text = (await http.get("/metrics")).text
    assert re.search(
        r'http_requests_total\{method="PATCH",route="/things/\{thing_id\}",status="200"\} [3-9]', text
    )
    assert 'errors_total{code="not_found"}' in text
    assert "process_resident_memory_bytes" in text


async def test_openapi_document_is_valid(http):
    """The document is OpenAPI 3.1 by the specification's own schema."""
    document = (await http.get("/openapi.json")).json()
    validate(document)
    assert set(document["paths"]) == {
        *("/things/{thing_id}", "/names/{name}", "/rows/{row}/cells/{name}", "/half", "/echo"),
        *("/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"),
    }


REQUEST = "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"


async def spoken(server: str, *sent: bytes) -> bytes:
    """Everything that the server says until it closes the connection."""
    host, _, port = server.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for each in sent:
            writer.write(each)
        async with asyncio.timeout(PATIENCE_S):
            return await reader.read()
    finally:
        writer.close()


async def test_answer_before_the_body_closes_the_connection(server):
    """Else the next request on it would be taken for the rest of the body, and never be answered."""
    begun = REQUEST.format(method="PATCH", path="/nothing", length=1000).encode() + b"only the beginning"
    following = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    told = await spoken(server, begun, following)
    head, _, _ = told.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ")
    assert b"connection: close" in head.lower()
    assert told.count(b"HTTP/1.1") == 1


async def test_answer_does_not_overtake_a_small_body(server, monkeypatch):
    """A proxy that passes the body on would lose such an answer; and the connection is used again."""
    monkeypatch.setattr(early_answers, "LINGER_S", PATIENCE_S)
    host, _, port = server.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(REQUEST.format(method="PATCH", path="/nothing", length=2).encode())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.2)
    writer.write(b"{}" + REQUEST.format(method="GET", path="/healthz", length=0).encode())
    async with asyncio.timeout(PATIENCE_S):
        for status in (b"404", b"200"):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 " + status)
            await reader.readexactly(int(re.search(rb"content-length: (\d+)", head.lower())[1]))
    writer.close()


async def test_who_waits_to_be_asked_for_a_body_is_not(server):
    """An answer that needs none of it comes at once, instead of the question."""
    asked = REQUEST.format(method="PATCH", path="/nothing", length=2).encode()
    told = await spoken(server, asked.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    assert told.startswith(b"HTTP/1.1 404 ")


async def test_answer_before_the_body_arrives_whole(server):
    """A client that sends on for a while finds the answer all the same: the connection is not reset."""
    length = 8 * 1024 * 1024
    told = await spoken(
        server, REQUEST.format(method="PATCH", path="/nothing", length=length).encode(), bytes(length)
    )
    head, _, body = told.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ")
    assert json.loads(body)["code"] == "not_found"


async def test_answer_after_the_body_keeps_the_connection(http):
    """Whoever read all of it goes on with the same connection."""
    answer = await http.patch("/things/a", json={"name": "b"})
    assert (answer.status_code, answer.headers.get("connection")) == (200, None)
