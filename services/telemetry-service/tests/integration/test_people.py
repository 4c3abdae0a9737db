"""People sign in by links that are good once, or with a token, and out again."""

import asyncio
import base64
import hashlib
import json
import re

import httpx
import pytest
import pytest_asyncio
from teleop_runtime.access.roles import NEEDS
from teleop_runtime.access.sessions import PLAIN_NAME, SECURE_NAME, make_secret
from teleop_schema.errors import TooManyAttempts
from teleop_telemetry.access import limits, people_endpoints, people_table
from teleop_telemetry.app import create_app
from teleop_telemetry.settings import TelemetrySettings
from teleop_testing.backends.serving import serving
from teleop_testing.waiting import PATIENCE_S, wait_for

FAILED = (403, "sign_in_failed", False)
COOKIE = re.compile(r"(\S+)=([\w-]{43}); Path=/; Max-Age=\d+; HttpOnly; SameSite=Lax(; Secure)?")


@pytest_asyncio.fixture
async def closed(database_url):
    """A client of a service that nobody uses without signing in; it is told what a proxy says."""
    settings = TelemetrySettings(
        database_url=database_url, exposure="lab", trust_network=False, proxies="127.0.0.1", _env_file=None
    )
    async with (
        serving(create_app(settings)) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as client,
    ):
        yield client


@pytest.fixture
def add(http):
    """Makes a person; returns the code of the link. The admin is whoever uses the machine."""

    async def add(name="anna", role="operator", robots=None) -> str:
        wanted = {"name": name, "role": role, "robot_ids": robots}
        answer = await http.post("/people", json=wanted)
        assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store"), answer.text
        return code_in(answer)

    return add


def code_in(answer) -> str:
    page, _, code = answer.json()["link"].partition("#")
    assert page == f"{str(answer.url.join('/')).rstrip('/')}/sign-in"
    return code


async def sign_in(client, code, **headers):
    """The answer, and the cookie that came with it."""
    answer = await client.post("/sign-in", json={"code": code}, headers=headers)
    client.cookies.clear()
    found = COOKIE.fullmatch(answer.headers.get("set-cookie", ""))
    return answer, {"Cookie": f"{found[1]}={found[2]}"} if found else {}


async def signed_in(client, code):
    answer, cookie = await sign_in(client, code)
    assert answer.status_code == 200, answer.text
    return cookie


def outcome(answer):
    problem = answer.json()
    return answer.status_code, problem["code"], problem["retryable"]


async def test_a_link_signs_a_person_in_once(add, closed, database):
    """With what the person may do; the database has neither the code nor the session's id."""
    code = await add(robots=["robot_A", "robot_B"])
    answer, cookie = await sign_in(closed, code)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    told = answer.json()
    expected = {"name": "anna", "role": "operator", "robot_ids": ["robot_A", "robot_B"]}
    assert told == {**expected, "expires_at": told["expires_at"]}
    me = (await closed.get("/me", headers=cookie)).json()
    may = ["nothing", "known", "metrics", "read", "browse", "verify", "operate", "push"]
    assert me == {**expected, "how": "session", "may": may, "expires_at": told["expires_at"]}
    assert (await closed.get("/sessions?robot_id=robot_A", headers=cookie)).status_code == 200
    assert (await closed.get("/sessions?robot_id=robot_C", headers=cookie)).status_code == 403
    assert (await closed.get("/people", headers=cookie)).status_code == 403
    assert outcome((await sign_in(closed, code))[0]) == FAILED
    stored = str([*await database.fetch("SELECT * FROM web_session, sign_in_link, audit")])
    assert code not in stored
    assert cookie["Cookie"].partition("=")[2] not in stored
    assert (
        await database.value("SELECT action || principal FROM audit ORDER BY id DESC LIMIT 1")
        == "sign_inanna"
    )


