"""People who have signed in, over real sockets, by sessions in a real database, or by a proxy's word."""

import asyncio
import json
from contextlib import asynccontextmanager

import httpx
import pytest
import pytest_asyncio
from teleop_runtime.access.forward_auth import ForwardAuth, read_grants
from teleop_runtime.access.sessions import PLAIN_NAME, SECURE_NAME, hash_of_secret, make_secret
from teleop_runtime.access.tokens import hash_of, make_token, prefix_of
from teleop_runtime.gate import access_part
from teleop_runtime.proxies import read_proxies
from teleop_runtime.serving.app import Running, ServicePart, assemble
from teleop_runtime.serving.guard import caller_of
from teleop_runtime.serving.operations import Conversation, JsonResponse, Operation
from teleop_testing.backends.serving import serving
from teleop_testing.robots.lines import connect
from teleop_testing.waiting import PATIENCE_S, wait_for
from websockets.exceptions import ConnectionClosed, InvalidStatus

PRINCIPAL = """
INSERT INTO principal (name, role, robot_ids) VALUES ($1, $2, $3)
ON CONFLICT (role, name) DO UPDATE SET robot_ids = $3 RETURNING id
"""
SESSION = """
INSERT INTO web_session (principal_id, token_id, hash, expires_at) VALUES ($1, $2, $3, now() + interval '1 h')
"""
TOKEN = "INSERT INTO access_token (principal_id, hash, prefix) VALUES ($1, $2, $3) RETURNING id"
PROXY_AND_TLS = {"proxies": read_proxies("127.0.0.0/8")}


async def whoami(request):
    """Who calls."""
    caller = caller_of(request)
    robots = caller.robot_ids and sorted(caller.robot_ids)
    return JsonResponse([caller.name, caller.role, robots, caller.how])


async def echo(websocket):
    """Whatever comes."""
    await websocket.accept()
    while True:
        await websocket.send_text(await websocket.receive_text())


@asynccontextmanager
async def lifespan():
    """Nothing to start."""
    yield Running(state={})


PART = ServicePart(
    name="example",
    operations=[
        Operation("GET", "/whoami", whoami, "known", own_check=True),
        Operation("POST", "/change", whoami, "operate"),
    ],
    websockets=[Conversation("/ws/{robot_id}", echo, "send")],
    lifespan=lifespan,
)


@asynccontextmanager
async def server(database_url, **posture):
    """A client of the server, which serves nobody whom it does not know, unless `posture` says otherwise."""
    chosen = {"exposure": "lab", "trust_network": False, **posture}
    app = assemble("example", [access_part(database_url), PART], **chosen)
    async with (
        serving(app) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as client,
    ):
        yield client


@pytest_asyncio.fixture
async def http(database_url):
    """A client of a server that serves nobody whom it does not know."""
    async with server(database_url) as client:
        yield client


@pytest.fixture
def sign_in(database):
    """Adds a session to the database; returns its cookie, for plain HTTP."""

    async def sign_in(role="operator", name="anna", robots=None, token=None, cookie=PLAIN_NAME):
        principal = await database.connection.fetchval(PRINCIPAL, name, role, robots)
        token_id = token and await database.connection.fetchval(
            TOKEN, principal, hash_of(token), prefix_of(token)
        )
        secret = make_secret()
        await database.connection.execute(SESSION, principal, token_id, hash_of_secret(secret))
        return {"Cookie": f"{cookie}={secret}"}

    return sign_in


def own_page(http):
    """What a browser says of the backend's own page."""
    return {"Origin": str(http.base_url)}


async def test_a_session_says_who_calls(http, sign_in, database):
    """To read; to change, if a page of the backend asks, as its browser says."""
    cookie = await sign_in()
    told = await http.get("/whoami", headers=cookie)
    assert told.json() == ["anna", "operator", None, "session"]
    done = await http.post("/change", headers=cookie | own_page(http))
    assert done.status_code == 200
    done = await http.post("/change", headers={**cookie, "Sec-Fetch-Site": "same-origin"})
    assert done.status_code == 200
    assert await database.value("SELECT count(*) FROM audit WHERE principal = 'anna'") == 2


async def test_no_other_page_changes_anything(http, sign_in):
    """Nor does whatever does not say which page it is."""
    cookie = await sign_in()
    for said in (
        {},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"{str(http.base_url).rpartition(':')[0]}:1"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", **own_page(http)},
    ):
        answer = await http.post("/change", headers=cookie | said)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), said


