"""The library of episodes: which there are, what people judge of them, and who has changed what."""

import asyncio

import pytest
import pytest_asyncio
from teleop_schema.messages import Event
from teleop_testing.robots.robot import STARTED_US, record

HOUR_US = 3_600_000_000


def episode(index: int, first: int, end: int, task: str | None = None, **more) -> tuple[Event, Event]:
    return (
        Event(kind="episode_start", episode_index=index, frame_index=first, task=task),
        Event(kind="episode_end", episode_index=index, frame_index=end, **more),
    )


@pytest_asyncio.fixture
async def library(service) -> tuple[int, int, int]:
    """Three sessions of two robots, with five episodes."""
    return (
        await record(
            service,
            task="pick",
            started_at_us=STARTED_US,
            events=[*episode(0, 0, 3), *episode(1, 3, 6, "place", outcome="failure")],
        ),
        await record(
            service,
            "robot_B",
            started_at_us=STARTED_US + HOUR_US,
            events=[*episode(0, 0, 4, "pick", outcome="success"), *episode(1, 4, 9, "pick")],
        ),
        await record(service, "robot_B", started_at_us=STARTED_US + 2 * HOUR_US, events=episode(0, 0, 9)),
    )


async def test_every_episode_is_found_by_what_is_known_of_it(http, library, judge, find):
    a, b, c = library
    await judge(b, 1, outcome="failure", reason="dropped", quality=2, tags=["edge"], operator="kim")
    await judge(b, 0, quality=4)
    await http.patch(f"/sessions/{a}", json={"operator": "lee"})
    everything = [(c, 0), (b, 1), (b, 0), (a, 1), (a, 0)]
    for query, expected in (
        ({}, everything),
        ({"robot_id": "robot_A"}, [(a, 1), (a, 0)]),
        ({"session_id": b}, [(b, 1), (b, 0)]),
        ({"task": "pick"}, [(b, 1), (b, 0), (a, 0)]),
        ({"task": "place"}, [(a, 1)]),
        ({"outcome": "failure"}, [(b, 1), (a, 1)]),
        ({"outcome": "unlabelled"}, [(c, 0), (a, 0)]),
        ({"reason": "dropped"}, [(b, 1)]),
        ({"operator": "lee"}, [(a, 1), (a, 0)]),
        ({"operator": "kim", "tag": "edge"}, [(b, 1)]),
        ({"min_quality": 2}, [(b, 1), (b, 0)]),
        ({"min_quality": 3}, [(b, 0)]),
        ({"outcome": "discarded"}, []),
    ):
        assert (query, await find(**query)) == (query, expected)
    start = (await http.get(f"/sessions/{b}")).json()["start_time"]
    assert await find(since=start) == [(c, 0), (b, 1), (b, 0)]
    assert await find(until=start) == [(a, 1), (a, 0)]
    await http.delete(f"/sessions/{c}")
    assert await find() == everything[1:]


async def test_pages_have_each_episode_once(http, library, find):
    everything = await find()
    found, cursor = [], {}
    while cursor is not None:
        page = (await http.get("/episodes", params={"limit": 2, **cursor})).json()
        found += [(each["session_id"], each["episode_index"]) for each in page["episodes"]]
        cursor = page["next_cursor"] and {"cursor": page["next_cursor"]}
    assert found == everything


