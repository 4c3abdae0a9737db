"""Robots, sessions and episodes, read back over HTTP."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest_asyncio
from teleop_schema.messages import Event
from teleop_testing.backends.database import Database
from teleop_testing.robots.robot import PERIOD_US, STARTED_US, TestRobot, batch, record
from teleop_testing.waiting import until

UNPAUSED = {"pauses": [], "pause_count": 0, "paused_frames": 0, "paused_from": None, "cut_off": False}
UNJUDGED = {"reason": None, "quality": None, "note": None, "tags": [], "operator": None, "revision": 0}

HOUR_US = 3_600_000_000


def episode(index: int, first: int, end: int, **more) -> tuple[Event, Event]:
    return (
        Event(kind="episode_start", episode_index=index, frame_index=first),
        Event(kind="episode_end", episode_index=index, frame_index=end, **more),
    )


@pytest_asyncio.fixture
async def fleet(service, database):
    """Five sessions of two robots; returns their ids, oldest first."""
    sessions = [
        await record(service, "robot_A", task="pick", started_at_us=STARTED_US),
        await record(service, "robot_A", task="place", started_at_us=STARTED_US + HOUR_US),
        await record(
            service,
            "robot_B",
            events=episode(0, 0, 5, outcome="success", task="stack"),
            started_at_us=STARTED_US + 2 * HOUR_US,
        ),
        await record(
            service,
            "robot_B",
            events=episode(0, 0, 5, outcome="failure"),
            started_at_us=STARTED_US + 3 * HOUR_US,
        ),
    ]
    async with TestRobot.connected(service, "robot_B") as robot:
        await robot.send(batch(0, 3))
        await robot.acked(3)
        sessions.append(robot.welcome.session_id)
    await database.connection.execute(
        "UPDATE teleop_session SET tags = '{night,lab}' WHERE id = $1", sessions[1]
    )
    return sessions


def iso(us: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)).isoformat()


async def test_sessions_are_filtered(http, fleet):
    """Each filter leaves the sessions it names, newest first."""
    a, b, c, d, e = fleet
    for query, expected in [
        ({}, [e, d, c, b, a]),
        ({"robot_id": "robot_A"}, [b, a]),
        ({"robot_id": "nobody"}, []),
        ({"status": "complete"}, [d, c, b, a]),
        ({"status": "recording"}, [e]),
        ({"task": "place"}, [b]),
        ({"task": "stack"}, [c]),
        ({"tag": "night"}, [b]),
        ({"outcome": "success"}, [c]),
        ({"outcome": "failure", "robot_id": "robot_A"}, []),
        ({"since": iso(STARTED_US + HOUR_US), "until": iso(STARTED_US + 3 * HOUR_US)}, [c, b]),
        ({"task": "'; DROP TABLE teleop_session; --"}, []),
    ]:
        answer = await http.get("/sessions", params=query)
        assert (query, [one["id"] for one in answer.json()["sessions"]]) == (query, expected)


async def test_sessions_come_in_pages(http, fleet):
    """Following the cursor gives every session once."""
    found, cursor = [], None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await http.get("/sessions", params=query)).json()
        assert len(page["sessions"]) <= 2
        found += [one["id"] for one in page["sessions"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert found == fleet[::-1]


async def test_bad_parameters_are_named(http):
    """A parameter that makes no sense is refused by its name."""
    for query, field in [
        ("limit=0", "limit"),
        ("limit=1000000000", "limit"),
        ("limit=ten", "limit"),
        ("cursor=0", "cursor"),
        ("cursor=tampered", "cursor"),
        ("cursor=99999999999999999999999", "cursor"),
        ("status=done", "status"),
        ("outcome=great", "outcome"),
        ("since=yesterday", "since"),
        ("since=2025-01-01T00:00:00", "since"),
        ("since=0001-01-01T00:00:00%2B14:00", "since"),
        ("until=9999-12-31T23:59:59-14:00", "until"),
        ("since=2025-01-02T00:00:00Z&until=2025-01-01T00:00:00Z", "until"),
        ("robot_id=a%00b", "robot_id"),
        ("robot_id=robot_A%0A", "robot_id"),
        ("order=id", "order"),
    ]:
        answer = await http.get(f"/sessions?{query}")
        assert (query, answer.status_code, answer.json()["field"]) == (query, 422, field)


async def test_session_tells_all_about_itself(http, service):
    """One session with its names, cameras, host, episodes and marks."""
    events = (*episode(0, 2, 6, outcome="success"), Event(kind="mark", frame_index=4, note="slipped"))
    session = await record(service, events=events, host={"hostname": "pc"}, task="pick")
    told = (await http.get(f"/sessions/{session}")).json()
    assert (told["robot_id"], told["status"], told["frames"], told["logged"]) == (
        "robot_A",
        "complete",
        10,
        10,
    )
    assert told["state_names"] == told["action_names"] == ["shoulder_pan.pos", "gripper.pos"]
    assert (told["cameras"], told["host"]) == ({}, {"hostname": "pc"})
    assert told["marks"] == [{"frame_index": 4, "note": "slipped"}]
    assert told["episode_list"] == [
        {
            "episode_index": 0,
            "start_frame": 2,
            "end_frame": 6,
            "task": None,
            "tasks": [{"first_frame": 2, "task": None}],
            **UNPAUSED,
            **UNJUDGED,
            "outcome": "success",
            "revision": 1,
        }
    ]


async def test_unknown_sessions(http):
    """An id that no session has is 404 everywhere, however large."""
    for session in ("0", "999", "9223372036854775808", "9" * 40):
        for method, path in [
            ("GET", ""),
            ("PATCH", ""),
            ("DELETE", ""),
            ("GET", "/ledger"),
            ("GET", "/frames"),
            ("PATCH", "/episodes/0"),
        ]:
            answer = await http.request(
                method, f"/sessions/{session}{path}", **({"json": {}} if method == "PATCH" else {})
            )
            told = (answer.status_code, answer.json()["code"], answer.json()["field"])
            assert told == (404, "session_not_found", "session_id"), (method, path)


async def test_session_is_changed(http, service):
    """Task, tags and note change; what is left out stays, null empties."""
    session = await record(service, task="pick")
    answer = await http.patch(f"/sessions/{session}", json={"tags": ["a", "b"], "note": "good light"})
    assert (answer.json()["task"], answer.json()["tags"], answer.json()["note"]) == (
        "pick",
        ["a", "b"],
        "good light",
    )
    answer = await http.patch(f"/sessions/{session}", json={"task": "place", "note": None})
    assert (answer.json()["task"], answer.json()["tags"], answer.json()["note"]) == (
        "place",
        ["a", "b"],
        None,
    )


async def test_bad_changes_of_a_session(http, service):
    """A change that can't be understood changes nothing and names the field."""
    session = await record(service, task="pick")
    for change, field in [
        ({"task": 5}, "task"),
        ({"task": "a\0"}, "task"),
        ({"task": "x" * 5000}, "task"),
        ({"tags": "a"}, "tags"),
        ({"tags": ["a", 5]}, "tags[1]"),
        ({"tags": ["x"] * 101}, "tags"),
        ({"fps": 5}, "fps"),
    ]:
        answer = await http.patch(f"/sessions/{session}", json=change)
        assert (change, answer.status_code, answer.json()["field"]) == (change, 422, field)
    assert (await http.get(f"/sessions/{session}")).json()["task"] == "pick"


