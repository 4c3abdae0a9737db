"""What people say of episodes, beside what their robot tells: before, meanwhile and after."""

from functools import partial

import pytest
from msgspec.structs import replace
from teleop_schema.messages import Event
from teleop_testing.robots.robot import TestRobot, batch, description


async def test_an_end_that_was_not_known_is_not_forgotten_again(http, service):
    """Whoever trims an episode while it is recorded, and takes that back once its session is over."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 8, events=[Event(kind="episode_start", episode_index=0, frame_index=1)]))
        await robot.acked(8)
        path = f"/sessions/{robot.welcome.session_id}/episodes/0"
        assert (await http.patch(path, json={"end_frame": 5, "quality": 2})).json()["end_frame"] == 5
        assert (await http.post(f"{path}/undo", json={})).json()["end_frame"] is None
        assert (await http.patch(path, json={"end_frame": 6, "quality": 3})).json()["end_frame"] == 6
        await robot.finish(8)
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
        await robot.finish(6)
    for quality in (None, None):
        back = (await http.post(f"{path}/undo", json={})).json()
        assert (back["outcome"], back["reason"], back["quality"]) == ("discarded", None, quality)


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
        await robot.finish(6)
    first, second = (await http.get(f"/sessions/{session}")).json()["episode_list"]
    assert (first["end_frame"], first["outcome"], first["reason"]) == (3, "failure", "dropped")
    assert (second["outcome"], second["reason"], second["quality"]) == ("discarded", None, 3)
    assert second["note"] == "seen live"


def start_of(index: int = 0, frame: int = 0, **more) -> Event:
    return Event(kind="episode_start", episode_index=index, frame_index=frame, **more)


def end_of(index: int = 0, frame: int = 8, **more) -> Event:
    return Event(kind="episode_end", episode_index=index, frame_index=frame, **more)


async def test_an_episode_that_is_trimmed_while_it_is_recorded_hears_its_robot(http, service):
    """The end stays where a person has put it. What the robot tells at its end is heard all the same, and is
    what the episode goes back to."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 6, events=[start_of()]))
        await robot.acked(6)
        path = f"/sessions/{robot.welcome.session_id}/episodes/0"
        seen = (await http.patch(path, json={"end_frame": 4, "note": "n"})).json()
        told = end_of(outcome="discarded", note="again")
        await robot.send(batch(6, 3, events=[told, told, end_of(frame=7, outcome="success")]))
        await robot.finish(9)
    late = await http.patch(path, json={"outcome": "success", "revision": seen["revision"]})
    assert (late.status_code, late.json()["code"]) == (409, "episode_changed")
    assert "its robot has told of it: outcome is 'discarded'" in late.json()["detail"]
    found = (await http.get(path)).json()
    assert (found["end_frame"], found["outcome"], found["note"]) == (4, "discarded", "again")
    back = (await http.post(f"{path}/undo", json={"revision": found["revision"]})).json()
    assert (back["end_frame"], back["outcome"], back["note"]) == (8, "discarded", "again")


