"""Tokens are made and revoked, robots join, and what was done is noted."""

import asyncio
import json
import re

import httpx
import pytest
import pytest_asyncio
from teleop_runtime.access.tokens import kind_of
from teleop_telemetry.access import endpoints
from teleop_telemetry.app import create_app
from teleop_telemetry.settings import TelemetrySettings
from teleop_testing.backends.serving import serving
from teleop_testing.waiting import PATIENCE_S

FAILED = (403, "enrolment_failed", False)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def outcome(answer):
    problem = answer.json()
    return answer.status_code, problem["code"], problem["retryable"]


async def code_of(http, robot_id="robot_A") -> str:
    answer = await http.post(f"/robots/{robot_id}/enrolments")
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    code: str = answer.json()["code"]
    return code


async def join(http, code):
    return await http.post("/join", json={"code": code})


async def test_a_robot_joins_once(http, service, database):
    """The line is good once; what it gives is a token of that robot."""
    answer = (await http.post("/robots/robot_A/enrolments")).json()
    assert answer["line"] == f"lrb://{service}/?code={answer['code']}"
    joined = await join(http, answer["code"].lower())
    assert (joined.status_code, joined.headers["cache-control"]) == (200, "no-store")
    told = joined.json()
    assert told == {"robot_id": "robot_A", "token": told["token"], "expires_at": None}
    assert kind_of(told["token"]) == "robot"
    assert (await http.get("/sessions", headers=bearer(told["token"]))).json()["sessions"] == []
    refused = await http.post("/tokens", headers=bearer(told["token"]), json={"name": "x", "role": "admin"})
    assert outcome(refused) == (403, "not_allowed", True)
    assert outcome(await join(http, answer["code"])) == FAILED
    stored = await database.fetch("SELECT hash, prefix FROM access_token")
    assert len(stored) == 1
    assert told["token"] not in str(stored)


async def test_whatever_is_wrong_with_a_code_is_said_in_the_same_words(http, database):
    """Wrong, used, expired, out of tries, or not a code at all."""
    used, expired, tried = [await code_of(http) for _ in range(3)]
    await join(http, used)
    await database.connection.execute(
        "UPDATE enrolment SET expires_at = now() WHERE code_name = $1", expired[:4]
    )
    wrong = f"{tried[:5]}{'0000' if tried[5:] != '0000' else '1111'}"
    answers = [await join(http, wrong) for _ in range(5)]
    answers += [await join(http, code) for code in (tried, used, expired, "", "K7QF-2M9P", "' OR 1=1")]
    assert {outcome(answer) for answer in answers} == {FAILED}
    assert len({answer.json()["detail"] for answer in answers}) == 1
    assert await database.value("SELECT count(*) FROM access_token") == 1