async def test_deleted_session_is_hidden(http, service, database):
    """A deleted session is in no list, and its frames are still in the database."""
    session = await record(service)
    assert (await http.delete(f"/sessions/{session}")).status_code == 204
    assert (await http.get("/sessions")).json()["sessions"] == []
    for method in ("GET", "DELETE"):
        assert (await http.request(method, f"/sessions/{session}")).status_code == 404
    assert len(await database.frame_indexes(session)) == 10


async def test_episode_is_changed(http, service):
    """Task, outcome, note and bounds of an episode change; what is left out stays."""
    session = await record(service, events=episode(0, 2, 6, outcome="failure"))
    path = f"/sessions/{session}/episodes/0"
    answer = await http.patch(path, json={"outcome": "success", "start_frame": 3})
    assert answer.json() == {
        "episode_index": 0,
        "start_frame": 3,
        "end_frame": 6,
        "task": None,
        "tasks": [{"first_frame": 3, "task": None}],
        **UNPAUSED,
        **UNJUDGED,
        "outcome": "success",
        "revision": 2,
    }
    answer = await http.patch(path, json={"end_frame": 10, "note": "trimmed"})
    assert (answer.json()["start_frame"], answer.json()["end_frame"], answer.json()["note"]) == (
        3,
        10,
        "trimmed",
    )


