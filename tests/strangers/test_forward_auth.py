"""Caddy and nginx sign people in as docs/howto/sign-in.md has it, with a stand-in for Authelia and others."""

import json
import re
import shlex
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from teleop_testing.backends.processes import ServiceProcess, whole_backend
from teleop_testing.backends.reverse_proxies import CADDY, NGINX, caddy, make_certificate, nginx
from teleop_testing.backends.serving import serving
from teleop_testing.robots.lines import connect
from teleop_testing.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/howto/sign-in.md").read_text()
COMMAND = Path(sys.executable).with_name("lerobot-backend")
# Of the people whom the stand-in knows by their cookie; of the last, it says nothing.
GROUPS = {"anna": "lab,cooks", "boss": "admins", "berta": "admins", "mute": ""}
# What a client may make up, in whatever header any of the proxies uses.
LIES = {
    **{"Remote-User": "boss", "Remote-Groups": "admins", "remote-user": "boss"},
    **{"X-Auth-Request-Email": "boss", "X-Auth-Request-Groups": "admins"},
}
SETUPS = {
    "authelia, caddy": ("caddy", r"### Authelia with Caddy\n```\n(.*?)```", ("Remote-User", "Remote-Groups")),
    "oauth2-proxy, caddy": (
        "caddy",
        r"### oauth2-proxy with Caddy\n.*?```\n(.*?)```",
        ("X-Auth-Request-Email", "X-Auth-Request-Groups"),
    ),
    "oauth2-proxy, nginx": ("nginx", r"### nginx\n.*?```\n(.*?)```", ("Remote-User", "Remote-Groups")),
}


async def say_who(request: Request) -> Response:
    """Who has signed in, as Authelia and oauth2-proxy say it."""
    name = request.cookies.get("who")
    if name not in GROUPS:
        return PlainTextResponse("sign in", 401)
    if name == "mute":
        return PlainTextResponse("ok")
    told = {"Remote-User": name, "Remote-Groups": GROUPS[name]}
    told |= {"X-Auth-Request-Email": name, "X-Auth-Request-Groups": GROUPS[name]}
    return PlainTextResponse("ok", headers=told)


async def sign_in(_request: Request) -> Response:
    """Where people would type a password."""
    return PlainTextResponse("who are you?")


async def say_headers(request: Request) -> Response:
    """The names of the headers that have arrived."""
    return JSONResponse(list(request.headers))


STAND_IN = Starlette(
    routes=[
        Route("/api/authz/forward-auth", say_who),
        Route("/oauth2/auth", say_who),
        Route("/oauth2/sign_in", sign_in),
    ]
)


@pytest.fixture(scope="module", params=SETUPS)
def setup(request) -> str:
    """Who signs people in, and the proxy in front."""
    found: str = request.param
    if {"nginx": NGINX, "caddy": CADDY}[SETUPS[found][0]] is None:
        pytest.skip(f"{SETUPS[found][0]} is missing: apt-get install {SETUPS[found][0]}")
    return found


@pytest.fixture(scope="module")
def backend(setup, tmp_path_factory) -> Iterator[ServiceProcess]:
    """Started as the document says."""
    said = re.search(r"^(LEROBOT_.*) make run$", DOCUMENT, re.MULTILINE)
    assert said
    user, groups = SETUPS[setup][2]
    settings = dict(each.split("=", 1) for each in shlex.split(said[1]))
    # Whoever is nobody gets nothing of what is for everybody.
    settings["LEROBOT_BACKEND_FORWARD_AUTH"] += ", *=viewer"
    settings |= {"LEROBOT_BACKEND_FORWARD_AUTH_USER": user, "LEROBOT_BACKEND_FORWARD_AUTH_GROUPS": groups}
    with whole_backend(tmp_path_factory.mktemp("backend"), **settings) as process:
        yield process


