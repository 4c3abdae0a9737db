"""Events: however oddly they are told, a session's episodes and cameras make sense in the end."""

import pytest
from teleop_schema.messages import Ack, End, Ended, Event
from teleop_schema.session import Camera
from teleop_telemetry.tables.views import MAX_PAUSES
from teleop_testing.robots.robot import TestRobot, batch, description


def start(index: int, frame: int, **more) -> Event:
    return Event(kind="episode_start", episode_index=index, frame_index=frame, **more)


def end(index: int, frame: int, **more) -> Event:
    return Event(kind="episode_end", episode_index=index, frame_index=frame, **more)


async def record(service, *events: Event, frames: int = 10, **ending) -> None:
    """A session of some frames whose first batch tells all events."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, frames, events=events))
        await robot.finish(frames, **ending)


async def episodes(database) -> list[tuple]:
    rows = await database.fetch(
        """SELECT episode_index, start_frame, end_frame, task, outcome, note
             FROM episode ORDER BY episode_index"""
    )
    return [tuple(row.values()) for row in rows]


HISTORIES = [
    ([start(0, 1, task="pick"), end(0, 5, outcome="success")], [(0, 1, 5, "pick", "success", None)]),
    # The end, told first or twice, counts as it was told first.
    ([end(0, 5), start(0, 1)], [(0, 1, 5, None, None, None)]),
    ([start(0, 1), end(0, 5), end(0, 7, outcome="failure")], [(0, 1, 5, None, None, None)]),
    ([start(0, 1), start(0, 3), end(0, 5)], [(0, 1, 5, None, None, None)]),
    # An end without a start is of no episode.
    ([end(3, 5)], []),
    # An end before the start makes an episode of no frames.
    ([start(0, 6), end(0, 2)], [(0, 6, 6, None, None, None)]),
    # What a task became at the end wins; a discarded episode stays, as discarded.
    (
        [start(0, 0, task="pick"), end(0, 4, task="place", outcome="discarded", note="slipped")],
        [(0, 0, 4, "place", "discarded", "slipped")],
    ),
    # An episode that was left open ends with its session.
    ([start(0, 2), end(0, 4), start(1, 6)], [(0, 2, 4, None, None, None), (1, 6, 10, None, None, None)]),
    ([start(2**31 - 1, 2**62)], [(2**31 - 1, 2**62, 2**62, None, None, None)]),
]


async def test_events_become_episodes(service, database):
    """Episodes follow from the events, in whatever order and however often they are told."""
    for events, expected in HISTORIES:
        await record(service, *events)
        assert await episodes(database) == expected
        await database.connection.execute("DELETE FROM episode")


async def test_pauses_are_stored_once(service, database, http):
    """Frames within an episode that do not belong to it, however often they are told; they are shown with
    their episode, as far as they lie in it."""
    pauses = [
        Event(kind="episode_pause", episode_index=0, frame_index=first, end_frame=last)
        for first, last in ((2, 4), (6, 7))
    ]
    await record(service, start(0, 0), *pauses, *pauses, end(0, 8), events=pauses[:1])
    rows = await database.fetch("SELECT * FROM episode_pause ORDER BY first_frame")
    assert [tuple(row.values())[1:] for row in rows] == [(2, 4, 0), (6, 7, 0)]
    [session] = (await http.get("/sessions")).json()["sessions"]
    [episode] = (await http.get(f"/sessions/{session['id']}")).json()["episode_list"]
    assert [tuple(pause.values()) for pause in episode["pauses"]] == [(2, 4), (6, 7)]
    assert (episode["pause_count"], episode["paused_frames"]) == (2, 3)
    path = f"/sessions/{session['id']}/episodes/0"
    trimmed = (await http.patch(path, json={"start_frame": 3, "end_frame": 6})).json()
    assert trimmed["pauses"] == [{"first_frame": 3, "end_frame": 4}]
    assert (trimmed["pause_count"], trimmed["paused_frames"]) == (1, 1)


def pause(first: int, last: int | None = None) -> Event:
    return Event(kind="episode_pause", episode_index=0, frame_index=first, end_frame=last)


@pytest.mark.parametrize(
    ("events", "ends"),
    [
        ([], 10),
        ([pause(4)], 4),
        # It went on; so it did, whatever is told again.
        ([pause(4), pause(4, 6)], 10),
        ([pause(4), pause(4, 6), pause(4)], 10),
        ([pause(4, 6), pause(4)], 10),
        # Of several, the last counts, and of usual ones that are told once, the next.
        ([pause(2), pause(2, 3), pause(8)], 8),
        ([pause(8), pause(2), pause(2, 3)], 8),
        ([pause(2), pause(2, 3), pause(5, 6)], 10),
        # Trimmed beyond it, an episode has no frames.
        ([pause(0)], 1),
        ([pause(4), end(0, 4)], 4),
        ([end(0, 7), pause(4)], 7),
    ],
)
@pytest.mark.parametrize("reason", ["closed", "writer_died"])
async def test_an_episode_without_an_end_ends_where_it_paused(service, database, http, events, ends, reason):
    """LeRobot saves an episode only once the scene is reset; a recorder that is killed meanwhile leaves an
    episode that ended before, and of which it is told that nobody saved it."""
    await record(service, start(0, 1), *events, *events, events=events, reason=reason)
    assert [(each[1], each[2]) for each in await episodes(database)] == [(1, ends)]
    [session] = (await http.get("/sessions")).json()["sessions"]
    [episode] = (await http.get(f"/sessions/{session['id']}")).json()["episode_list"]
    told = any(event.kind == "episode_end" for event in events)
    assert (episode["end_frame"], episode["paused_from"]) == (ends, None)
    assert episode["cut_off"] == (reason == "writer_died" and not told)


async def test_a_pause_is_told_while_it_lasts(service, http):
    """Of an episode that is being recorded."""
    async with TestRobot.connected(service) as robot:

        async def paused_from(frames: int, *events: Event) -> int | None:
            await robot.send(batch(frames - 5, 5, events=events))
            await robot.acked(frames)
            [session] = (await http.get("/sessions")).json()["sessions"]
            [episode] = (await http.get(f"/sessions/{session['id']}")).json()["episode_list"]
            assert (episode["end_frame"], episode["cut_off"]) == (None, False)
            return episode["paused_from"]

        assert await paused_from(5, start(0, 0)) is None
        assert await paused_from(10, pause(7)) == 7
        assert await paused_from(15, pause(7, 12)) is None


async def test_very_many_pauses_are_counted(service, http):
    """Of a command that adds every other step: the first are shown."""
    events = [
        Event(kind="episode_pause", episode_index=0, frame_index=frame, end_frame=frame + 1)
        for frame in range(1, 2 * MAX_PAUSES + 10, 2)
    ]
    await record(service, start(0, 0), *events, frames=300)
    [session] = (await http.get("/sessions")).json()["sessions"]
    [episode] = (await http.get(f"/sessions/{session['id']}")).json()["episode_list"]
    assert episode["pauses"] == [
        {"first_frame": frame, "end_frame": frame + 1} for frame in range(1, 2 * MAX_PAUSES, 2)
    ]
    assert episode["pause_count"] == episode["paused_frames"] == MAX_PAUSES + 5


def change(index: int, frame: int, task: str) -> Event:
    return Event(kind="episode_task", episode_index=index, frame_index=frame, task=task)


async def told_tasks(http) -> list[list[tuple[int, str | None]]]:
    """Of each episode of the only session, as told."""
    [session] = (await http.get("/sessions")).json()["sessions"]
    found = (await http.get(f"/sessions/{session['id']}")).json()["episode_list"]
    assert [each["task"] for each in found] == [each["tasks"][0]["task"] for each in found]
    return [[(each["first_frame"], each["task"]) for each in episode["tasks"]] for episode in found]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([start(0, 1, task="open"), change(0, 4, "take"), end(0, 8)], [[(1, "open"), (4, "take")]]),
        # Of an episode that is still open, and of one that began without a task.
        ([start(0, 1), change(0, 4, "take")], [[(1, None), (4, "take")]]),
        # In any order, and twice, as it was told first; another episode's is its own.
        (
            [
                *(start(0, 0, task="a"), change(0, 4, "c"), change(0, 2, "b"), change(0, 4, "c"), end(0, 5)),
                *(start(1, 5, task="a"), end(1, 9)),
            ],
            [[(0, "a"), (2, "b"), (4, "c")], [(5, "a")]],
        ),
        # One that goes on is no other; none of no episode.
        ([start(0, 0, task="a"), change(0, 2, "a"), change(1, 2, "b"), end(0, 5)], [[(0, "a")]]),
        # What was told of frames outside is not of the episode.
        ([start(0, 3, task="a"), change(0, 2, "b"), change(0, 7, "c"), end(0, 7)], [[(3, "b")]]),
    ],
)
async def test_task_changes_within_an_episode(service, http, events, expected):
    """Each task with its first frame."""
    await record(service, *events)
    assert await told_tasks(http) == expected


async def test_tasks_follow_what_people_change(service, http):
    """Trimmed off, a task is none of the episode; another task given is that of all of its frames, and what
    the robot tells again undoes neither; sessions are found by any task of an episode."""
    events = (start(0, 0, task="open"), change(0, 4, "take"))

    async def found(task: str) -> bool:
        return bool((await http.get("/sessions", params={"task": task})).json()["sessions"])

    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 10, events=(*events, end(0, 8))))
        await robot.acked(10)
        [session] = (await http.get("/sessions")).json()["sessions"]
        path = f"/sessions/{session['id']}/episodes/0"
        assert await found("open")
        assert await found("take")
        trimmed = (await http.patch(path, json={"start_frame": 4})).json()
        assert (trimmed["task"], trimmed["tasks"]) == ("take", [{"first_frame": 4, "task": "take"}])
        assert not await found("open")
        await http.patch(path, json={"start_frame": 2, "end_frame": 4})
        assert await told_tasks(http) == [[(2, "open")]]
        await http.patch(path, json={"task": "fold", "end_frame": 10})
        await robot.send(batch(10, 2, events=events))
        await robot.acked(12)
    assert await told_tasks(http) == [[(2, "fold")]]
    assert not await found("take")
    assert (await http.patch(path, json={"task": None})).json()["tasks"] == [{"first_frame": 2, "task": None}]


async def test_killed_recorder_leaves_whole_episodes(service, database):
    """A session whose writer died is interrupted; its saved episodes are whole, the last one is cut."""
    await record(service, start(0, 0), end(0, 6), start(1, 6), reason="writer_died", events=())
    assert await episodes(database) == [(0, 0, 6, None, None, None), (1, 6, 10, None, None, None)]
    assert await database.value("SELECT status FROM teleop_session") == "interrupted"


async def test_events_of_the_end_are_stored(service, database):
    """What happened after the last frame is told with `end`."""
    await record(service, start(0, 0), events=(end(0, 10, outcome="success"),))
    assert await episodes(database) == [(0, 0, 10, None, "success", None)]


async def test_end_may_be_told_again(service, database):
    """A robot that did not hear `ended` says `end` again on its next connection."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 4))
        await robot.acked(4)
        for _ in range(2):
            async with TestRobot.connected(service, stream=robot.stream) as again:
                await again.say(End(frames=4))
                assert await again.hear_any() == Ended(frames=4)
    assert await database.value("SELECT status FROM teleop_session") == "complete"


