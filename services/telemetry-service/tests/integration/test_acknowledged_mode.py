"""The acknowledged mode against a real PostgreSQL over real sockets."""

import math
import struct

import pytest
from teleop_schema.messages import Ack, End, Ended, ErrorMessage, Event, Hello, Nack
from teleop_testing.robots.robot import TestRobot, batch, description, dial, values_of
from websockets.exceptions import ConnectionClosed


async def test_ack_waits_for_commit(service, database):
    """A batch is acknowledged only once its frames can be read back."""
    async with TestRobot.connected(service) as robot:
        async with database.commits_blocked():
            await robot.send(batch(first=0, count=2))
            await robot.hears_nothing(for_s=0.3)
        assert await robot.hear_any() == Ack(next=2)
        assert await database.frame_indexes(robot.welcome.session_id) == [0, 1]


async def test_values_arrive_bit_exactly(service, database):
    """State, action and capture time of each frame are what the robot sent."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(first=0, count=100))
        await robot.acked(100)
        rows = await database.fetch(
            'SELECT frame_index, "timestamp", state, action, extra FROM teleop_frame ORDER BY frame_index'
        )
    for row in rows:
        index = row["frame_index"]
        assert (*row["state"], *row["action"]) == values_of(index)
        assert round(row["timestamp"].timestamp() * 1e6) == 1_763_860_000_000_000 + index * 16_667
        assert row["extra"] is None


async def test_sending_twice_stores_once(service, database):
    """Duplicate and overlapping batches add only what is new."""
    async with TestRobot.connected(service) as robot:
        for frames in (batch(0, 10), batch(0, 10), batch(5, 10), batch(3, 2)):
            await robot.send(frames)
        await robot.acked(15)
        assert await database.frame_indexes(robot.welcome.session_id) == list(range(15))


async def test_hole_is_sent_back_once(service, database):
    """A batch past the expected frame is refused with the index to rewind to; what follows it is dropped."""
    async with TestRobot.connected(service) as robot:
        for first in (5, 10, 15):
            await robot.send(batch(first, 5))
        assert await robot.hear_any() == Nack(expected=0)
        await robot.send(batch(0, 20))
        await robot.acked(20)
        assert await database.frame_indexes(robot.welcome.session_id) == list(range(20))


async def test_reconnecting_goes_on_at_the_watermark(service, database):
    """The welcome of a second connection tells what is committed, with a higher epoch."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 7))
        await robot.acked(7)
    async with TestRobot.connected(service, stream=robot.stream) as again:
        assert again.welcome.session_id == robot.welcome.session_id
        assert again.welcome.next == 7
        assert again.welcome.epoch == robot.welcome.epoch + 1


async def test_older_connection_is_fenced(service, database):
    """Of two writers on one stream the older one can store nothing any more, and is told."""
    async with (
        TestRobot.connected(service) as older,
        TestRobot.connected(service, stream=older.stream) as newer,
    ):
        await older.send(batch(0, 5))
        error = await older.hear(ErrorMessage)
        assert (error.code, error.fatal) == ("fenced", True)
        with pytest.raises(ConnectionClosed) as closed:
            await older.connection.recv()
        assert closed.value.rcvd.code == 4409
        await newer.send(batch(0, 3))
        await newer.acked(3)
        assert await database.frame_indexes(newer.welcome.session_id) == [0, 1, 2]


async def test_end_closes_the_session_once_all_is_committed(service, database):
    """`ended` comes after the last commit; the session is complete with the robot's own count."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 30))
        await robot.say(End(frames=30))
        while not isinstance(message := await robot.hear_any(), Ended):
            assert isinstance(message, Ack)
        assert message == Ended(frames=30)
        [row] = await database.fetch("SELECT status, logged_frames, next_frame_index FROM teleop_session")
        assert row == {"status": "complete", "logged_frames": 30, "next_frame_index": 30}


async def test_end_beyond_what_was_sent_asks_for_the_rest(service):
    """An `end` that counts frames the server has not seen is answered by where to go on."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 3))
        await robot.acked(3)
        await robot.say(End(frames=5))
        assert await robot.hear_any() == Nack(expected=3)


async def test_gap_is_stored_by_name(service, database):
    """Frames the robot lost advance the watermark and are kept as a gap with its reason."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 3))
        await robot.send(batch(3, 4, timestamps=b"", state=b"", action=b"", gap="damaged record"))
        await robot.send(batch(7, 1))
        await robot.acked(8)
        assert await database.frame_indexes(robot.welcome.session_id) == [0, 1, 2, 7]
        [gap] = await database.fetch("SELECT first_frame, end_frame, reason FROM frame_gap")
        assert gap == {"first_frame": 3, "end_frame": 7, "reason": "damaged record"}


async def test_what_is_not_finite_is_stored(service, database):
    """NaN and infinities are values like any others."""
    state, action = (0.0, math.nan, 1.0, math.inf), (-math.inf, 2.0, math.nan, 3.0)
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 2, state=struct.pack("<4f", *state), action=struct.pack("<4f", *action)))
        await robot.acked(2)
    rows = await database.fetch("SELECT state, action FROM teleop_frame ORDER BY frame_index")
    assert str([*rows[0]["state"], *rows[1]["state"]]) == str([*state])
    assert str([*rows[0]["action"], *rows[1]["action"]]) == str([*action])
    assert await database.fetch("SELECT FROM frame_gap") == []


async def test_episodes_follow_their_frames(service, database):
    """Episode events become rows; telling them again changes nothing, not even a later correction."""
    start = Event(kind="episode_start", episode_index=0, frame_index=2, task="pick the cube")
    end = Event(kind="episode_end", episode_index=0, frame_index=8, outcome="success")
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 5, events=(start,)))
        await robot.send(batch(5, 5, events=(end, Event(kind="mark", frame_index=6, note="slipped"))))
        await robot.acked(10)
        await database.connection.execute("UPDATE episode SET end_frame = 7")
        await robot.send(batch(5, 6, events=(start, end)))
        await robot.acked(11)
    [episode] = await database.fetch("SELECT * FROM episode")
    assert (episode["start_frame"], episode["end_frame"]) == (2, 7)
    assert (episode["task"], episode["outcome"]) == ("pick the cube", "success")
    assert await database.value("SELECT note FROM session_mark") == "slipped"


async def test_stream_of_another_robot_is_refused(service):
    """A stream belongs to one robot and one set of names."""
    async with TestRobot.connected(service) as robot:
        for robot_id, session, field in (
            ("robot_B", description(), "robot_id"),
            ("robot_A", description(state_names=("other.pos", "gripper.pos")), "session.state_names"),
        ):
            async with dial(service, robot_id) as connection:
                stranger = TestRobot(connection, robot.stream)
                await stranger.say(Hello(stream=robot.stream, session=session))
                error = await stranger.hear(ErrorMessage)
                assert (error.code, error.field) == ("session_mismatch", field)
