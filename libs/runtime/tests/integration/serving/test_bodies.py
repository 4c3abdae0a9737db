"""Bodies of requests that come slowly, break off, or are answered before they have come."""

import asyncio
import json
import re

import pytest
from teleop_runtime.serving import bodies
from teleop_runtime.serving.middleware import early_answers
from teleop_testing.waiting import PATIENCE_S, until

REQUEST = "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"


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
