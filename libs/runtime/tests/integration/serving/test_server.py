"""A server of two small parts, over real sockets."""

import json
import re

import httpx
import pytest
from openapi_spec_validator import validate
from teleop_testing.robots.lines import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


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
