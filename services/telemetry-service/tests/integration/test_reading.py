"""Robots, sessions, episodes and ledgers, read back over HTTP."""

import asyncio
import re
import struct
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from openapi_spec_validator import validate
from teleop_schema.messages import End, Ended, Event
from teleop_testing.database import Database
from teleop_testing.robot import PERIOD_US, STARTED_US, TestRobot, batch, description
from teleop_testing.waiting import until

HOUR_US = 3_600_000_000
MOMENT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


async def record(service, robot_id="robot_A", frames=10, *, events=(), batches=(), **session) -> int:
    """A session that has ended; returns its id."""
    async with TestRobot.connected(service, robot_id, session=description(**session)) as robot:
        for one in batches or [batch(0, frames, events=events)]:
            await robot.send(one)
        await robot.say(End(frames=frames))
        while not isinstance(await robot.hear_any(), Ended):
            pass
        return robot.welcome.session_id


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
            "outcome": "success",
            "note": None,
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
        "outcome": "success",
        "note": None,
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
    assert b["rate_hz"] == pytest.approx(1e6 / PERIOD_US, rel=1e-6)
    assert b["lag_s"] > 0


async def test_robots_are_not_chosen(http):
    """What would be passed over is refused by its name, as for sessions."""
    answer = await http.get("/robots?online=true")
    assert (answer.status_code, answer.json()["field"]) == (422, "online")


async def ledger(http, session: int) -> dict:
    return (await http.get(f"/sessions/{session}/ledger")).json()


async def test_ledger_of_a_whole_session(http, service):
    """All that was logged is committed: nothing missing, nothing doubled, nothing unaccounted for."""
    told = await ledger(http, await record(service, frames=100))
    assert (told["logged"], told["committed"], told["complete"]) == (100, 100, True)
    assert (told["missing"], told["duplicates"], told["unaccounted"], told["gaps"]) == (0, 0, 0, [])
    assert told["declared_hz"] == 60
    assert told["measured_hz"] == pytest.approx(1e6 / PERIOD_US, rel=1e-6)
    assert told["jitter_ms"] == pytest.approx(0, abs=1e-6)
    assert (told["backwards"], told["implausible"]) == (0, 0)


async def test_ledger_of_a_session_with_gaps(http, service):
    """Each gap is there with its reason, and the account still adds up."""
    nothing = {"timestamps": b"", "state": b"", "action": b""}
    batches = [
        batch(0, 10),
        batch(10, 5, gap="the disk was full", **nothing),
        batch(15, 5, timestamps=struct.pack("<5q", 2**62, *range(4))),
    ]
    told = await ledger(http, await record(service, frames=20, batches=batches))
    assert told["gaps"] == [
        {"first_frame": 10, "end_frame": 15, "reason": "the disk was full"},
        {"first_frame": 15, "end_frame": 16, "reason": "the timestamp lies outside of the years 1 to 9999"},
    ]
    assert (told["logged"], told["committed"], told["missing"], told["unaccounted"]) == (20, 14, 6, 0)
    assert told["complete"] is False


async def test_ledger_of_repeated_observations(http, service, database):
    """Of 180 actions beside 12 observations 168 are counted; the view for SQL tells them apart."""
    ages = {number: PERIOD_US * (number % 15) for number in range(180) if number % 15}
    session = await record(service, frames=180, batches=[batch(0, 180, observation_ages_us=ages)])
    told = await ledger(http, session)
    assert (told["committed"], told["repeated_observations"], told["complete"]) == (180, 168, True)
    rows = await database.fetch("SELECT frame_index, observation_age_us FROM teleop_frame_data ORDER BY 1")
    assert {
        row["frame_index"]: row["observation_age_us"] for row in rows if row["observation_age_us"]
    } == ages


CAMERAS = "UPDATE teleop_session SET cameras = $2 WHERE id = $1"
ADD_OBJECT = "INSERT INTO stored_object (sha256, size_bytes) VALUES ($1, 1) ON CONFLICT DO NOTHING"
ADD_CHUNK = """
INSERT INTO video_chunk (session_id, camera_key, chunk_index, file_path, sha256, size_bytes, start_timestamp,
                         end_timestamp, frame_count, frame_indices, dropped)
SELECT id, $2, $3, 'path', $4, 1, start_time, start_time + $5::float8 * interval '1 s', $6, $7, $8
  FROM teleop_session WHERE id = $1
"""


@pytest.fixture
def add_chunk(database):
    """Stores a chunk of a session's camera as video-ingest-service does."""

    async def add(session, number, frames, *, dropped="[]", camera="front", told=True):
        await database.connection.execute(ADD_OBJECT, "0" * 64)
        indices = list(frames)
        await database.connection.execute(
            *(ADD_CHUNK, session, camera, number, "0" * 64, indices[-1] / 60, len(indices)),
            *(indices if told else None, dropped),
        )

    return add


