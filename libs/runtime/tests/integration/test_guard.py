"""Who is let in, over real sockets, by tokens in a real database."""

import asyncio
import json
from contextlib import aclosing, asynccontextmanager, suppress

import httpx
import pytest
import pytest_asyncio
from starlette.responses import StreamingResponse
from teleop_runtime import gate, lasting
from teleop_runtime.access import rates
from teleop_runtime.access.tokens import hash_of, make_token, prefix_of
from teleop_runtime.gate import access_part
from teleop_runtime.proxies import read_proxies
from teleop_runtime.serving import guard
from teleop_runtime.serving.app import Running, ServicePart, assemble
from teleop_runtime.serving.bodies import body_parts
from teleop_runtime.serving.guard import caller_of
from teleop_runtime.serving.operations import Conversation, JsonResponse, Operation
from teleop_testing.backends.serving import serving
from teleop_testing.robots.lines import connect
from teleop_testing.waiting import PATIENCE_S, wait_for
from websockets.exceptions import ConnectionClosed, InvalidStatus

ADD = """
WITH p AS (INSERT INTO principal (name, role, robot_ids) VALUES ($1, $2, $3)
           ON CONFLICT (role, name) DO UPDATE SET name = $1 RETURNING id)
INSERT INTO access_token (principal_id, hash, prefix, expires_at, revoked_at)
SELECT id, $4, $5, now() + $6::text::interval, CASE WHEN $7 THEN now() END FROM p RETURNING id
"""


async def whoami(request):
    """Who calls."""
    return JsonResponse(caller_of(request).name)


async def say_open(_request):
    """What everybody may know."""
    return JsonResponse("open")


async def follow(_request):
    """Something every now and then."""

    async def events():
        yield b"data: first\n\n"
        await asyncio.Event().wait()

    return StreamingResponse(events(), media_type="text/event-stream")


async def count(_request):
    """Events that come to an end."""

    async def events():
        for number in range(3):
            yield b"data: %d\n\n" % number

    return StreamingResponse(events(), media_type="text/event-stream")


async def take(request):
    """How many bytes came."""
    came = 0
    async with aclosing(body_parts(request)) as parts:
        async for part in parts:
            came += len(part)
    return JsonResponse(came)


async def give(_request):
    """A file that has no end."""

    async def parts():
        while True:
            yield bytes(64 * 1024)

    return StreamingResponse(parts(), media_type="application/octet-stream")


async def echo(websocket):
    """Whatever comes."""
    await websocket.accept(subprotocol=next(iter(websocket.scope["subprotocols"]), None))
    while True:
        await websocket.send_text(await websocket.receive_text())


@asynccontextmanager
async def lifespan():
    """Nothing to start."""
    yield Running(state={})


PART = ServicePart(
    name="example",
    operations=[
        Operation("GET", "/open", say_open, "nothing"),
        Operation("GET", "/whoami", whoami, "browse"),
        Operation("GET", "/robots/{robot_id}", whoami, "read"),
        Operation("GET", "/events", follow, "browse"),
        Operation("GET", "/few-events", count, "browse"),
        Operation("POST", "/change", whoami, "operate"),
        Operation("GET", "/file", give, "browse"),
        Operation("POST", "/file/{robot_id}", take, "send"),
        Operation("GET", "/sessions/{session_id:int}", whoami, "read"),
    ],
    websockets=[Conversation("/ws/{robot_id}", echo, "send")],
    lifespan=lifespan,
)


@pytest.fixture
def add(database):
    """Adds a token to the database."""

    async def add(role, name="someone", robots=None, *, lasts=None, revoked=False) -> str:
        token = make_token(role)
        robots = [name] if role == "robot" else robots
        values = (name, role, robots, hash_of(token), prefix_of(token), lasts, revoked)
        await database.connection.fetchval(ADD, *values)
        return token

    return add


@asynccontextmanager
async def server(database_url, **posture):
    """Address of the server."""
    app = assemble("example", [access_part(database_url), PART], **posture)
    async with serving(app) as address:
        yield address


