"""Who is let in, over real sockets, by tokens in a real database."""

import json

import httpx
import pytest
from teleop_runtime.access import rates
from teleop_runtime.access.tokens import make_token, prefix_of
from teleop_runtime.proxies import read_proxies
from teleop_runtime.serving.app import assemble
from teleop_runtime.serving.operations import Conversation, Operation
from teleop_testing.backends.guarded import PART, assert_refused, bearer, echo, guarded, whoami
from teleop_testing.backends.serving import serving
from teleop_testing.robots.lines import connect
from teleop_testing.waiting import PATIENCE_S
from websockets.exceptions import InvalidStatus


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
        guarded(database_url, exposure="local") as address,
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
    problem, never = [
        (await http.get(f"/sessions/{number}", headers=bearer(token))).json() for number in (theirs, 777)
    ]
    assert (problem["status"], problem["code"]) == (404, "session_not_found")
    assert problem["detail"].replace(f"session {theirs}", "session 777") == never["detail"]
    assert "secret" not in json.dumps(problem)


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
        guarded(database_url, exposure="lab", trust_network=True) as address,
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
    async with (
        guarded(database_url, exposure="lab") as address,
        httpx.AsyncClient(timeout=PATIENCE_S) as http,
    ):
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
        guarded(database_url, exposure="lab", proxies=proxy) as address,
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
        guarded(database_url, exposure="local") as address,
        httpx.AsyncClient(timeout=PATIENCE_S) as http,
    ):
        told = [(await http.get(f"http://{address}/whoami")).status_code for _ in range(6)]
        assert set(told) == {200}