def on_server(backend: ServiceProcess, *words: str) -> str:
    """What a command of the backend's owner prints."""
    done = subprocess.run(
        [COMMAND, *words], env=backend.environment, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@dataclass(frozen=True)
class Site:
    """The backend as browsers reach it."""

    address: str
    context: ssl.SSLContext

    def client(self, who: str | None = None) -> httpx.AsyncClient:
        """A browser in which somebody has signed in."""
        cookies = {} if who is None else {"who": who}
        return httpx.AsyncClient(
            base_url=f"https://{self.address}", verify=self.context, timeout=PATIENCE_S, cookies=cookies
        )


@pytest.fixture
async def site(setup, backend, tmp_path) -> AsyncIterator[Site]:
    """The proxy, with the document's directives."""
    kind, where, _ = SETUPS[setup]
    found = re.search(where, DOCUMENT, re.DOTALL)
    assert found
    context = ssl.create_default_context(cafile=make_certificate(tmp_path))
    async with AsyncExitStack() as stack:
        stand_in = await stack.enter_async_context(serving(STAND_IN))
        directives = found[1].replace("127.0.0.1:8000", backend.address)
        directives = re.sub(r"127\.0\.0\.1:(9091|4180)", stand_in, directives)
        running = nginx(tmp_path, directives, tls=True) if kind == "nginx" else caddy(tmp_path, directives)
        port = await stack.enter_async_context(running)
        yield Site(f"localhost:{port}", context)


async def test_whoever_has_signed_in_is_known(site):
    """By name, with the role of the group; nobody else comes through."""
    async with site.client("anna") as http:
        me = (await http.get("/me")).json()
        assert (me["name"], me["role"], me["robot_ids"], me["how"]) == ("anna", "operator", None, "proxy")
        own_page = {"Origin": f"https://{site.address}"}
        assert (await http.post("/exports", json={}, headers=own_page)).status_code == 422
        for said in ({}, {"Origin": "https://evil.example"}):
            assert (await http.post("/exports", json={}, headers=said)).status_code == 403
        assert (await http.get("/people")).status_code == 403
    async with site.client("boss") as http:
        assert (await http.get("/people")).status_code == 200
    async with site.client() as http:
        answer = await http.get("/me")
        assert answer.status_code in (200, 302, 401)
        assert "role" not in answer.text


async def test_what_a_client_makes_up_does_not_count(site):
    """Whether somebody has signed in, or nobody, or the stand-in says nothing of them."""
    async with site.client("anna") as http:
        me = (await http.get("/me", headers=LIES)).json()
        assert (me["name"], me["role"]) == ("anna", "operator")
    async with site.client("mute") as http:
        answer = await http.get("/me", headers=LIES)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    async with site.client() as http:
        assert "role" not in (await http.get("/me", headers=LIES)).text
        for shown in ("Bearer x", "bearer x", "Bearer", "Basic eDp5"):
            answer = await http.get("/me", headers={**LIES, "Authorization": shown})
            assert "role" not in answer.text
        joining = await http.post("/join", json={"code": "K7QF-2M9P"}, headers=LIES)
        assert joining.json()["code"] == "enrolment_failed"


async def test_whoever_shows_a_token_is_asked_for_nothing_else(site, backend):
    """Over HTTP and WebSocket; it counts, whoever has signed in."""
    token = on_server(backend, "tokens", "add", "robot_A", "--role", "robot")
    headers = {"Authorization": f"Bearer {token}"}
    for who in (None, "boss"):
        async with site.client(who) as http:
            me = (await http.get("/me", headers={**headers, **LIES})).json()
            assert (me["name"], me["role"], me["how"]) == ("robot_A", "robot", "token")
    async with connect(
        f"wss://{site.address}/ws/log/robot_A", ssl=site.context, additional_headers=headers
    ) as line:
        await line.send(json.dumps({"observation": {"a": 1}}))
        assert json.loads(await line.recv())


async def test_a_person_keeps_the_robots_of_people_add(site, backend):
    """Whatever the groups give."""
    on_server(backend, "people", "add", "Berta", "--role", "viewer", "--robot", "robot_B")
    async with site.client("berta") as http:
        me = (await http.get("/me")).json()
        assert (me["name"], me["role"], me["robot_ids"]) == ("berta", "admin", ["robot_B"])
        assert (await http.get("/sessions?robot_id=robot_A")).status_code == 403


@pytest.mark.skipif(CADDY is None, reason="caddy is missing: apt-get install caddy")
@pytest.mark.parametrize(("proxies", "passed"), [("192.0.2.7/32", False), ("127.0.0.0/8", True)])
async def test_the_proxy_of_the_stack_passes_on_what_a_known_proxy_says(
    tmp_path, monkeypatch, proxies, passed
):
    """Of people, and nothing that anybody else says: the services believe the stack's own proxy."""
    monkeypatch.setenv("LEROBOT_BACKEND_PROXIES", proxies)
    monkeypatch.setenv("LEROBOT_BACKEND_FORWARD_AUTH_USER", "X-Auth-Request-Email")
    strangers, _, _ = (ROOT / "deploy/proxy/routes.caddy").read_text().partition("# Which service answers")
    context = ssl.create_default_context(cafile=make_certificate(tmp_path))
    async with (
        serving(Starlette(routes=[Route("/", say_headers)])) as service,
        caddy(tmp_path, f"{strangers}\nreverse_proxy {service}") as port,
        httpx.AsyncClient(verify=context, timeout=PATIENCE_S) as http,
    ):
        said = {"x-auth-request-EMAIL": "boss", "Remote-Groups": "admins", "Other": "x"}
        heard = (await http.get(f"https://localhost:{port}/", headers=said)).json()
    expected = {"x-auth-request-email", "remote-groups", "other"} if passed else {"other"}
    assert set(heard) & {name.lower() for name in said} == expected