async def test_an_episode_tells_what_it_needs_of_its_session(http, library):
    _, b, _ = library
    page = (await http.get("/episodes", params={"session_id": b, "limit": 1})).json()
    [found] = page["episodes"]
    session = (await http.get(f"/sessions/{b}")).json()
    alone = (await http.get(f"/sessions/{b}/episodes/1")).json()
    assert alone == session["episode_list"][1]
    told = {name: session[name] for name in ("robot_id", "robot_type", "fps", "status", "start_time")}
    assert found == alone | {"session_id": b} | told | {"flags": [], "suspicion": found["suspicion"]}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"cursor": "1"}, "cursor"),
        ({"cursor": "1-2\n"}, "cursor"),
        ({"cursor": "1-3000000000"}, "cursor"),
        ({"outcome": "great"}, "outcome"),
        ({"min_quality": 6}, "min_quality"),
        ({"session_id": 2**63}, "session_id"),
        ({"limit": 0}, "limit"),
        ({"robot_id": "../x"}, "robot_id"),
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "until"),
        ({"flag": "x"}, "flag"),
    ],
)
async def test_bad_questions(http, query, field):
    answer = await http.get("/episodes", params=query)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_who_changed_what_is_kept_and_taken_back(http, library, judge):
    """Undo goes back change by change, to what the robot told; it is a change itself."""
    a, _, _ = library
    path = f"/sessions/{a}/episodes/1"
    untouched = (await http.get(path)).json()
    assert (untouched["outcome"], untouched["revision"]) == ("failure", 1)
    first = await judge(a, 1, outcome="discarded", reason="wrong_task", task="sort")
    second = await judge(a, 1, end_frame=5, quality=1, tags=["cut"])
    assert [first["revision"], second["revision"]] == [2, 3]
    assert (await judge(a, 1, quality=1)) == second
    history = (await http.get(f"{path}/history")).json()
    assert [each["revision"] for each in history] == [3, 2]
    assert history[0]["before"] == {"end_frame": 6, "quality": None, "tags": None}
    assert history[1]["after"] == {"task": "sort", "outcome": "discarded", "reason": "wrong_task"}
    assert {each["changed_by"] for each in history} == {"this machine"}
    back = (await http.post(f"{path}/undo", json={"revision": 3})).json()
    assert back == first | {"revision": 4}
    back = (await http.post(f"{path}/undo", json={})).json()
    assert back == untouched | {"revision": 5}
    refused = await http.post(f"{path}/undo", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "nothing_to_undo")
    again = await judge(a, 1, outcome="success")
    back = (await http.post(f"{path}/undo", json={})).json()
    assert (again["revision"], back) == (6, untouched | {"revision": 7})
    assert [each["undoes"] for each in (await http.get(f"{path}/history")).json()] == [
        6,
        None,
        2,
        3,
        None,
        None,
    ]


async def test_the_newest_changes_are_kept(http, library, judge, monkeypatch):
    monkeypatch.setattr("teleop_telemetry.library.episode_edits.MAX_KEPT", 3)
    a, _, _ = library
    for quality in (1, 2, 3, 4, 5):
        await judge(a, 0, quality=quality)
    history = (await http.get(f"/sessions/{a}/episodes/0/history")).json()
    assert [each["revision"] for each in history] == [5, 4, 3]