async def test_of_many_who_show_one_code_one_joins(http):
    """However many at the same time."""
    code = await code_of(http)
    answers = await asyncio.gather(*(join(http, code) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 403, 403, 403]


@pytest.fixture
def few_joins(monkeypatch):
    """Of one address."""
    monkeypatch.setattr(endpoints, "MAX_JOINS_PER_MINUTE", 3)


async def test_joining_is_limited(few_joins, http, database_url):
    """Codes can't be guessed by trying them all; whoever tries keeps nobody else out."""
    settings = TelemetrySettings(database_url=database_url, proxies="127.0.0.1", _env_file=None)
    async with (
        serving(create_app(settings)) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as client,
    ):
        guesser, robot = {"X-Forwarded-For": "192.0.2.9"}, {"X-Forwarded-For": "192.0.2.10"}
        guess = {"json": {"code": "K7QF-2M9P"}, "headers": guesser}
        answers = [await client.post("/join", **guess) for _ in range(8)]
        refused = [answer for answer in answers if outcome(answer) == (429, "too_many_attempts", True)]
        assert 0 < int(refused[-1].headers["retry-after"]) <= 20
        code = {"code": await code_of(http)}
        assert (await client.post("/join", json=code, headers=robot)).status_code == 200


async def test_a_robot_has_two_tokens(http):
    """So that it can change them; a third revokes the first."""
    tokens = [(await join(http, await code_of(http))).json()["token"] for _ in range(3)]
    statuses = [(await http.get("/sessions", headers=bearer(token))).status_code for token in tokens]
    assert statuses == [401, 200, 200]
    other = (await join(http, await code_of(http, "robot_B"))).json()["token"]
    assert (await http.get("/sessions", headers=bearer(other))).status_code == 200


async def test_a_token_is_shown_once_and_revoked(http):
    """The list has its beginning; revoking it twice is no fault."""
    made = await http.post(
        "/tokens", json={"name": "anna", "role": "viewer", "robot_ids": ["robot_A", "robot_B"]}
    )
    assert made.status_code == 201
    token = made.json()["token"]
    listed = await http.get("/tokens")
    assert token not in listed.text
    (shown,) = listed.json()["tokens"]
    assert (shown["name"], shown["role"], shown["robot_ids"]) == ("anna", "viewer", ["robot_A", "robot_B"])
    assert token.startswith(shown["prefix"])
    assert outcome(await http.get("/sessions", headers=bearer(token))) == (403, "not_allowed", True)
    mine = await http.get("/sessions?robot_id=robot_A", headers=bearer(token))
    assert mine.json() == {"sessions": [], "next_cursor": None}
    for _ in range(2):
        assert (await http.delete(f"/tokens/{shown['id']}")).status_code == 204
    assert outcome(await http.delete("/tokens/99")) == (404, "token_not_found", False)
    assert outcome(await http.delete(f"/tokens/{2**64}")) == (404, "token_not_found", False)
    changes = (await http.get("/audit")).json()["changes"]
    assert [each["action"] for each in changes] == ["revoke_token", "revoke_token", "make_token"]
    assert {each["principal"] for each in changes} == {"this machine"}
    assert token not in json.dumps(changes)


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"name": "x", "role": "root"}, "role"),
        ({"name": "", "role": "viewer"}, "name"),
        ({"name": "a/b", "role": "robot"}, "name"),
        ({"name": "robot_A", "role": "robot", "robot_ids": ["robot_B"]}, "robot_ids"),
        ({"name": "x", "role": "viewer", "robot_ids": ["../x"]}, "robot_ids"),
        ({"name": "x", "role": "viewer", "robot_ids": []}, "robot_ids"),
        ({"name": "x", "role": "viewer", "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "x\n", "role": "viewer"}, "name"),
    ],
)
async def test_a_token_that_nobody_can_mean(http, wanted, field):
    """The error names the field."""
    answer = await http.post("/tokens", json=wanted)
    assert (answer.status_code, answer.json()["field"].split("[")[0]) == (422, field)


@pytest_asyncio.fixture
async def lab(database_url):
    """A service on a network that it trusts."""
    settings = TelemetrySettings(
        database_url=database_url, exposure="lab", trust_network=True, _env_file=None
    )
    async with (
        serving(create_app(settings)) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as client,
    ):
        yield client


async def test_a_trusted_network_makes_no_tokens(lab, http):
    """They would still work when it is not trusted any more."""
    assert (await lab.get("/tokens")).status_code == 200
    for answer in (
        await lab.post("/tokens", json={"name": "eve", "role": "admin"}),
        await lab.post("/robots/robot_A/enrolments"),
        await lab.delete("/tokens/1"),
    ):
        assert outcome(answer) == (401, "unauthorized", True)
    token = (await http.post("/tokens", json={"name": "anna", "role": "admin"})).json()["token"]
    made = await lab.post("/tokens", json={"name": "berta", "role": "viewer"}, headers=bearer(token))
    assert made.status_code == 201


async def test_the_command_lets_a_robot_join(command, http):
    """With the address that the robot needs."""
    said = await command("robots", "add", "robot_A", "--server", "http://10.0.0.5:8000")
    line, hint = said.splitlines()
    code = re.fullmatch(r"lrb://10\.0\.0\.5:8000/\?code=(\w{4}-\w{4})", line)
    assert f"sync-agent join '{line}'" in hint
    assert "waiting" in await command("robots", "list")
    assert (await join(http, code[1])).status_code == 200
    listed = (await command("robots", "list")).splitlines()
    assert listed[1].split() == ["robot_A", "1", "never", "0", "B"]
    said = await command("robots", "add", "robot_B", "--server", "https://lab.example.org")
    assert said.startswith("lrbs://lab.example.org/?code=")
    behind = "https://lab.example.org/robots/backend/"
    said = await command("robots", "add", "robot_B", "--server", behind)
    assert said.startswith("lrbs://lab.example.org/robots/backend/?code=")


async def test_the_command_widens_nothing_unasked(command, http):
    """Whoever was for some robots stays so, unless somebody says otherwise; so do people."""
    for kind in ("tokens", "people"):
        words = (kind, "add", f"guest-{kind}", "--role", "viewer")
        await command(*words, "--robot", "robot_A")
        refused = await command(*words, status=1)
        assert f"guest-{kind} is for data of robot_A only" in refused
        assert "--all-robots" in refused
        await command(*words, "--all-robots")
        assert "robot_A" not in await command(kind, "list")
    both = await command(*words, "--robot", "a", "--all-robots", status=2)
    assert "not allowed with" in both