async def test_whatever_is_wrong_with_a_code_is_said_in_the_same_words(add, closed, database):
    """Wrong, used, expired, replaced by a newer one, or not a code at all."""
    used, replaced = await add(), await add("berta")
    await signed_in(closed, used)
    await add("berta")
    expired = await add("carla")
    await database.connection.execute("UPDATE sign_in_link SET expires_at = now()")
    codes = (
        used,
        replaced,
        expired,
        make_secret(),
        "",
        "K7QF-2M9P",
        "' OR 1=1",
        f"lrb_admin_{make_secret()}",
    )
    answers = [(await sign_in(closed, code))[0] for code in codes]
    assert {outcome(answer) for answer in answers} == {FAILED}
    assert len({answer.json()["detail"] for answer in answers}) == 1
    assert await database.value("SELECT count(*) FROM web_session") == 1


async def test_of_many_who_show_one_code_one_signs_in(add, closed):
    """However many at the same time."""
    code = await add()
    answers = await asyncio.gather(*(closed.post("/sign-in", json={"code": code}) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 403, 403, 403]


@pytest.fixture
def few_sign_ins(monkeypatch):
    """Of one address."""
    monkeypatch.setattr(people_endpoints, "MAX_SIGN_INS_PER_MINUTE", 3)


async def test_signing_in_is_limited(few_sign_ins, add, closed):
    """For each address, so that nobody keeps others out."""
    code, there = await add(), {"X-Forwarded-For": "192.0.2.9"}
    answers = [(await sign_in(closed, make_secret(), **there))[0] for _ in range(8)]
    assert (429, "too_many_attempts", True) in {outcome(answer) for answer in answers}
    assert (await sign_in(closed, code))[0].status_code == 200


def test_attempts_of_an_address_are_counted(monkeypatch):
    """Of IPv6, those of its network; whoever is refused hears how long to wait."""
    now_s = 60.0
    monkeypatch.setattr(limits.time, "monotonic", lambda: now_s)
    attempts = limits.Attempts("may try", 2)
    for address in ("192.0.2.1", "2001:db8::1", "192.0.2.1", "2001:db8::2"):
        attempts.count(address)
    for address in ("192.0.2.1", "2001:db8::3"):
        with pytest.raises(TooManyAttempts, match="at most 2 may try per minute") as refused:
            attempts.count(address)
        assert refused.value.retry_after_s == 30
    now_s = 90.0
    attempts.count("192.0.2.1")


async def test_a_page_of_another_site_signs_nobody_in_or_out(add, closed):
    """Into somebody else's account, or out of their own."""
    code = await add()
    for said in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert (await sign_in(closed, code, **said))[0].status_code == 403
    cookie = await signed_in(closed, code)
    for said in ({}, {"Origin": "http://evil.example"}):
        assert (await closed.post("/sign-out", headers=cookie | said)).status_code == 403
    assert (await closed.get("/me", headers=cookie)).status_code == 200


async def test_a_token_is_swapped_for_a_session(http, closed):
    """Of the same principal, which ends with the token and not later."""
    wanted = {"name": "berta", "role": "viewer", "expires_at": "2999-01-01T00:00:00Z"}
    made = (await http.post("/tokens", json=wanted)).json()
    cookie = await signed_in(closed, f" {made['token']}\n")
    me = (await closed.get("/me", headers=cookie)).json()
    assert (me["name"], me["role"], me["how"]) == ("berta", "viewer", "session")
    assert me["expires_at"] < "2999"
    me = (await closed.get("/me", headers={"Authorization": f"Bearer {made['token']}"})).json()
    assert (me["how"], me["expires_at"]) == ("token", "2999-01-01T00:00:00Z")
    await http.delete(f"/tokens/{made['id']}")
    assert outcome((await sign_in(closed, made["token"]))[0]) == FAILED

    async def refused():
        return (await closed.get("/me", headers=cookie)).status_code == 401

    await wait_for(refused)


async def test_who_calls_where_nobody_signs_in(http):
    """Whoever uses the machine."""
    me = (await http.get("/me")).json()
    assert me == {
        "name": "this machine",
        "role": "admin",
        "robot_ids": None,
        "how": "this machine",
        "may": [*NEEDS],
        "expires_at": None,
    }


async def test_who_calls_from_a_trusted_network(database_url):
    """It may do everything, but let somebody in for longer than it is trusted."""
    settings = TelemetrySettings(
        database_url=database_url, exposure="lab", trust_network=True, _env_file=None
    )
    async with (
        serving(create_app(settings)) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=PATIENCE_S) as client,
    ):
        me = (await client.get("/me")).json()
        assert (me["role"], me["how"], {*NEEDS} - {*me["may"]}) == ("admin", "network", {"grant"})
        assert (await client.get("/people")).status_code == 200
        made = await client.post("/people", json={"name": "eve", "role": "admin"})
        assert outcome(made) == (401, "unauthorized", True)