async def test_a_session_that_has_ended_is_none(http, sign_in, database, database_url):
    """Where nobody has to sign in, its cookie does no harm."""
    ends = (
        "ended_at = now()",
        "expires_at = now()",
        "last_used_at = now() - interval '15 days'",
    )
    for how in ends:
        cookie = await sign_in()
        await database.connection.execute(f"UPDATE web_session SET {how}")
        assert (await http.get("/whoami", headers=cookie)).status_code == 401, how
    async with server(database_url, exposure="local") as local:
        answer = await local.post("/change", headers=cookie)
        assert answer.json()[3] == "this machine"


async def test_a_session_that_ends_is_soon_refused(http, sign_in, database):
    """It is remembered for a moment only; its use is noted by the minute."""
    cookie = await sign_in()
    await database.connection.execute("UPDATE web_session SET last_used_at = now() - interval '1 hour'")
    assert (await http.get("/whoami", headers=cookie)).status_code == 200
    assert await database.value("SELECT last_used_at > now() - interval '1 minute' FROM web_session")
    await database.connection.execute("UPDATE web_session SET ended_at = now()")

    async def refused():
        return (await http.get("/whoami", headers=cookie)).status_code == 401

    await wait_for(refused)


async def test_a_token_that_is_shown_counts(http, sign_in):
    """A bad one is refused, whatever cookie comes along; with a good one, no page has to ask."""
    token = make_token("admin")
    await sign_in("admin", "boss", token=token)
    cookie = await sign_in("viewer")
    both = {**cookie, "Authorization": f"Bearer {token}"}
    assert (await http.post("/change", headers=both)).json()[:2] == ["boss", "admin"]
    bad = {**cookie, "Authorization": f"Bearer {make_token('admin')}"}
    assert (await http.get("/whoami", headers=bad)).status_code == 401


async def test_a_session_of_a_token_ends_with_it(http, sign_in, database):
    """Revoked or expired."""
    for how in ("revoked_at", "expires_at"):
        cookie = await sign_in(token=make_token("operator"))
        assert (await http.get("/whoami", headers=cookie)).status_code == 200
        await database.connection.execute(f"UPDATE access_token SET {how} = now()")

        async def refused(cookie=cookie):
            return (await http.get("/whoami", headers=cookie)).status_code == 401

        await wait_for(refused)


async def test_by_https_only_the_cookie_that_came_by_https_counts(database_url, sign_in):
    """Nobody on the way can have set that one."""
    secure, plain = await sign_in(cookie=SECURE_NAME), await sign_in()
    tls = {"X-Forwarded-Proto": "https"}
    async with server(database_url, **PROXY_AND_TLS) as http:
        assert (await http.get("/whoami", headers=secure | tls)).status_code == 200
        assert (await http.get("/whoami", headers=plain | tls)).status_code == 401
        assert (await http.get("/whoami", headers=secure)).status_code == 401
        assert (await http.get("/whoami", headers=plain)).status_code == 200


async def test_a_websocket_is_for_the_page_of_the_backend(http, sign_in, database):
    """And ends with the session, with words and a code; those of others stay."""
    address = str(http.base_url).replace("http", "ws") + "/ws/robot_A"
    cookie = await sign_in("admin")
    for said in ({}, {"Origin": "http://evil.example"}):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(address, additional_headers=cookie | said):
                pass
        assert refused.value.response.status_code == 403
    other = await sign_in("admin", "berta")
    async with (
        connect(address, additional_headers=cookie | own_page(http)) as socket,
        connect(address, additional_headers=other | own_page(http)) as staying,
    ):
        await socket.send("x")
        assert await socket.recv() == "x"
        await database.connection.execute(
            "DELETE FROM web_session USING principal p WHERE p.id = principal_id AND p.name = 'anna'"
        )
        async with asyncio.timeout(PATIENCE_S):
            message = json.loads(await socket.recv())
            assert (message["code"], message["fatal"]) == ("unauthorized", True)
            with pytest.raises(ConnectionClosed):
                await socket.recv()
        assert socket.close_code == 4401
        await staying.send("x")
        assert await staying.recv() == "x"