@pytest.mark.parametrize("kind", ["tokens", "people"])
async def test_the_api_widens_nothing_unasked(http, kind):
    """As the command: what is left out changes nobody, what is said does."""
    guest = {"name": f"guest-{kind}", "role": "viewer"}
    some = await http.post(f"/{kind}", json=guest | {"robot_ids": ["robot_A"]})
    refused = await http.post(f"/{kind}", json=guest)
    all_of_them = await http.post(f"/{kind}", json=guest | {"robot_ids": None})
    left_out = await http.post(f"/{kind}", json=guest)
    assert [each.status_code for each in (some, refused, all_of_them, left_out)] == [201, 422, 201, 201]
    assert (refused.json()["code"], refused.json()["field"]) == ("bad_input", "robot_ids")
    assert (some.json()["robot_ids"], all_of_them.json()["robot_ids"]) == (["robot_A"], None)


async def test_the_command_makes_and_revokes_tokens(command, http):
    """What it does is noted, too."""
    token = (await command("tokens", "add", "anna", "--role", "viewer")).strip()
    assert kind_of(token) == "viewer"
    listed = await command("tokens", "list")
    assert "anna" in listed
    assert token not in listed
    assert (await http.get("/sessions", headers=bearer(token))).status_code == 200
    prefix = listed.splitlines()[1].split()[1]
    assert "is revoked" in await command("tokens", "revoke", prefix)
    assert "revoked" in await command("tokens", "list")
    assert "there is no token" in await command("tokens", "revoke", "x", status=1)
    assert "robot_id" in await command("robots", "add", "../x", status=1)
    changes = (await http.get("/audit")).json()["changes"]
    assert [each["action"] for each in changes] == ["tokens revoke", "tokens add"]
    assert token not in json.dumps(changes)


async def test_a_robot_may_have_a_quota_of_its_own(http, database, command):
    """By HTTP and on the command line, which both note it; what is kept is shown beside it."""
    none = {"robot_id": "robot_A", "used_bytes": 0, "limit_bytes": None, "own_limit": False}
    none["counted_at"] = None
    assert (await http.get("/robots/robot_A/usage")).json() == none
    await database.connection.execute("INSERT INTO robot_usage VALUES ('robot_A', 12300000000)")
    assert (await http.get("/robots/robot_A/usage")).json() == none | {"used_bytes": None}
    await database.connection.execute("UPDATE robot_usage SET counted_at = '2026-11-23Z'")
    told = (await http.put("/robots/robot_A/quota", json={"limit_bytes": 200_000_000_000})).json()
    mine = {"limit_bytes": 200_000_000_000, "own_limit": True, "counted_at": "2026-11-23T00:00:00Z"}
    assert told == {"robot_id": "robot_A", "used_bytes": 12_300_000_000, **mine}
    for wrong in ({"limit_bytes": 0}, {"limit_bytes": 10**19}, {"limit_bytes": "1"}, {}):
        assert (await http.put("/robots/robot_A/quota", json=wrong)).status_code == 422
    assert (await http.delete("/robots/robot_A/quota")).json()["limit_bytes"] is None
    assert await command("robots", "quota", "robot_A", "0.5") == "robot_A: 12.3 GB, may take 500.0 MB\n"
    await command("robots", "add", "robot_A")
    assert "12.3 GB, may take 500.0 MB" in await command("robots", "list")
    assert await command("robots", "quota", "robot_A", "default") == "robot_A: 12.3 GB\n"
    assert "No robot has come as robot_B yet" in await command("robots", "quota", "robot_B", "0.5")
    assert "robot_B  0       never      0 B, may take 500.0 MB  never seen" in await command("robots", "list")
    for wrong in ("-1", "much", "nan", "inf", "1e30"):
        assert "GB" in await command("robots", "quota", "robot_A", wrong, status=2)
    changes = await database.fetch("SELECT action, subject FROM audit WHERE action LIKE '%quota' ORDER BY id")
    assert [(row["action"], row["subject"]) for row in changes] == [
        ("set_quota", "robot_A: 200.0 GB"),
        ("remove_quota", "robot_A: as all robots"),
        ("robots quota", "robot_A: 500.0 MB"),
        ("robots quota", "robot_A: as all robots"),
        ("robots quota", "robot_B: 500.0 MB"),
    ]