@pytest_asyncio.fixture
async def address(database_url):
    """Address of a server that nobody may use without a token."""
    async with server(database_url, exposure="lab", trust_network=False) as address:
        yield address


@pytest_asyncio.fixture
async def http(address):
    """HTTP client of it."""
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as client:
        yield client


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def assert_refused(answer, status, code):
    """A problem that another token can help."""
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["retryable"]) == (status, code, True)
    assert ("www-authenticate" in answer.headers) == (status == 401)
    return problem


async def test_nobody_gets_in_without_a_token(http, address):
    """But for health and what describes the server."""
    assert_refused(await http.get("/whoami"), 401, "unauthorized")
    assert_refused(await http.get("/metrics"), 401, "unauthorized")
    for path in ("/open", "/healthz", "/readyz", "/openapi.json", "/docs"):
        assert (await http.get(path)).status_code == 200
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"ws://{address}/ws/robot_A"):
            pass
    response = refused.value.response
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert json.loads(response.body)["code"] == "unauthorized"


async def test_a_token_says_who_calls(http, add, database):
    """Its use is noted, once a minute."""
    token = await add("viewer", "anna")
    assert (await http.get("/whoami", headers=bearer(token))).json() == "anna"
    assert (await http.get("/whoami", headers={"Authorization": f"bearer  {token}"})).json() == "anna"
    assert await database.value("SELECT last_used_at > now() - interval '1 minute' FROM access_token")
    assert_refused(await http.post("/change", headers=bearer(token)), 403, "not_allowed")


async def test_a_bad_token_opens_nothing_where_none_is_needed(database_url, add):
    """An empty one neither: a variable that is not set must not make a difference."""
    good = await add("admin")
    body, _, checksum = good.rpartition("_")
    expired, revoked = await add("admin", lasts="-1 s"), await add("admin", revoked=True)
    bad = [good[:-1], f"{body}_000000", good.replace("admin", "robot"), make_token("admin"), expired]
    bad += [revoked, "x", f"{good}, {good}", checksum, f'"{good}"']
    async with (
        server(database_url, exposure="local") as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as http,
    ):
        assert (await http.get("/whoami")).json() == "this machine"
        assert (await http.get("/whoami", headers=bearer(good))).json() == "someone"
        for token in bad:
            assert_refused(await http.get("/whoami", headers=bearer(token)), 401, "unauthorized")
        for value in ("", "Bearer", "bearer"):
            answer = await http.get("/whoami", headers={"Authorization": value})
            assert_refused(answer, 401, "unauthorized")
        twice = [("Authorization", f"Bearer {good}"), ("Authorization", f"Bearer {good}")]
        assert_refused(await http.get("/whoami", headers=twice), 401, "unauthorized")
        basic = await http.get("/whoami", headers={"Authorization": "Basic YTpi"})
        assert basic.json() == "this machine"


async def test_a_token_in_an_address_is_refused_and_not_logged(http, add, caplog, capfd):
    """Even a good one, however it is written."""
    token = await add("admin")
    for path in (f"/whoami?token={token}", f"/{token}", f"/whoami?t={token.replace('_', '%5F')}"):
        answer = await http.get(path, headers=bearer(token))
        problem = assert_refused(answer, 401, "unauthorized")
        assert token not in json.dumps(problem)
    said = capfd.readouterr()
    assert token.rpartition("_")[0] not in caplog.text + said.out + said.err


async def test_a_robot_reaches_its_own(http, address, add):
    """Over HTTP and WebSocket; elsewhere it hears what is needed."""
    token = await add("robot", "robot_A")
    assert (await http.get("/robots/robot_A", headers=bearer(token))).json() == "robot_A"
    problem = assert_refused(await http.get("/robots/robot_B", headers=bearer(token)), 403, "not_allowed")
    assert "robot_A only, not of robot_B" in problem["detail"]
    problem = assert_refused(await http.get("/whoami", headers=bearer(token)), 403, "not_allowed")
    assert "viewer or operator or admin" in problem["detail"]
    async with connect(f"ws://{address}/ws/robot_A", additional_headers=bearer(token)) as socket:
        await socket.send("x")
        assert await socket.recv() == "x"
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"ws://{address}/ws/robot_B", additional_headers=bearer(token)):
            pass
    assert refused.value.response.status_code == 403


