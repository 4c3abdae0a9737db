"""A server that a trusted proxy, or anybody else, tells who has asked, and by which address."""

from contextlib import asynccontextmanager

import httpx
import pytest
from teleop_runtime.proxies import read_proxies
from teleop_runtime.serving.app import Running, ServicePart, assemble
from teleop_runtime.serving.middleware.forwarded import address_of
from teleop_runtime.serving.operations import Conversation, JsonResponse, Operation
from teleop_testing.backends.serving import serving
from teleop_testing.robots.lines import connect
from teleop_testing.waiting import PATIENCE_S
from websockets.exceptions import InvalidStatus

TOLD = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "robots.example.com",
    "X-Forwarded-Prefix": "/robots/backend",
}

OPEN = {"exposure": "lab", "trust_network": True, "names": ["robots.example.com"]}


async def tell(request):
    """Who asks, and how the thing is called from there."""
    return JsonResponse([request.client.host, address_of(request, "/things/1")])


async def talk(websocket):
    """The same over WebSocket."""
    await websocket.accept()
    await websocket.send_json([websocket.client.host, str(websocket.base_url)])
    await websocket.close()


@asynccontextmanager
async def nothing():
    """A part that needs nothing."""
    yield Running(state={})


PART = ServicePart(
    "example",
    [
        Operation("GET", "/things", tell, "read"),
        Operation("POST", "/things", tell, "operate", name="make_thing"),
    ],
    nothing,
    [Conversation("/talk", talk, "send")],
)


@pytest.fixture
async def ask(request):
    """Sends requests to a server that trusts the marked proxies."""
    proxies = read_proxies(request.param)
    async with (
        serving(assemble("example", [PART], **OPEN, proxies=proxies)) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as http,
    ):
        http.address = address
        yield http


trusting = pytest.mark.parametrize("ask", ["127.0.0.0/8"], indirect=True)
strict = pytest.mark.parametrize("ask", ["", "192.0.2.0/24"], indirect=True)


@trusting
async def test_a_trusted_proxy_is_believed(ask):
    """The client's address, and one that the client can reach, with scheme, host and prefix."""
    answer = await ask.get("/things", headers=TOLD)
    assert answer.json() == ["203.0.113.9", "https://robots.example.com/robots/backend/things/1"]
    answer = await ask.get("/things")
    assert answer.json() == ["127.0.0.1", f"http://{ask.address}/things/1"]


@strict
async def test_nobody_else_is(ask):
    """Neither by default, nor from a machine that is not in the list."""
    answer = await ask.get("/things", headers={**TOLD, "Forwarded": "for=203.0.113.9;host=evil.example"})
    assert answer.json() == ["127.0.0.1", f"http://{ask.address}/things/1"]


@trusting
async def test_a_prefix_that_is_not_removed(ask):
    """The proxy names it, and leaves it in the address: the answer says what to change."""
    answer = await ask.get("/robots/backend/things", headers=TOLD)
    assert answer.status_code == 404
    assert "let the proxy remove /robots/backend from the address" in answer.json()["hint"]


@trusting
async def test_websocket(ask):
    """Its handshake likewise."""
    async with connect(f"ws://{ask.address}/talk", additional_headers=TOLD) as line:
        assert await line.recv() == '["203.0.113.9","wss://robots.example.com/"]'


@trusting
async def test_pages_of_the_own_site_may_write(ask):
    """The page's origin is the address that the browser knows, not that of the proxy's request."""
    own = await ask.post("/things", headers={**TOLD, "Origin": "https://robots.example.com"})
    other = await ask.post("/things", headers={**TOLD, "Origin": f"http://{ask.address}"})
    assert (own.status_code, other.status_code) == (200, 403)


@strict
async def test_a_page_behind_an_unknown_proxy_is_told_the_setting(ask):
    """The proxy has changed `Host`, so that the page looks like one of another site."""
    answer = await ask.post("/things", headers={**TOLD, "Origin": "https://robots.example.com"})
    problem = answer.json()
    assert (answer.status_code, problem["field"]) == (403, "Origin")
    assert "LEROBOT_BACKEND_PROXIES" in problem["hint"]
    assert "proxy_set_header Host $http_host" in problem["hint"]


@trusting
async def test_a_slash_at_the_end(ask):
    """The same address; nothing is redirected, so no body is lost."""
    for method in ("GET", "POST"):
        answer = await ask.request(method, "/things/", content=b"body" if method == "POST" else None)
        assert (answer.status_code, answer.history) == (200, [])


@trusting
async def test_a_name_that_the_backend_does_not_have(ask):
    """The name is that which the browser knows: a page can have its own name point at the proxy."""
    answer = await ask.get("/things", headers={**TOLD, "X-Forwarded-Host": "evil.example"})
    problem = answer.json()
    assert (answer.status_code, problem["field"]) == (403, "Host")
    assert "LEROBOT_BACKEND_NAMES" in problem["hint"]


async def test_what_comes_through_a_proxy_is_not_local():
    """Known or not, and however little it says."""
    async with (
        serving(assemble("example", [PART], exposure="local")) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as http,
    ):
        assert (await http.get("/things")).status_code == 200
        for header in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "Via"):
            answer = await http.get("/things", headers={header: "127.0.0.1"})
            assert answer.status_code == 401, header
            assert "through a proxy" in answer.json()["detail"]
    app = assemble("example", [PART], exposure="local", proxies=read_proxies("127.0.0.1"))
    async with serving(app) as address, httpx.AsyncClient(timeout=PATIENCE_S) as http:
        assert (await http.get(f"http://{address}/things")).status_code == 401


async def test_on_the_internet_a_proxy_has_to_say_that_it_was_https():
    """Otherwise a token is not even looked at; browsers then never ask for anything without HTTPS again."""
    app = assemble("example", [PART], exposure="internet", proxies=read_proxies("127.0.0.1"))
    token = {"Authorization": "Bearer lrb_robot_none"}
    plain, https = {**TOLD, "X-Forwarded-Proto": "http"}, TOLD
    async with (
        serving(app) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as http,
    ):
        refused = await http.get("/things", headers=plain | token)
        assert (refused.status_code, refused.json()["code"]) == (403, "https_needed")
        assert "strict-transport-security" not in refused.headers
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"ws://{address}/talk", additional_headers=plain | token)
        assert b"https_needed" in caught.value.response.body
        # Now it would be looked at; this server has no tokens to compare it with.
        looked = await http.get("/things", headers=https | token)
        assert (looked.status_code, looked.json()["code"]) == (503, "storage_unavailable")
        assert looked.headers["strict-transport-security"] == "max-age=31536000"
        assert (await http.get("/things", headers=https)).status_code == 401
        assert (await http.get("/healthz")).status_code == 200


async def test_metrics_that_are_open_are_not_passed_on():
    """Monitoring in the network of the proxies reads them; what a proxy passes on needs a token."""
    proxies = read_proxies("127.0.0.0/8")
    app = assemble("example", [PART], exposure="lab", open_metrics=True, proxies=proxies)
    async with (
        serving(app) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as http,
    ):
        assert (await http.get("/metrics")).status_code == 200
        assert (await http.get("/things")).status_code == 401
        passed_on = await http.get("/metrics", headers={"X-Forwarded-For": "203.0.113.9"})
        assert passed_on.status_code == 401
