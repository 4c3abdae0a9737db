"""Robots join with the line of their fleet, or once an admin approves; no robot is taken over."""

import asyncio
import re

import pytest
from teleop_runtime.access.rates import counted_as
from teleop_runtime.access.sessions import make_secret
from teleop_runtime.access.tokens import kind_of
from teleop_telemetry.access.fleet import table

DENIED = (403, "join_denied", False)
KNOWN = (403, "robot_known", False)
FAILED = (403, "enrolment_failed", False)


def outcome(answer):
    problem = answer.json()
    return answer.status_code, problem["code"], problem["retryable"]


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


async def pool_of(http, **wanted) -> str:
    """The token in a new pool's line."""
    answer = await http.post("/join/pools", json={"name": "arms", **wanted})
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    line: str = answer.json()["line"]
    return line.partition("?pool=")[2]


async def ask(http, robot_id, secret, pool=None):
    return await http.post("/join/requests", json={"robot_id": robot_id, "secret": secret, "pool": pool})


async def waiting(http):
    return (await http.get("/join/requests")).json()["requests"]


async def test_robots_of_a_fleet_join_with_one_line(http, service, database):
    """Each gets a token of its own, and needs nobody; the line is kept nowhere."""
    made = (await http.post("/join/pools", json={"name": "arms", "prefix": "arm_"})).json()
    assert re.fullmatch(rf"lrb://{re.escape(service)}/\?pool=lrb_pool_\w+", made["line"])
    pool = made["line"].partition("=")[2]
    for robot_id in ("arm_01", "arm_02"):
        joined = await ask(http, robot_id, make_secret(), pool)
        assert (joined.status_code, joined.headers["cache-control"]) == (200, "no-store")
        token = joined.json()["token"]
        assert kind_of(token) == "robot"
        me = (await http.get("/me", headers=bearer(token))).json()
        assert (me["name"], me["robot_ids"]) == (robot_id, [robot_id])
    assert outcome(await ask(http, "leg_01", make_secret(), pool)) == FAILED
    (listed,) = (await http.get("/join/pools")).json()["pools"]
    assert (listed["robots"], listed["waiting"], listed["beginning"]) == (2, 0, pool[:15])
    assert pool not in str(await database.fetch("SELECT * FROM robot_pool"))
    assert outcome(await http.get("/sessions", headers=bearer(pool))) == (401, "unauthorized", True)
    subjects = [each["subject"] for each in (await http.get("/audit")).json()["changes"]]
    assert subjects == ["arm_02 by the pool arms", "arm_01 by the pool arms", "the pool arms"]


async def test_no_robot_is_taken_over(http, database):
    """One that has recorded, has a token, was given a line, or has joined with the same pool."""
    pool = await pool_of(http)
    await database.connection.execute("INSERT INTO robot (robot_id, robot_type) VALUES ('recorded', 'arm')")
    await http.post("/tokens", json={"name": "with_token", "role": "robot"})
    await http.post("/robots/enrolled/enrolments")
    await ask(http, "joined", make_secret(), pool)
    for robot_id in ("recorded", "with_token", "enrolled", "joined"):
        assert outcome(await ask(http, robot_id, make_secret(), pool)) == KNOWN
    secrets = [make_secret() for _ in range(4)]
    answers = await asyncio.gather(*(ask(http, "one_name", each, pool) for each in secrets))
    assert sorted(each.status_code for each in answers) == [200, 403, 403, 403]


async def test_a_computer_that_asks_again_gets_its_token(http):
    """An answer may be lost; the token in it is then worth nothing. A token that was revoked stays so."""
    pool, secret = await pool_of(http), make_secret()
    first, second = [(await ask(http, "arm_07", secret, pool)).json()["token"] for _ in range(2)]
    statuses = [(await http.get("/sessions", headers=bearer(each))).status_code for each in (first, second)]
    assert statuses == [401, 200]
    assert outcome(await ask(http, "arm_08", secret, pool)) == FAILED
    assert outcome(await ask(http, "arm_07", secret)) == FAILED
    (newest, *_) = (await http.get("/tokens")).json()["tokens"]
    await http.delete(f"/tokens/{newest['id']}")
    assert outcome(await ask(http, "arm_07", secret, pool)) == DENIED
    assert outcome(await ask(http, "arm_07", make_secret(), pool)) == KNOWN


