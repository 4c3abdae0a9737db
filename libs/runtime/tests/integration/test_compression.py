"""Answers that are compressed for those who ask for it, and those that never are."""

import gzip
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest
from starlette.responses import StreamingResponse
from teleop_runtime.serving.app import Running, ServicePart, assemble
from teleop_runtime.serving.content import answer_content
from teleop_runtime.serving.operations import JsonResponse, Operation
from teleop_testing.backends.serving import serving
from teleop_testing.waiting import PATIENCE_S

ROWS = [{"frame_index": index, "value": index / 3} for index in range(5000)]
PLAIN = msgspec.json.encode(ROWS)
LINES = [f"{row['frame_index']},{row['value']}\n".encode() for row in ROWS]


async def get_json(_request):
    """A long answer."""
    return JsonResponse(ROWS)


async def get_csv(_request):
    """An answer in parts."""

    async def parts():
        for first in range(0, len(LINES), 500):
            yield b"".join(LINES[first : first + 500])

    return StreamingResponse(parts(), media_type="text/csv")


async def get_events(_request):
    """Events, which must arrive as they happen."""

    async def events():
        yield b"data: " + PLAIN + b"\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def get_kept(request):
    """Bytes that are kept, with ranges."""

    async def read(start, end):
        yield PLAIN[start:end]

    return await answer_content(request, read, len(PLAIN), etag='"one"', media_type="application/json")


@asynccontextmanager
async def nothing():
    """A part that needs nothing."""
    yield Running(state={})


PART = ServicePart(
    "example",
    [
        Operation("GET", "/json", get_json, "read"),
        Operation("GET", "/csv", get_csv, "read"),
        Operation("GET", "/events", get_events, "read"),
        Operation("GET", "/kept", get_kept, "read"),
    ],
    nothing,
)


@pytest.fixture
async def http():
    """A client that asks for nothing by itself."""
    async with (
        serving(assemble("example", [PART], exposure="local")) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as client,
    ):
        client.headers["Accept-Encoding"] = "identity"
        yield client


async def raw(http, path: str, **headers: str) -> tuple[httpx.Response, bytes]:
    """An answer, and its body as it has travelled."""
    asked = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.stream("GET", path, headers=asked) as answer:
        return answer, b"".join([piece async for piece in answer.aiter_raw()])


@pytest.mark.parametrize(("path", "plain"), [("/json", PLAIN), ("/csv", b"".join(LINES))])
async def test_asked_for(http, path, plain):
    """JSON at once and CSV in parts: the same bytes, in a fraction of the size."""
    answer, body = await raw(http, path, Accept_Encoding="br, gzip;q=0.8")
    assert (answer.headers["Content-Encoding"], answer.headers["Vary"]) == ("gzip", "Accept-Encoding")
    assert gzip.decompress(body) == plain
    assert len(body) < len(plain) / 2
    assert answer.headers.get("Content-Length", str(len(body))) == str(len(body))


@pytest.mark.parametrize("accepted", ["identity", "gzip;q=0", "br", "*;q=0", ""])
async def test_not_asked_for(http, accepted):
    """Plain then, and marked as an answer that depends on what was asked."""
    answer, body = await raw(http, "/json", Accept_Encoding=accepted)
    assert "Content-Encoding" not in answer.headers
    assert (answer.headers["Vary"], body) == ("Accept-Encoding", PLAIN)


async def test_small_answers(http):
    """One packet is one packet."""
    answer, _ = await raw(http, "/healthz", Accept_Encoding="gzip")
    assert "Content-Encoding" not in answer.headers


async def test_kept_bytes_and_events(http):
    """Files stay as they are, so that ETag, ranges and length are right; and so do events."""
    whole, body = await raw(http, "/kept", Accept_Encoding="gzip")
    assert (body, whole.headers["ETag"], whole.headers["Content-Length"]) == (PLAIN, '"one"', str(len(PLAIN)))
    part, body = await raw(http, "/kept", Accept_Encoding="gzip", Range="bytes=10-4000")
    assert (part.status_code, body) == (206, PLAIN[10:4001])
    same, body = await raw(http, "/kept", Accept_Encoding="gzip", If_None_Match='"one"')
    assert (same.status_code, body) == (304, b"")
    events, _ = await raw(http, "/events", Accept_Encoding="gzip")
    for answer in (whole, part, same, events):
        assert "Content-Encoding" not in answer.headers
