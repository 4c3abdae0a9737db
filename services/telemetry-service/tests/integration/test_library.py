"""The library of episodes: which there are, what people judge of them, and who has changed what."""

import asyncio

import pytest
import pytest_asyncio
from teleop_schema.messages import End, Ended, Event
from teleop_testing.robots.robot import STARTED_US, TestRobot, batch, record

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


@pytest.fixture
def judge(http):
    async def judge(session: int, index: int, **change) -> dict:
        answer = await http.patch(f"/sessions/{session}/episodes/{index}", json=change)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return judge


@pytest.fixture
def find(http):
    async def find(**query) -> list[tuple[int, int]]:
        answer = await http.get("/episodes", params=query)
        assert answer.status_code == 200, answer.text
        return [(each["session_id"], each["episode_index"]) for each in answer.json()["episodes"]]

    return find


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
    assert found == alone | {"session_id": b} | told


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
    assert (untouched["outcome"], untouched["revision"]) == ("failure", 0)
    first = await judge(a, 1, outcome="discarded", reason="wrong_task", task="sort")
    second = await judge(a, 1, end_frame=5, quality=1, tags=["cut"])
    assert [first["revision"], second["revision"]] == [1, 2]
    assert (await judge(a, 1, quality=1)) == second
    history = (await http.get(f"{path}/history")).json()
    assert [each["revision"] for each in history] == [2, 1]
    assert history[0]["before"] == {"end_frame": 6, "quality": None, "tags": None}
    assert history[1]["after"] == {"task": "sort", "outcome": "discarded", "reason": "wrong_task"}
    assert {each["changed_by"] for each in history} == {"this machine"}
    back = (await http.post(f"{path}/undo", json={"revision": 2})).json()
    assert back == first | {"revision": 3}
    back = (await http.post(f"{path}/undo", json={})).json()
    assert back == untouched | {"revision": 4}
    refused = await http.post(f"{path}/undo", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "nothing_to_undo")
    again = await judge(a, 1, outcome="success")
    back = (await http.post(f"{path}/undo", json={})).json()
    assert (again["revision"], back) == (5, untouched | {"revision": 6})
    assert [each["undoes"] for each in (await http.get(f"{path}/history")).json()] == [
        5,
        None,
        1,
        2,
        None,
        None,
    ]


async def test_an_end_that_was_not_known_is_not_forgotten_again(http, service):
    """Whoever trims an episode while it is recorded, and takes that back once its session is over."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 8, events=[Event(kind="episode_start", episode_index=0, frame_index=1)]))
        await robot.acked(8)
        path = f"/sessions/{robot.welcome.session_id}/episodes/0"
        assert (await http.patch(path, json={"end_frame": 5, "quality": 2})).json()["end_frame"] == 5
        assert (await http.post(f"{path}/undo", json={})).json()["end_frame"] is None
        assert (await http.patch(path, json={"end_frame": 6, "quality": 3})).json()["end_frame"] == 6
        await robot.say(End(frames=8))
        while not isinstance(await robot.hear_any(), Ended):
            pass
    back = (await http.post(f"{path}/undo", json={})).json()
    assert (back["end_frame"], back["quality"], back["revision"]) == (6, None, 4)


async def test_an_undo_takes_back_nothing_that_the_robot_told(http, service):
    """The robot discards an episode that somebody has judged while it was recorded."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 5, events=[Event(kind="episode_start", episode_index=0, frame_index=0)]))
        await robot.acked(5)
        path = f"/sessions/{robot.welcome.session_id}/episodes/0"
        for change in ({"outcome": "failure", "reason": "dropped"}, {"reason": "collision", "quality": 2}):
            assert (await http.patch(path, json=change)).status_code == 200
        ended = Event(kind="episode_end", episode_index=0, frame_index=5, outcome="discarded")
        await robot.send(batch(5, 1, events=[ended]))
        await robot.say(End(frames=6))
        while not isinstance(await robot.hear_any(), Ended):
            pass
    for quality in (None, None):
        back = (await http.post(f"{path}/undo", json={})).json()
        assert (back["outcome"], back["reason"], back["quality"]) == ("discarded", None, quality)


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
    early = await http.patch(f"/sessions/{a}/episodes/1", json={"quality": 1, "revision": 7})
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


async def test_what_the_robot_tells_at_the_end_goes_before(http, service):
    """A person who judges while the episode is recorded keeps it, unless its robot tells another outcome."""
    async with TestRobot.connected(service) as robot:
        started = [Event(kind="episode_start", episode_index=index, frame_index=index) for index in (0, 1)]
        await robot.send(batch(0, 5, events=started))
        await robot.acked(5)
        session = robot.welcome.session_id
        for index in (0, 1):
            change = {"outcome": "failure", "reason": "dropped", "quality": 3, "note": "seen live"}
            await http.patch(f"/sessions/{session}/episodes/{index}", json=change)
        ends = [
            Event(kind="episode_end", episode_index=0, frame_index=3),
            Event(kind="episode_end", episode_index=1, frame_index=5, outcome="discarded"),
        ]
        await robot.send(batch(5, 1, events=ends))
        await robot.say(End(frames=6))
        while not isinstance(await robot.hear_any(), Ended):
            pass
    first, second = (await http.get(f"/sessions/{session}")).json()["episode_list"]
    assert (first["end_frame"], first["outcome"], first["reason"]) == (3, "failure", "dropped")
    assert (second["outcome"], second["reason"], second["quality"]) == ("discarded", None, 3)
    assert second["note"] == "seen live"