async def test_without_the_database_nobody_is_believed():
    """Nor refused for good."""
    async with (
        serving(assemble("example", [PART], exposure="local")) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as http,
    ):
        cookie = {"Cookie": f"{PLAIN_NAME}={make_secret()}"}
        assert (await http.get("/whoami", headers=cookie)).status_code == 503


def vouching(proxies="127.0.0.0/8", grants="admins=admin, lab=operator, students=viewer:robot_A"):
    """Settings of a server behind a proxy that signs people in."""
    return {"proxies": read_proxies(proxies), "forward_auth": ForwardAuth(read_grants(grants))}


def vouched(name="anna", groups="lab"):
    """What such a proxy says."""
    return {"Remote-User": name, "Remote-Groups": groups}


async def test_a_known_proxy_says_who_calls(database_url, sign_in):
    """With the role of the group; what changes something has to come from a page of the backend."""
    async with server(database_url, **vouching()) as http:
        told = await http.get("/whoami", headers=vouched())
        assert told.json() == ["anna", "operator", None, "proxy"]
        told = await http.get("/whoami", headers=vouched(groups="students"))
        assert told.json() == ["anna", "viewer", ["robot_A"], "proxy"]
        assert (await http.post("/change", headers=vouched() | own_page(http))).status_code == 200
        assert (await http.post("/change", headers=vouched())).status_code == 403
        refused = await http.get("/whoami", headers=vouched(groups="cooks"))
        assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
        assert "anna, who has no role here" in refused.json()["detail"]
        # Somebody else may have signed in with this browser before.
        cookie = await sign_in("admin", "boss")
        assert (await http.get("/whoami", headers=cookie | vouched())).json()[0] == "anna"
        assert (await http.get("/whoami", headers=cookie | vouched(groups=""))).json()[0] == "boss"


async def test_nobody_else_says_who_calls(database_url):
    """Neither whoever is no known proxy, nor where no proxy signs people in."""
    for posture in (vouching(proxies="192.0.2.0/24"), PROXY_AND_TLS):
        async with server(database_url, **posture) as http:
            lies = {**vouched(groups="admins"), "X-Forwarded-For": "192.0.2.7"}
            assert (await http.get("/whoami", headers=lies)).status_code == 401


async def test_what_the_proxy_says_twice_is_not_believed(database_url):
    """It has passed on what a client made up; a token that is shown counts all the same."""
    async with server(database_url, **vouching()) as http:
        twice = [("Remote-User", "boss"), *vouched().items()]
        answer = await http.get("/whoami", headers=twice)
        assert answer.status_code == 401
        assert "Remote-User more than once" in answer.json()["detail"]


async def test_a_token_wins_over_the_proxy(database_url, sign_in):
    """A good one and a bad one."""
    token = make_token("viewer")
    await sign_in("viewer", "berta", token=token)
    async with server(database_url, **vouching()) as http:
        for shown, expected in ((token, 200), (make_token("viewer"), 401)):
            headers = {**vouched(groups="admins"), "Authorization": f"Bearer {shown}"}
            answer = await http.get("/whoami", headers=headers)
            assert answer.status_code == expected
            assert expected == 401 or answer.json()[:2] == ["berta", "viewer"]


async def test_a_person_keeps_their_robots(database_url, database):
    """By whichever capitals the proxy writes the name."""
    principal = await database.connection.fetchval(PRINCIPAL, "Anna", "viewer", ["robot_B"])
    await database.connection.execute(
        "INSERT INTO person (name, principal_id) VALUES ('Anna', $1)", principal
    )
    async with server(database_url, **vouching()) as http:
        for name in ("anna", "Anna", "ANNA"):
            told = await http.get("/whoami", headers=vouched(name, "admins"))
            assert told.json() == [name, "admin", ["robot_B"], "proxy"]
        assert (await http.get("/whoami", headers=vouched(groups=""))).json()[1] == "viewer"


async def test_a_websocket_of_a_person_whom_the_proxy_knows(database_url):
    """From a page of the backend."""
    async with server(database_url, **vouching()) as http:
        address = str(http.base_url).replace("http", "ws") + "/ws/robot_A"
        with pytest.raises(InvalidStatus):
            async with connect(address, additional_headers=vouched(groups="admins")):
                pass
        headers = vouched(groups="admins") | own_page(http)
        async with connect(address, additional_headers=headers) as socket:
            await socket.send("x")
            assert await socket.recv() == "x"