async def test_signing_out_ends_the_session(add, closed):
    """For whoever has copied the cookie, too; without one, nothing happens."""
    cookie = await signed_in(closed, await add())
    own_page = {"Origin": str(closed.base_url)}
    answer = await closed.post("/sign-out", headers=cookie | own_page)
    assert (answer.status_code, answer.headers["set-cookie"]) == (
        204,
        f"{PLAIN_NAME}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax",
    )
    assert (await closed.post("/sign-out", headers=cookie | own_page)).status_code == 204
    assert (await closed.post("/sign-out")).status_code == 204

    async def refused():
        return (await closed.get("/me", headers=cookie)).status_code == 401

    await wait_for(refused)


async def test_behind_tls_the_cookie_is_for_tls(add, closed):
    """As a known proxy says; the link leads through the proxy."""
    proxy = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "lab.example",
        "X-Forwarded-Prefix": "/robots",
    }
    admin = await signed_in(closed, await add("boss", "admin"))
    secure = admin["Cookie"].replace(PLAIN_NAME, SECURE_NAME)
    made = await closed.post(
        "/people",
        json={"name": "anna", "role": "viewer"},
        headers={**proxy, "Cookie": secure, "Origin": "https://lab.example"},
    )
    page, _, code = made.json()["link"].partition("#")
    assert page == "https://lab.example/robots/sign-in"
    answer, cookie = await sign_in(closed, code, **proxy)
    assert answer.headers["set-cookie"].endswith("; Secure")
    assert cookie["Cookie"].startswith(f"{SECURE_NAME}=")


async def test_people_are_listed_changed_and_removed(http, add, closed):
    """Another role ends the sessions; who is removed has neither sessions nor tokens."""
    cookie = await signed_in(closed, await add("Anna", "viewer"))
    (listed,) = (await http.get("/people")).json()["people"]
    assert (listed["name"], listed["role"], listed["sessions"], listed["waiting"]) == (
        "Anna",
        "viewer",
        1,
        False,
    )
    await add("anna", "viewer", ["robot_A"])
    assert (await http.get("/people")).json()["people"][0]["robot_ids"] == ["robot_A"]
    await add("anna", "admin")
    (listed,) = (await http.get("/people")).json()["people"]
    assert (listed["name"], listed["role"], listed["sessions"], listed["waiting"]) == (
        "anna",
        "admin",
        0,
        True,
    )

    async def refused(headers):
        return (await closed.get("/me", headers=headers)).status_code == 401

    await wait_for(lambda: refused(cookie))
    link = await http.post("/people/anna/links")
    assert (link.status_code, link.headers["cache-control"]) == (201, "no-store")
    cookie = await signed_in(closed, code_in(link))
    token = (await http.post("/tokens", json={"name": "anna", "role": "operator"})).json()["token"]
    other = (await http.post("/tokens", json={"name": "anna2", "role": "operator"})).json()["token"]
    robot = (await http.post("/tokens", json={"name": "anna", "role": "robot"})).json()["token"]
    unused = code_in(await http.post("/people/anna/links"))
    assert (await http.delete("/people/ANNA")).status_code == 204
    for headers in (cookie, {"Authorization": f"Bearer {token}"}):
        await wait_for(lambda headers=headers: refused(headers))
    for kept in (other, robot):
        assert (await closed.get("/me", headers={"Authorization": f"Bearer {kept}"})).status_code == 200
    assert outcome((await sign_in(closed, unused))[0]) == FAILED
    assert (await http.get("/people")).json() == {"people": []}
    for missing in (
        await http.delete("/people/anna"),
        await http.post("/people/anna/links"),
        await http.delete("/people/%00"),
    ):
        assert outcome(missing) == (404, "person_not_found", False)
    changes = (await http.get("/audit?limit=1000")).json()["changes"]
    done = {(change["action"], change["subject"]) for change in changes}
    assert {
        ("add_person", "the admin anna"),
        ("link_person", "the admin anna"),
        ("remove_person", "/people/ANNA"),
    } < done


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"name": "x", "role": "robot"}, "role"),
        ({"name": "", "role": "viewer"}, "name"),
        ({"name": "a/b", "role": "viewer"}, "name"),
        ({"name": "x\n", "role": "viewer"}, "name"),
        ({"name": "x", "role": "viewer", "robot_ids": ["../x"]}, "robot_ids"),
        ({"name": "x", "role": "viewer", "robot_ids": []}, "robot_ids"),
    ],
)
async def test_a_person_that_nobody_can_mean(http, wanted, field):
    """The error names the field."""
    answer = await http.post("/people", json=wanted)
    assert (answer.status_code, answer.json()["field"].split("[")[0]) == (422, field)