async def test_a_session_whose_pictures_are_not_there_is_not_complete(http, service, database, add_chunk):
    """However complete its frames are: of each camera it is told what has come, and from where on nothing."""
    session = await record(service, frames=600)
    await database.connection.execute(CAMERAS, session, '{"front": {}, "wrist": {}}')

    async def of(camera: str) -> dict:
        told = await ledger(http, session)
        assert told["complete"] is False
        (found,) = (each for each in told["cameras"] if each["camera_key"] == camera)
        return found

    assert await of("front") == {
        "camera_key": "front", "chunks": 0, "missing_chunks": 0, "pictures": 0, "awaited_from": 0,
    }  # fmt: skip
    await add_chunk(session, 1, range(200, 400))
    assert (await of("front"))["missing_chunks"] == 1
    await add_chunk(session, 0, range(200))
    found = await of("front")
    assert (found["missing_chunks"], found["pictures"], found["awaited_from"]) == (0, 400, 400)
    # What is named as lost has not to come any more; the last second may be without a picture.
    await add_chunk(session, 2, [401], dropped='[{"first": 402, "end": 560, "reason": "too slow"}]')
    assert (await of("front"))["awaited_from"] is None
    await add_chunk(session, 0, range(500), camera="wrist", told=False)
    assert (await of("wrist"))["awaited_from"] == 500
    await add_chunk(session, 1, range(590, 600), camera="wrist", told=False)
    assert (await ledger(http, session))["complete"] is True


async def test_ledger_of_an_uneven_session(http, service):
    """Stalls, steps back and impossible times are told, with the frame of the longest stall."""
    times = [0, 10, 20, 2520, 2530, 2525, 2540]
    sent = struct.pack("<7q", *(STARTED_US + 1000 * time for time in times[:-1]), 0)
    told = await ledger(http, await record(service, frames=7, batches=[batch(0, 7, timestamps=sent)]))
    assert (told["longest_stall_ms"], told["stall_at_frame"]) == (pytest.approx(2500), 3)
    assert (told["backwards"], told["implausible"]) == (2, 1)
    assert told["jitter_ms"] > 100


async def test_ledger_of_a_session_that_goes_on(http, service):
    """Of a session that has not ended, nobody knows yet how much was logged."""
    async with TestRobot.connected(service) as robot:
        empty = await ledger(http, robot.welcome.session_id)
        await robot.send(batch(0, 1))
        await robot.acked(1)
        told = await ledger(http, robot.welcome.session_id)
    assert (empty["committed"], empty["measured_hz"], empty["stall_at_frame"]) == (0, None, None)
    assert (told["logged"], told["committed"], told["complete"], told["measured_hz"]) == (
        None,
        1,
        False,
        None,
    )


async def test_ledger_finds_what_must_not_be(http, service, database):
    """A frame that vanished from the database is unaccounted for."""
    session = await record(service)
    await database.connection.execute("DELETE FROM teleop_frame WHERE frame_index = 4")
    told = await ledger(http, session)
    assert (told["committed"], told["unaccounted"], told["complete"]) == (9, 1, False)


async def test_health_and_metrics(http, service):
    """The process tells that it lives, that it is ready, and what it counts."""
    await record(service)
    assert (await http.get("/healthz")).json() == {"status": "ok"}
    assert (await http.get("/readyz")).json() == {"status": "ready"}
    metrics = (await http.get("/metrics")).text
    for name in ("frames_received_total", "frames_committed_total", "commit_seconds_count", "held_bytes"):
        assert f"telemetry_{name}" in metrics


async def test_document_is_valid(http):
    """/openapi.json is OpenAPI by the specification's own schema, and knows every address."""
    document = (await http.get("/openapi.json")).json()
    validate(document)
    assert set(document["paths"]) == {
        "/robots",
        "/sessions",
        "/sessions/{session_id}",
        "/sessions/{session_id}/episodes/{episode_index}",
        "/sessions/{session_id}/give-up-missing",
        "/sessions/{session_id}/ledger",
        "/sessions/{session_id}/frames",
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


async def test_frames_that_nobody_knows_of_can_be_given_up(service, database, http):
    """They are named as lost, each once, so that the session can be exported; nothing else is."""
    session = await record(service, batches=[batch(0, 10), batch(10, 10)], frames=20)
    await database.connection.execute(
        "DELETE FROM teleop_frame WHERE session_id = $1 AND frame_index IN (0, 5, 6, 7, 19)", session
    )
    await database.connection.execute("INSERT INTO frame_gap VALUES ($1, 6, 7, 'disk full')", session)
    assert (await http.get(f"/sessions/{session}/ledger")).json()["unaccounted"] == 4
    for by in ("Kim", "Lee"):
        ledger = (await http.post(f"/sessions/{session}/give-up-missing?by={by}")).json()
        assert (ledger["unaccounted"], ledger["missing"], ledger["complete"]) == (0, 5, False)
        gaps = {gap["first_frame"]: gap["end_frame"] for gap in ledger["gaps"]}
        assert gaps == {0: 1, 5: 6, 6: 7, 7: 8, 19: 20}
        # The first of them found all that there was.
        (reason,) = {gap["reason"] for gap in ledger["gaps"]} - {"disk full"}
        assert re.fullmatch(rf"given up on {MOMENT} UTC by Kim from 127\.0\.0\.1: nobody knows .*", reason)
    assert (await http.post("/sessions/999999/give-up-missing")).status_code == 404


async def test_who_gives_frames_up_need_not_be_told(service, database, http):
    """Nobody's name is asked for; a proxy on the same machine tells the address."""
    session = await record(service, batches=[batch(0, 10)], frames=10)
    await database.connection.execute("DELETE FROM teleop_frame WHERE session_id = $1", session)
    refused = await http.post(f"/sessions/{session}/give-up-missing?by=")
    assert (refused.status_code, refused.json()["field"]) == (422, "by")
    headers = {"X-Forwarded-For": "10.0.0.7"}
    ledger = (await http.post(f"/sessions/{session}/give-up-missing", headers=headers)).json()
    assert "by an operator from 10.0.0.7: " in ledger["gaps"][0]["reason"]