async def test_a_pool_has_an_end(http, database):
    """A number of robots, a time, and somebody who removes it; those that have joined stay."""
    pool = await pool_of(http, max_robots=2)
    token = (await ask(http, "arm_01", make_secret(), pool)).json()["token"]
    answers = await asyncio.gather(*(ask(http, f"arm_1{n}", make_secret(), pool) for n in range(3)))
    assert sorted(each.status_code for each in answers) == [200, 403, 403]
    assert outcome(await ask(http, "arm_20", make_secret(), pool)) == (403, "pool_full", True)
    again = await http.post("/join/pools", json={"name": "arms"})
    assert outcome(again) == (409, "pool_exists", False)
    assert (await http.delete("/join/pools/arms")).status_code == 204
    assert outcome(await http.delete("/join/pools/arms")) == (404, "pool_not_found", False)
    assert outcome(await ask(http, "arm_21", make_secret(), pool)) == FAILED
    assert (await http.get("/sessions", headers=bearer(token))).status_code == 200
    pool = await pool_of(http, expires_at="2100-01-01T00:00:00Z")
    await database.connection.execute("UPDATE robot_pool SET expires_at = now()")
    for wrong in (pool, pool[:-1], token, "", "lrb_pool_x"):
        assert outcome(await ask(http, "arm_22", make_secret(), wrong)) == FAILED
    past = await http.post("/join/pools", json={"name": "old", "expires_at": "2001-01-01T00:00:00Z"})
    assert (past.status_code, past.json()["field"]) == (422, "expires_at")


async def test_robots_of_a_fleet_can_wait_for_an_admin(http):
    """Nothing is given out before; two can't wait for one name, and a removed pool lets none of them in."""
    pool, secret = await pool_of(http, approve=True), make_secret()
    asked = (await ask(http, "arm_01", secret, pool)).json()
    assert asked["token"] is None
    assert outcome(await ask(http, "arm_01", make_secret(), pool)) == KNOWN
    (listed,) = await waiting(http)
    shown = (listed["robot_id"], listed["code"], listed["pool"], listed["known"], listed["approved"])
    assert shown == ("arm_01", asked["code"], "arms", False, False)
    assert (await http.post(f"/join/requests/{asked['code'].lower()}/approval")).status_code == 204
    assert (await waiting(http))[0]["approved"]
    assert kind_of((await ask(http, "arm_01", secret, pool)).json()["token"]) == "robot"
    assert await waiting(http) == []
    secret = make_secret()
    last = (await ask(http, "arm_02", secret, pool)).json()
    await http.delete("/join/pools/arms")
    assert await waiting(http) == []
    assert outcome(await http.post(f"/join/requests/{last['code']}/approval"))[0] == 404
    assert outcome(await ask(http, "arm_02", secret, pool)) == FAILED


async def test_a_robot_asks_and_an_admin_approves(http):
    """By the code that both see; the robot may exist, and the admin is told so."""
    await http.post("/tokens", json={"name": "arm_07", "role": "robot"})
    secret, other = make_secret(), make_secret()
    asked = (await ask(http, "arm_07", secret)).json()
    await ask(http, "arm_07", other)
    assert [each["known"] for each in await waiting(http)] == [True, True]
    assert asked["code"] == (await ask(http, "arm_07", secret)).json()["code"]
    assert (await http.post(f"/join/requests/{asked['code']}/approval")).status_code == 204
    token = (await ask(http, "arm_07", secret)).json()["token"]
    assert (await http.get("/sessions", headers=bearer(token))).status_code == 200
    assert (await ask(http, "arm_07", other)).json()["token"] is None
    for code in (asked["code"], "K7QF-2M9P", "nonsense"):
        refused = await http.post(f"/join/requests/{code}/approval")
        assert outcome(refused) == (404, "join_request_not_found", False)