async def test_a_person_has_so_many_sessions(http, add, closed, database, monkeypatch):
    """Whoever signs in once more ends the one that began first; what is long over is forgotten."""
    monkeypatch.setattr(people_table, "MAX_SESSIONS", 2)
    await add()
    cookies = [await signed_in(closed, code_in(await http.post("/people/anna/links"))) for _ in range(3)]
    assert await database.value("SELECT count(*) FROM web_session") == 2
    assert [(await closed.get("/me", headers=each)).status_code for each in cookies] == [401, 200, 200]
    await database.connection.execute("UPDATE web_session SET expires_at = now() - interval '31 days'")
    await signed_in(closed, await add("berta"))
    assert await database.value("SELECT count(*) FROM web_session") == 1


async def test_the_page_runs_its_own_script_alone(closed):
    """And fetches nothing from elsewhere."""
    page = await closed.get("/sign-in")
    assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
    assert page.headers["referrer-policy"] == "no-referrer"
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert policy["connect-src"] == "'self'"
    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not re.findall(r"(?:src|href)=|url\(|https?://", page.text)


async def test_the_commands(command, http, closed):
    """People, and a link for whoever runs the backend; what they do is noted."""
    said = await command("people", "add", "anna", "--role", "viewer", "--robot", "robot_A")
    link, hint = said.splitlines()
    assert link.startswith("http://localhost:8000/sign-in#")
    assert "signs anna in, with the role viewer" in hint
    cookie = await signed_in(closed, link.partition("#")[2])
    listed = (await command("people", "list")).splitlines()
    assert listed[1].split()[:4] == ["anna", "viewer", "robot_A", "1"]
    said = await command("people", "link", "anna", "--server", "https://lab.example.org/robots/")
    assert said.startswith("https://lab.example.org/robots/sign-in#")
    assert "waits to be used" in await command("people", "list")
    assert "is removed" in await command("people", "remove", "anna")

    async def refused():
        return (await closed.get("/me", headers=cookie)).status_code == 401

    await wait_for(refused)
    for wrong, reason in (
        (("people", "link", "anna"), "there is no person 'anna'"),
        (("people", "remove", "anna"), "there is no person 'anna'"),
        (("people", "add", "a/b", "--role", "viewer"), "'a/b' is not a name"),
        (("people", "add", "a", "--role", "viewer", "--robot", "../x"), "robot_id '../x'"),
        (("people", "add", "a", "--role", "viewer", "--server", "ftp://x"), "not the address of a server"),
    ):
        assert reason in await command(*wrong, status=1)
    first = await command("admin-link", "--server", "10.0.0.5:8000")
    assert first.startswith("http://10.0.0.5:8000/sign-in#")
    second = (await command("admin-link")).splitlines()[0]
    assert outcome((await sign_in(closed, first.splitlines()[0].partition("#")[2]))[0]) == FAILED
    me = await closed.get("/me", headers=await signed_in(closed, second.partition("#")[2]))
    assert (me.json()["name"], me.json()["role"]) == ("admin", "admin")
    changes = (await http.get("/audit")).json()["changes"]
    done = [each["action"] for each in changes if each["principal"] == "command line"]
    assert done == ["admin-link", "admin-link", "people remove", "people link", "people add"]
    assert second.partition("#")[2] not in json.dumps(changes)