async def test_whoever_is_for_some_robots_can_ask_for_all_nowhere(http, add):
    """Where the address says nothing of a robot, and the endpoint does not look."""
    some, everything = await add("viewer", "anna", ["robot_A"]), await add("viewer", "berta")
    assert (await http.get("/robots/robot_A", headers=bearer(some))).status_code == 200
    assert_refused(await http.get("/whoami", headers=bearer(some)), 403, "not_allowed")
    assert (await http.get("/whoami", headers=bearer(everything))).status_code == 200


async def test_browsers_show_a_token_as_a_subprotocol(address, add):
    """Which is never chosen; twice is refused."""
    token = await add("robot", "robot_A")
    async with connect(f"ws://{address}/ws/robot_A", subprotocols=["plain", f"bearer.{token}"]) as socket:
        assert socket.subprotocol == "plain"
    for offered, headers in (
        (["plain", "bearer."], {}),
        (["plain", f"bearer.{make_token('robot')}"], {}),
        (["plain", f"bearer.{token}"], bearer(token)),
    ):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(
                f"ws://{address}/ws/robot_A", subprotocols=offered, additional_headers=headers
            ):
                pass
        assert refused.value.response.status_code == 401


ENDS = {
    "revoked": "UPDATE access_token SET revoked_at = now() WHERE prefix = $1",
    "expired": "UPDATE access_token SET expires_at = now() WHERE prefix = $1",
    "for fewer robots": """
        UPDATE principal SET robot_ids = '{robot_C}'
         WHERE id = (SELECT principal_id FROM access_token WHERE prefix = $1)
    """,
}


@pytest.fixture(params=ENDS)
def end(request, database):
    """Ends a token, in each of the ways."""

    async def end(token):
        await database.connection.execute(ENDS[request.param], prefix_of(token))

    return end


async def test_the_end_of_a_token_ends_its_connections(address, add, end):
    """With its code, and with words; other connections stay."""
    token, other = await add("admin", "anna"), await add("robot", "robot_B")
    async with (
        connect(f"ws://{address}/ws/robot_A", additional_headers=bearer(token)) as socket,
        connect(f"ws://{address}/ws/robot_B", additional_headers=bearer(other)) as staying,
    ):
        await end(token)
        async with asyncio.timeout(PATIENCE_S):
            message = json.loads(await socket.recv())
            assert (message["code"], message["fatal"], message["retryable"]) == ("unauthorized", True, True)
            with pytest.raises(ConnectionClosed):
                await socket.recv()
        assert socket.close_code == 4401
        await staying.send("x")
        assert await staying.recv() == "x"
    assert gate.LOOK_EVERY_S + lasting.REMEMBERED_S < 5


async def test_the_end_of_a_token_ends_its_downloads(http, add, end):
    """However long they are; other downloads go on."""
    token, other = await add("viewer", "anna"), await add("viewer", "berta")
    async with (
        http.stream("GET", "/file", headers=bearer(token)) as stream,
        http.stream("GET", "/file", headers=bearer(other)) as staying,
        asyncio.timeout(PATIENCE_S),
    ):
        assert (stream.status_code, staying.status_code) == (200, 200)
        await end(token)
        with pytest.raises(httpx.RemoteProtocolError):
            await stream.aread()
        others = staying.aiter_raw()
        for _ in range(100):
            assert await anext(others)