async def test_whoever_is_denied_or_too_late_hears_it(http, database):
    """And nothing else: the same computer has to make a new request."""
    denied, late, approved = [make_secret() for _ in range(3)]
    codes = [(await ask(http, "arm_07", each)).json()["code"] for each in (denied, late, approved)]
    assert (await http.delete(f"/join/requests/{codes[0]}")).status_code == 204
    assert outcome(await http.delete(f"/join/requests/{codes[0]}"))[0] == 404
    assert outcome(await http.post(f"/join/requests/{codes[0]}/approval"))[0] == 404
    assert outcome(await ask(http, "arm_07", denied)) == DENIED
    await http.post(f"/join/requests/{codes[2]}/approval")
    await database.connection.execute("UPDATE join_request SET expires_at = now()")
    for secret in (late, approved):
        assert outcome(await ask(http, "arm_07", secret)) == (403, "join_expired", False)
    assert await database.value("SELECT count(*) FROM access_token") == 0


async def test_strangers_cannot_fill_the_table(http, database, monkeypatch):
    """Neither one address nor all of them; fleets need none of their places."""
    monkeypatch.setattr(table, "MAX_WAITING_OF_ADDRESS", 2)
    first = make_secret()
    answers = [await ask(http, f"r{n}", each) for n, each in enumerate((first, make_secret(), make_secret()))]
    assert [each.status_code for each in answers] == [200, 200, 429]
    assert outcome(answers[2]) == (429, "too_many_attempts", True)
    assert (await ask(http, "r0", first)).status_code == 200
    assert (await ask(http, "arm_01", make_secret(), await pool_of(http))).status_code == 200
    monkeypatch.setattr(table, "MAX_WAITING_OF_ADDRESS", 10)
    monkeypatch.setattr(table, "MAX_WAITING", 3)
    answers = await asyncio.gather(*(ask(http, f"s{n}", make_secret()) for n in range(4)))
    assert sorted(each.status_code for each in answers) == [200, 429, 429, 429]
    old = "UPDATE join_request SET expires_at = now() - interval '2 days' WHERE joined_at IS NULL"
    await database.connection.execute(old)
    assert (await ask(http, "later", make_secret())).status_code == 200
    assert await database.value("SELECT count(*) FROM join_request") == 2


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.168.1.5", "192.168.1.5"),
        ("::ffff:192.168.1.5", "192.168.1.5"),
        ("fd00:1:2:3:4:5:6:7", "fd00:1:2:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_addresses_of_one_network_count_as_one(address, counted):
    """Whoever has IPv6 has more addresses than anybody can count."""
    assert counted_as(address) == counted


async def test_the_command_makes_lines_for_fleets(command, http):
    """With the address that the robots need, and lists and removes them."""
    server = "https://lab.example.org/robots/"
    said = await command(
        "robots", "pool", "add", "arms", "--prefix", "arm_", "--max", "1", "--server", server
    )
    line = said.splitlines()[0]
    assert line.startswith("lrbs://lab.example.org/robots/?pool=lrb_pool_")
    pool = line.partition("=")[2]
    assert (await ask(http, "arm_01", make_secret(), pool)).status_code == 200
    listed = (await command("robots", "pool", "list")).splitlines()[1].split()
    assert listed == ["arms", "arm_…", "1", "of", "1", "0", "at", "once", "never"]
    assert "is removed" not in await command("robots", "pool", "remove", "arms")
    assert outcome(await ask(http, "arm_02", make_secret(), pool)) == FAILED
    assert "there is no pool" in await command("robots", "pool", "remove", "arms", status=1)
    for wrong in (["a/b"], ["arms", "--max", "0"], ["arms", "--prefix", "-"]):
        assert "letters, digits" in await command("robots", "pool", "add", *wrong, status=1)
    actions = [each["action"] for each in (await http.get("/audit")).json()["changes"]]
    assert actions == ["robots pool remove", "ask_to_join", "robots pool add"]


async def test_the_command_decides_who_joins(command, http):
    """With what the robot's computer shows."""
    codes = [(await ask(http, name, make_secret())).json()["code"] for name in ("arm_01", "arm_02")]
    told = await command("robots", "waiting")
    assert [line.split()[:2] for line in told.splitlines()[1:]] == [
        [codes[0], "arm_01"],
        [codes[1], "arm_02"],
    ]
    assert "arm_01 joins" in await command("robots", "approve", codes[0])
    assert "is refused" in await command("robots", "deny", codes[1])
    assert "no robot waits" in await command("robots", "approve", codes[1], status=1)
    actions = [each["action"] for each in (await http.get("/audit")).json()["changes"]]
    assert actions == ["robots deny", "robots approve"]