async def test_the_later_of_two_people_is_told(http, library, judge):
    """Whoever names the revision that was read never writes over what somebody else has judged since."""
    a, _, _ = library
    path = f"/sessions/{a}/episodes/0"
    answers = await asyncio.gather(
        *(http.patch(path, json={"quality": quality, "revision": 0}) for quality in (1, 2, 3, 4, 5))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
    [won] = [answer.json() for answer in answers if answer.status_code == 200]
    assert (await http.get(path)).json() == won
    problem = next(answer.json() for answer in answers if answer.status_code == 409)
    assert (problem["code"], problem["field"], problem["retryable"]) == ("episode_changed", "revision", False)
    assert "this machine changed it" in problem["detail"]
    assert f"quality is {won['quality']}" in problem["detail"]
    refused = await http.post(f"{path}/undo", json={"revision": 0})
    assert refused.json()["code"] == "episode_changed"
    untouched = f"/sessions/{a}/episodes/1"
    early = await http.patch(untouched, json={"quality": 1, "revision": 7})
    assert "its robot has told of it: outcome is 'failure'" in early.json()["detail"]
    early = await http.patch(f"/sessions/{library[2]}/episodes/0", json={"quality": 1, "revision": 7})
    assert "nobody has changed it" in early.json()["detail"]


async def test_nothing_is_kept_of_a_refused_change(http, library):
    a, _, _ = library
    path = f"/sessions/{a}/episodes/0"
    for change, field in (
        ({"outcome": "success", "reason": "dropped"}, "reason"),
        ({"reason": "dropped"}, "reason"),
        ({"quality": 0}, "quality"),
        ({"quality": 3, "end_frame": 99}, "end_frame"),
        ({"revision": -1}, "revision"),
    ):
        answer = await http.patch(path, json=change)
        assert (change, answer.status_code, answer.json()["field"]) == (change, 422, field)
    assert (await http.get(f"{path}/history")).json() == []
    for where in (f"/sessions/{a}/episodes/9", f"/sessions/{a}/episodes/{2**40}", "/sessions/999/episodes/0"):
        for answer in (
            await http.get(where),
            await http.get(f"{where}/history"),
            await http.patch(where, json={"quality": 1}),
            await http.post(f"{where}/undo", json={}),
        ):
            assert answer.status_code == 404


async def test_reasons_are_those_of_the_installation(http, library, judge):
    a, _, _ = library
    known = {each["name"]: each for each in (await http.get("/outcome-reasons")).json()}
    assert {"grasp_missed", "dropped", "collision", "operator_error"} <= known.keys()
    mine = {"outcome": "failure", "meaning": "The cable was in the way", "restorable": False}
    told = (await http.put("/outcome-reasons/cable", json=mine)).json()
    assert told == {"name": "cable", **mine}
    assert (await judge(a, 0, outcome="failure", reason="cable"))["reason"] == "cable"
    await http.put("/outcome-reasons/cable", json=mine | {"outcome": "discarded"})
    assert (await http.delete("/outcome-reasons/cable")).status_code == 204
    assert (await http.delete("/outcome-reasons/cable")).status_code == 404
    assert (await http.get(f"/sessions/{a}/episodes/0")).json()["reason"] == "cable"
    for name, body, field in (
        ("Cable", mine, "reason"),
        ("größe", mine, "reason"),
        ("x" * 65, mine, "reason"),
        ("cable", mine | {"outcome": "unlabelled"}, "outcome"),
        ("cable", mine | {"meaning": ""}, "meaning"),
        ("cable", {}, "outcome"),
    ):
        answer = await http.put(f"/outcome-reasons/{name}", json=body)
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    for number in range(200 - len(known)):
        assert (await http.put(f"/outcome-reasons/r{number}", json=mine)).status_code == 200
    full = await http.put("/outcome-reasons/one_more", json=mine)
    assert (full.status_code, full.json()["code"]) == (409, "conflict")
    assert (await http.put("/outcome-reasons/r0", json=mine)).status_code == 200


async def test_blank_words_say_nothing(http, service, find, judge):
    """Space around a word is none of it, and a task of no letters is that of the session."""
    session = await record(service, task="pick", events=episode(0, 0, 3, ""))
    assert await find(task="pick") == [(session, 0)]
    found = await judge(session, 0, operator="  ", tags=[" a ", "  ", "a"], note=" ", task=" ")
    assert (found["operator"], found["tags"], found["note"], found["task"]) == (None, ["a"], None, None)
    assert (await judge(session, 0, operator=" kim "))["operator"] == "kim"
    assert await find(operator="kim", tag="a") == [(session, 0)]
    told = await http.patch(f"/sessions/{session}", json={"operator": " ", "tags": [" ", "b "], "note": "\t"})
    assert (told.json()["operator"], told.json()["tags"], told.json()["note"]) == (None, ["b"], None)
    long = await http.patch(f"/sessions/{session}/episodes/0", json={"operator": "x" * 201})
    assert (long.status_code, long.json()["field"]) == (422, "operator")


async def test_a_form_is_taken_whole_though_its_reason_is_gone(http, library, judge):
    a, _, _ = library
    reason = {"outcome": "failure", "meaning": "The cable was in the way"}
    await http.put("/outcome-reasons/cable", json=reason)
    await judge(a, 0, outcome="failure", reason="cable")
    await http.delete("/outcome-reasons/cable")
    again = await judge(a, 0, outcome="failure", reason="cable", quality=2)
    assert (again["reason"], again["quality"]) == ("cable", 2)
    refused = await http.patch(f"/sessions/{a}/episodes/1", json={"outcome": "failure", "reason": "cable"})
    assert refused.status_code == 422


async def test_who_changed_a_session_is_kept(http, library):
    a, _, _ = library
    path = f"/sessions/{a}"
    assert (await http.get(f"{path}/history")).json() == []
    for operator in ("lee", "lee", "kim"):
        await http.patch(path, json={"operator": operator})
    await http.patch(path, json={"tags": ["x"], "task": "sort"})
    third, second, first = (await http.get(f"{path}/history")).json()
    assert (first["before"], first["after"]) == ({"operator": None}, {"operator": "lee"})
    assert (second["before"], second["after"]) == ({"operator": "lee"}, {"operator": "kim"})
    assert third["after"] == {"task": "sort", "tags": ["x"]}
    assert [each["revision"] for each in (third, second, first)] == [3, 2, 1]
    assert {each["changed_by"] for each in (third, second, first)} == {"this machine"}
    assert (await http.get("/sessions/999/history")).status_code == 404


async def test_a_session_that_was_only_found_is_trimmed_within_what_its_robot_logged(http, library, database):
    a, _, _ = library
    await database.connection.execute(
        "UPDATE teleop_session SET next_frame_index = 0, found_at = now(), logged_frames = 6 WHERE id = $1", a
    )
    trimmed = await http.patch(f"/sessions/{a}/episodes/1", json={"end_frame": 5})
    assert (trimmed.status_code, trimmed.json()["end_frame"]) == (200, 5)
    assert (await http.patch(f"/sessions/{a}/episodes/1", json={"end_frame": 7})).status_code == 422