class Sending:
    """An upload whose body goes on as long as nobody answers."""

    @classmethod
    async def begun(cls, address, path, token):
        sending = cls()
        host, port = address.rsplit(":", 1)
        sending._reader, sending._writer = await asyncio.open_connection(host, int(port))
        sending._writer.write(
            f"POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n"
            "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        # Whoever is asked for the body has been let in.
        assert await sending.status() == b"100"
        await sending._reader.readline()
        return sending

    async def go_on(self):
        with suppress(ConnectionError):
            self._writer.write(b"1\r\nx\r\n")
            await self._writer.drain()

    async def end(self):
        self._writer.write(b"0\r\n\r\n")

    async def status(self):
        return (await self._reader.readline()).split()[1]

    async def close(self):
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


async def test_the_end_of_a_token_ends_its_uploads(address, add, end):
    """Before their last byte has come; other uploads come to their end."""
    token, other = await add("admin", "anna"), await add("robot", "robot_B")
    sending = await Sending.begun(address, "/file/robot_A", token)
    staying = await Sending.begun(address, "/file/robot_B", other)
    await sending.go_on()
    await end(token)
    answered = asyncio.create_task(sending.status())
    async with asyncio.timeout(PATIENCE_S):
        while not answered.done():
            await sending.go_on()
            await staying.go_on()
            await asyncio.wait([answered], timeout=0.05)
        assert await answered == b"401"
        await staying.end()
        assert await staying.status() == b"200"
    for each in (sending, staying):
        await each.close()
    assert guard.LOOK_AGAIN_S + lasting.REMEMBERED_S < 5


async def test_numbers_tell_nothing_of_other_robots(http, add, database):
    """Whoever tries one after the other does not learn whose they are."""
    add_session = """
        WITH known AS (INSERT INTO robot (robot_id, robot_type) VALUES ($1, 'x'))
        INSERT INTO teleop_session (stream_id, robot_id, robot_type, start_time, fps, state_names,
                                    action_names, cameras, host, delivery)
        VALUES (gen_random_uuid(), $1, 'x', now(), 60, '{}', '{}', '{}', '{}', 'best_effort') RETURNING id
    """
    token = await add("robot", "robot_A")
    theirs = await database.connection.fetchval(add_session, "secret_project_7")
    problem = assert_refused(await http.get(f"/sessions/{theirs}", headers=bearer(token)), 403, "not_allowed")
    assert "another robot's" in problem["detail"]
    assert "secret" not in json.dumps(problem)


async def test_the_end_of_a_token_ends_its_events(http, add, database):
    """Even if none comes; others hear on, and events that end by themselves are all there."""
    token, other = await add("viewer", "anna"), await add("viewer", "berta")
    few = await http.get("/few-events", headers=bearer(token))
    assert few.text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
    async with (
        http.stream("GET", "/events", headers=bearer(token)) as stream,
        http.stream("GET", "/events", headers=bearer(other)) as staying,
        asyncio.timeout(PATIENCE_S),
    ):
        revoke = "UPDATE access_token SET revoked_at = now() WHERE prefix = $1"
        await database.connection.execute(revoke, prefix_of(token))
        assert [each async for each in stream.aiter_lines()] == ["data: first", ""]
        assert await anext(staying.aiter_lines()) == "data: first"
        assert not staying.is_closed


async def test_a_revoked_token_is_soon_refused(http, add, database):
    """It is remembered for a moment only."""
    token = await add("viewer")
    assert (await http.get("/whoami", headers=bearer(token))).status_code == 200
    await database.connection.execute("UPDATE access_token SET revoked_at = now()")

    async def refused():
        return (await http.get("/whoami", headers=bearer(token))).status_code == 401

    await wait_for(refused)


async def test_what_changes_something_is_noted(http, add, database):
    """Who, what, when, by which token; reading is not, and what was refused is not."""
    token = await add("operator", "anna")
    assert (await http.post("/change", headers=bearer(token))).status_code == 200
    await http.get("/whoami", headers=bearer(token))
    await http.post("/change", headers=bearer(await add("viewer")))
    (noted,) = await database.fetch("SELECT * FROM audit")
    assert (noted["principal"], noted["role"], noted["action"]) == ("anna", "operator", "whoami")
    assert (noted["token_prefix"], noted["subject"]) == (prefix_of(token), "/change")
    assert noted["address"] == "127.0.0.1"


async def test_a_trusted_network_needs_no_token(database_url):
    """As an operator has said."""
    async with (
        server(database_url, exposure="lab", trust_network=True) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as http,
    ):
        assert (await http.get("/whoami")).json() == "the trusted network"


async def test_without_the_database_no_token_is_believed(add):
    """Nor refused for good: a robot tries again."""
    app = assemble("example", [PART], exposure="local")
    async with (
        serving(app) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as http,
    ):
        answer = await http.get("/whoami", headers=bearer(await add("admin")))
        assert (answer.status_code, answer.json()["retryable"]) == (503, True)
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"ws://{address}/ws/a", additional_headers=bearer(make_token("robot"))):
                pass
        assert refused.value.response.status_code == 503