async def test_session_of_no_frames_ends(service, database):
    """A session that was ended before its first frame is complete."""
    async with TestRobot.connected(service) as robot:
        await robot.say(End(frames=0))
        assert await robot.hear_any() == Ended(frames=0)
    assert await database.value("SELECT status FROM teleop_session") == "complete"


async def test_stream_that_goes_on_after_its_end_records_again(service, database):
    """A session that gets more frames is not complete any more, until it ends again."""
    await record(service, frames=4)
    stream = await database.value("SELECT stream_id FROM teleop_session")
    async with TestRobot.connected(service, stream=stream) as robot:
        await robot.send(batch(4, 2))
        assert await robot.hear_any() == Ack(next=6)
        assert await database.value("SELECT status FROM teleop_session") == "recording"
        await robot.say(End(frames=6))
        assert await robot.hear_any() == Ended(frames=6)
    [session] = await database.fetch("SELECT status, logged_frames FROM teleop_session")
    assert tuple(session.values()) == ("complete", 6)


async def test_cameras_without_video_are_left_out(service, database, http):
    """Told one by one, together and twice: from then on they are as if the robot had known it from the start,
    so that the ledger and exports wait for no video of theirs."""
    cameras = {name: Camera(48, 64) for name in ("front", "wrist", "grey", "top")}
    host = {"name": "pc", "cameras_not_recorded": {"up": "its name"}}
    about = description(cameras=cameras, host=host)

    def told(camera: str, why: str, at: int = 0) -> Event:
        return Event(kind="no_video", frame_index=at, camera=camera, note=why)

    async with TestRobot.connected(service, session=about) as robot:
        await robot.send(batch(0, 2, events=(told("grey", "grayscale"),)))
        await robot.send(batch(2, 2, events=(told("grey", "grayscale"), told("top", "no picture", 2))))
        # That of its shipper, if the recorder is killed then: what was said first says more.
        await robot.finish(4, events=(told("wrist", "gone", 4), told("grey", "killed", 4)))
    number = await database.value("SELECT max(id) FROM teleop_session")
    found = (await http.get(f"/sessions/{number}")).json()
    assert found["cameras"].keys() == {"front"}
    why = {"up": "its name", "grey": "grayscale", "top": "no picture", "wrist": "gone"}
    assert found["host"] == {"name": "pc", "cameras_not_recorded": why}
    ledger = (await http.get(f"/sessions/{number}/ledger")).json()
    assert [camera["camera_key"] for camera in ledger["cameras"]] == ["front"]


async def test_what_only_the_commands_dataset_had_is_kept_with_the_session(service, database, http):
    """Told with the first frame that it takes, and later ones, and again: each feature once, as it was told
    first."""

    def told(feature: str, why: str) -> Event:
        return Event(kind="not_recorded", frame_index=1, feature=feature, note=why)

    async with TestRobot.connected(service, session=description(host={"name": "pc"})) as robot:
        await robot.send(batch(0, 2, events=(told("observation.state", "[ee.x]"), told("map", "too large"))))
        await robot.send(batch(2, 2, events=(told("map", "again"),)))
        await robot.finish(4, events=(told("words", "a language"),))
    number = await database.value("SELECT max(id) FROM teleop_session")
    why = {"observation.state": "[ee.x]", "map": "too large", "words": "a language"}
    found = (await http.get(f"/sessions/{number}")).json()
    assert found["host"] == {"name": "pc", "features_not_recorded": why}