async def test_bad_changes_of_an_episode(http, service):
    """Bounds that make no sense, and unknown fields and episodes, are refused."""
    session = await record(service, events=episode(0, 2, 6))
    for number, change, status, field in [
        (0, {"start_frame": 7}, 422, "start_frame"),
        (0, {"end_frame": 1}, 422, "end_frame"),
        (0, {"end_frame": 11}, 422, "end_frame"),
        (0, {"start_frame": 5, "end_frame": 4}, 422, "end_frame"),
        (0, {"start_frame": -1}, 422, "start_frame"),
        (0, {"end_frame": 2**70}, 422, "end_frame"),
        (0, {"end_frame": None}, 422, "end_frame"),
        (0, {"outcome": "great"}, 422, "outcome"),
        (0, {"length": 4}, 422, "length"),
        (1, {}, 404, "episode_index"),
        (2**40, {}, 404, "episode_index"),
    ]:
        answer = await http.patch(f"/sessions/{session}/episodes/{number}", json=change)
        assert (change, answer.status_code, answer.json()["field"]) == (change, status, field)
    [stored] = (await http.get(f"/sessions/{session}")).json()["episode_list"]
    assert (stored["start_frame"], stored["end_frame"]) == (2, 6)


async def test_robots_are_online_while_they_record(http, fleet):
    """Every robot with its newest session; online while frames come in, with its measured rate."""
    a, b = (await http.get("/robots")).json()
    assert (a["robot_id"], a["session_id"], a["online"], a["lag_s"]) == ("robot_A", fleet[1], False, None)
    assert (b["robot_id"], b["session_id"], b["online"]) == ("robot_B", fleet[4], True)
    assert b["rate_hz"] == round(1e6 / PERIOD_US, 3)
    assert b["lag_s"] > 0


async def test_robots_are_not_chosen(http):
    """What would be passed over is refused by its name, as for sessions."""
    answer = await http.get("/robots?online=true")
    assert (answer.status_code, answer.json()["field"]) == (422, "online")


async def test_health_and_metrics(http, service):
    """The process tells that it lives, that it is ready, and what it counts."""
    await record(service)
    assert (await http.get("/healthz")).json() == {"status": "ok"}
    assert (await http.get("/readyz")).json() == {"status": "ready"}
    metrics = (await http.get("/metrics")).text
    for name in ("frames_received_total", "frames_committed_total", "commit_seconds_count", "held_bytes"):
        assert f"telemetry_{name}" in metrics


async def test_every_address_is_described(http):
    """/openapi.json knows the addresses of robots, too, and those of machines that watch over the service."""
    document = (await http.get("/openapi.json")).json()
    assert set(document["paths"]) == {
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/ws/log/{robot_id}",
        "/robots",
        "/sessions",
        "/sessions/{session_id}",
        "/sessions/{session_id}/episodes/{episode_index}",
        "/sessions/{session_id}/episodes/{episode_index}/history",
        "/sessions/{session_id}/history",
        "/sessions/{session_id}/episodes/{episode_index}/undo",
        "/episodes",
        "/flags",
        "/flags/{flag}",
        "/sessions/{session_id}/episodes/{episode_index}/flags",
        "/outcome-reasons",
        "/outcome-reasons/{reason}",
        "/sessions/{session_id}/give-up-missing",
        "/sessions/{session_id}/ledger",
        "/sessions/{session_id}/frames",
        "/tokens",
        "/tokens/{token_id}",
        "/robots/{robot_id}/enrolments",
        "/robots/{robot_id}/quota",
        "/robots/{robot_id}/usage",
        "/join",
        "/join/pools",
        "/join/pools/{pool}",
        "/join/requests",
        "/join/requests/{code}",
        "/join/requests/{code}/approval",
        "/me",
        "/people",
        "/people/{person}",
        "/people/{person}/links",
        "/sign-in",
        "/sign-out",
        "/audit",
        "/authority",
        "/erasures",
        "/erasures/{erasure_id}",
    }


WAITING = """
SELECT pid FROM pg_stat_activity
 WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%teleop_frame%'
"""


async def test_query_ends_with_its_client(service, database):
    """What PostgreSQL does for a client that has left is ended, too."""
    session_id = await record(service)
    async with Database.connect(database.url) as locker, locker.connection.transaction():
        await locker.connection.execute("LOCK TABLE teleop_frame")
        _, writer = await asyncio.open_connection(*service.split(":"))
        writer.write(f"GET /sessions/{session_id}/ledger HTTP/1.1\r\nHost: {service}\r\n\r\n".encode())
        await until(lambda: database.fetch(WAITING))
        writer.close()

        async def over() -> bool:
            return not await database.fetch(WAITING)

        await until(over)