def test_an_address_without_its_need_is_not_assembled():
    """Nobody can forget it."""
    with pytest.raises(TypeError, match="needs"):
        Operation("GET", "/x", whoami)
    with pytest.raises(TypeError, match="needs"):
        Conversation("/x", echo)


@pytest.fixture
def few(monkeypatch):
    """Limits that a test reaches, and that time does not lift while it runs."""
    for name in ("CALLER", "STRANGER"):
        monkeypatch.setattr(rates, f"{name}_PER_SECOND", 0.001)
        monkeypatch.setattr(rates, f"{name}_BURST", 3)


async def test_requests_of_one_caller_are_limited(few, database_url, add):
    """Not what a robot sends, nor what others ask; whoever is refused hears when to come back."""
    anna, berta, robot = (
        {"Authorization": f"Bearer {token}"}
        for token in (
            await add("viewer", "anna"),
            await add("viewer", "berta"),
            await add("robot", "robot_A"),
        )
    )
    async with server(database_url, exposure="lab") as address, httpx.AsyncClient(timeout=PATIENCE_S) as http:
        told = [await http.get(f"http://{address}/whoami", headers=anna) for _ in range(4)]
        assert [answer.status_code for answer in told] == [200, 200, 200, 429]
        problem = told[-1].json()
        assert (problem["code"], problem["limit"], problem["retryable"]) == ("rate_limited", 0.001, True)
        assert int(told[-1].headers["Retry-After"]) > 900
        assert (await http.get(f"http://{address}/whoami", headers=berta)).status_code == 200
        assert (await http.get(f"http://{address}/open", headers=anna)).status_code == 200
        for _ in range(5):
            async with connect(f"ws://{address}/ws/robot_A", additional_headers=robot) as line:
                for _ in range(10):
                    await line.send("sample")
                    assert await line.recv() == "sample"


async def test_guesses_of_one_address_are_limited(few, database_url, add):
    """Before the database is asked; another address, and a token that was known before, come through."""
    known = {"Authorization": f"Bearer {await add('viewer', 'anna')}"}
    proxy = read_proxies("127.0.0.1")
    async with (
        server(database_url, exposure="lab", proxies=proxy) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as http,
    ):
        here, there = {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.2"}
        assert (await http.get("/whoami", headers=here | known)).status_code == 200
        guesses = [{"Authorization": f"Bearer {make_token('admin')}"} for _ in range(5)]
        told = [(await http.get("/whoami", headers=here | guess)).status_code for guess in guesses]
        assert told == [401, 401, 401, 429, 429]
        assert (await http.get("/whoami", headers=here)).status_code == 429
        assert (await http.get("/whoami", headers=here | known)).status_code == 200
        assert (await http.get("/whoami", headers=there | guesses[0])).status_code == 401


async def test_nothing_is_limited_for_this_account_alone(few, database_url):
    """In the local posture."""
    async with (
        server(database_url, exposure="local") as address,
        httpx.AsyncClient(timeout=PATIENCE_S) as http,
    ):
        told = [(await http.get(f"http://{address}/whoami")).status_code for _ in range(6)]
        assert set(told) == {200}