@pytest.mark.parametrize("trimmed", [False, True])
@pytest.mark.parametrize("told", [False, True])
async def test_an_episode_of_an_interrupted_session_ends_when_its_robot_is_back(http, service, trimmed, told):
    """It had ended where the session broke off."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 5, events=[start_of(frame=1)]))
        await robot.finish(5, reason="writer_died")
    path = f"/sessions/{robot.welcome.session_id}/episodes/0"
    found = (await http.get(path)).json()
    assert (found["end_frame"], found["cut_off"]) == (5, True)
    if trimmed:
        await http.patch(path, json={"end_frame": 3})
    async with TestRobot.connected(service, stream=robot.stream) as robot:
        events = [end_of(outcome="failure")] if told else []
        await robot.send(batch(5, 5, events=events))
        await robot.finish(10)
    found = (await http.get(path)).json()
    ends = 8 if told else 10
    assert found["end_frame"] == (3 if trimmed else ends)
    assert found["outcome"] == ("failure" if told else None)
    if told:
        assert found["cut_off"] is False
    if trimmed and told:
        assert (await http.post(f"{path}/undo", json={})).json()["end_frame"] == 8


async def test_a_task_that_the_robot_tells_later_outlives_an_undo(http, service):
    async with TestRobot.connected(service) as robot:
        told = Event(kind="episode_task", episode_index=0, frame_index=2, task="b")
        await robot.send(batch(0, 4, events=[start_of(task="a"), told]))
        await robot.acked(4)
        path = f"/sessions/{robot.welcome.session_id}/episodes/0"
        seen = (await http.patch(path, json={"task": "sort"})).json()
        assert [each["task"] for each in seen["tasks"]] == ["sort"]
        later = Event(kind="episode_task", episode_index=0, frame_index=4, task="c")
        await robot.send(batch(4, 2, events=[told, later]))
        await robot.acked(6)
        stale = await http.post(f"{path}/undo", json={"revision": seen["revision"]})
        assert stale.json()["code"] == "episode_changed"
        back = (await http.post(f"{path}/undo", json={})).json()
        assert [(each["first_frame"], each["task"]) for each in back["tasks"]] == [
            (0, "a"),
            (2, "b"),
            (4, "c"),
        ]
        await robot.finish(6)


async def test_a_session_without_episodes_counts_as_one(http, service, find, judge):
    """Of a plain client or of lerobot-teleoperate: it is found and judged like every other, once it has
    ended. Whoever continues it with episodes has those."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 6))
        await robot.acked(6)
        session = robot.welcome.session_id
        path = f"/sessions/{session}/episodes/0"
        assert (await find(), (await http.get(path)).status_code) == ([], 404)
        assert (await http.patch(path, json={"quality": 1})).status_code == 404
        await robot.finish(6)
    assert await find(outcome="unlabelled") == [(session, 0)]
    assert (await http.get(path)).json()["end_frame"] == 6
    assert (await http.post(f"{path}/undo", json={})).json()["code"] == "nothing_to_undo"
    assert (await http.get(f"{path}/history")).json() == []
    judged = await judge(session, 0, outcome="failure", reason="dropped", revision=0)
    assert (judged["start_frame"], judged["end_frame"], judged["revision"]) == (0, 6, 1)
    assert await find(outcome="failure") == [(session, 0)]
    assert (await http.patch(f"/sessions/{session}/episodes/1", json={"quality": 1})).status_code == 404
    async with TestRobot.connected(service, stream=robot.stream) as robot:
        await robot.send(batch(6, 2))
        await robot.finish(8)
    assert (await http.get(path)).json()["end_frame"] == 8
    async with TestRobot.connected(service, stream=robot.stream) as robot:
        await robot.send(batch(8, 4, events=[start_of(frame=8), end_of(frame=11), start_of(1, 11)]))
        await robot.finish(12)
    bounds = [
        (each["start_frame"], each["end_frame"])
        for each in (await http.get("/episodes", params={"session_id": session})).json()["episodes"]
    ]
    assert bounds == [(11, 12), (8, 11)]


async def test_a_robot_tells_who_drives(http, service, find, judge):
    """At the start of its session, or when it comes back to a server that did not know of operators; a person
    who has said something else knows better."""
    session = description()
    async with TestRobot.connected(service, session=session) as robot:
        await robot.send(batch(0, 2))
        await robot.acked(2)
    number = robot.welcome.session_id
    told = replace(session, operator=" kim ")
    again = partial(TestRobot.connected, service, stream=robot.stream)
    async with again(session=told):
        assert (await http.get(f"/sessions/{number}")).json()["operator"] == "kim"
    async with again(session=replace(session, operator="lee")):
        assert (await http.get(f"/sessions/{number}")).json()["operator"] == "kim"
    assert (await http.patch(f"/sessions/{number}", json={"operator": None})).json()["operator"] is None
    async with again(session=told) as robot:
        assert (await http.get(f"/sessions/{number}")).json()["operator"] is None
        await robot.finish(2)
    async with TestRobot.connected(service, session=told) as robot:
        await robot.send(batch(0, 2))
        await robot.finish(2)
    assert await find(operator="kim") == [(robot.welcome.session_id, 0)]
