"""A stream changes its connection, its replica, its robot's mind."""

import asyncio
from hashlib import sha256
from uuid import uuid4

import asyncpg
import msgspec
import pytest
from msgspec import UNSET
from teleop_schema.errors import SessionMismatch
from teleop_schema.messages import ErrorMessage, Hello
from teleop_telemetry.app import create_app
from teleop_telemetry.settings import TelemetrySettings
from teleop_testing.backends.serving import serving
from teleop_testing.robots.robot import TestRobot, batch, description, dial
from websockets.exceptions import ConnectionClosed


@pytest.fixture
async def hold_row(database_url):
    """Opens a transaction of another process that holds a session's row."""
    holders = []

    async def hold(session_id: int, application: str) -> asyncpg.Connection:
        holder = await asyncpg.connect(database_url, server_settings={"application_name": application})
        holders.append(holder)
        await holder.execute("BEGIN")
        await holder.execute("UPDATE teleop_session SET note = 'held' WHERE id = $1", session_id)
        return holder

    yield hold
    for holder in holders:
        holder.terminate()


async def test_zombies_transaction_is_ended(service, hold_row):
    """A commit of a hanging process that holds the session's row is ended when the robot comes back."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 5))
        await robot.acked(5)
    zombie = await hold_row(robot.welcome.session_id, "lerobot-backend")
    async with TestRobot.connected(service, stream=robot.stream) as again:
        assert again.welcome.next == 5
        await again.send(batch(5, 5))
        await again.acked(10)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await zombie.execute("COMMIT")


async def test_many_zombies_are_ended_at_once(service, database, hold_row):
    """More robots than connections come back to rows that hanging commits hold, and all get through."""
    streams = [uuid4() for _ in range(12)]
    for stream in streams:
        async with TestRobot.connected(service, stream=stream) as robot:
            await hold_row(robot.welcome.session_id, "lerobot-backend")

    async def come_back(stream) -> None:
        async with TestRobot.connected(service, stream=stream) as robot:
            await robot.send(batch(0, 2))
            await robot.acked(2)

    await asyncio.gather(*map(come_back, streams))
    assert await database.value("SELECT count(*) FROM teleop_frame") == 24


async def test_strangers_lock_is_waited_for(service, hold_row):
    """Somebody's own transaction is left alone; the robot gets through when it is over."""
    async with TestRobot.connected(service) as robot:
        pass
    stranger = await hold_row(robot.welcome.session_id, "psql")
    async with dial(service) as connection:
        again = TestRobot(connection, robot.stream)
        await again.say(Hello(stream=robot.stream, session=description()))
        await again.hears_nothing(for_s=2.5)
        await stranger.execute("COMMIT")
        await again.hear_any()
        await again.send(batch(0, 5))
        await again.acked(5)


async def test_opening_gives_up_in_time(ingest, hold_row, monkeypatch):
    """A connection that could not open its session in time never takes the stream from a later one."""
    stream = uuid4()
    opened = await ingest.table.open(stream, "robot_A", description(), delivery="acknowledged")
    stranger = await hold_row(opened.id, "psql")
    monkeypatch.setattr("teleop_telemetry.tables.session_table.OPEN_TIMEOUT_S", 0.5)
    attempts = [
        ingest.table.open(stream, "robot_A", description(), delivery="acknowledged") for _ in range(6)
    ]
    answers = await asyncio.gather(*attempts, return_exceptions=True)
    assert {type(answer).__name__ for answer in answers} == {"StorageUnavailable"}
    await stranger.execute("COMMIT")
    monkeypatch.undo()
    again = await ingest.table.open(stream, "robot_A", description(), delivery="acknowledged")
    assert again.epoch == opened.epoch + 1


async def test_first_hellos_at_the_same_moment(ingest, database):
    """Two connections that make a stream at once get one session, each its own epoch."""
    stream = uuid4()
    opened = await asyncio.gather(
        *(ingest.table.open(stream, "robot_A", description(), delivery="acknowledged") for _ in range(5))
    )
    assert len({one.id for one in opened}) == 1
    assert sorted(one.epoch for one in opened) == [1, 2, 3, 4, 5]


async def test_refused_stream_leaves_nothing(ingest, database):
    """A stream that is told under another robot's name changes neither robots nor epochs."""
    stream = uuid4()
    await ingest.table.open(stream, "robot_A", description(), delivery="acknowledged")
    with pytest.raises(SessionMismatch):
        await ingest.table.open(stream, "robot_B", description(), delivery="acknowledged")
    assert await database.value("SELECT count(*) FROM robot") == 1
    assert await database.value("SELECT epoch FROM teleop_session") == 1


async def test_another_replica_goes_on(service, database_url, database):
    """Any replica takes a stream over from any other; the older connection is fenced where it is."""
    settings = TelemetrySettings(database_url=database_url, _env_file=None)
    async with (
        serving(create_app(settings)) as other,
        TestRobot.connected(service) as here,
    ):
        await here.send(batch(0, 10))
        await here.acked(10)
        async with TestRobot.connected(other, stream=here.stream) as there:
            assert there.welcome.next == 10
            await there.send(batch(10, 10))
            await there.acked(20)
        await here.send(batch(10, 10))
        assert (await here.hear(ErrorMessage)).code == "fenced"
    assert await database.frame_indexes(here.welcome.session_id) == list(range(20))


async def test_database_that_lost_frames_is_filled_again(service, database, capfd):
    """After a database was restored to an older state, the robot sends again what it still has."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 20))
        await robot.acked(20)
    await database.connection.execute("DELETE FROM teleop_frame WHERE frame_index >= 5")
    await database.connection.execute("UPDATE teleop_session SET next_frame_index = 5")
    async with dial(service) as connection:
        again = TestRobot(connection, robot.stream)
        await again.say(Hello(stream=robot.stream, session=description(), first_unacked=20))
        assert (await again.hear_any()).next == 5
        await again.send(batch(5, 15))
        await again.acked(20)
    assert await database.frame_indexes(robot.welcome.session_id) == list(range(20))
    assert "acknowledged frames are gone" in "".join(capfd.readouterr())


SECRET = "of-the-robot-that-recorded-it"


@pytest.mark.parametrize("secret", [UNSET, "of-somebody-else-altogether"])
async def test_who_knows_only_the_name_of_a_stream_gets_nothing(service, database, secret):
    """A stranger who has read `stream_id` moves no watermark, and does not disturb the robot, which goes on,
    and comes back with its secret."""
    async with TestRobot.connected(service, secret=SECRET) as robot:
        await robot.send(batch(0, 5))
        await robot.acked(5)
        async with dial(service) as connection:
            stranger = TestRobot(connection, robot.stream)
            await stranger.say(Hello(stream=robot.stream, session=description(), secret=secret))
            refused = await stranger.hear(ErrorMessage)
            assert (refused.code, refused.fatal, refused.retryable) == ("not_your_stream", True, False)
            with pytest.raises(ConnectionClosed) as closed:
                await connection.recv()
            assert closed.value.rcvd.code == 4403
        await robot.send(batch(5, 5))
        await robot.acked(10)
    async with TestRobot.connected(service, stream=robot.stream, secret=SECRET) as again:
        assert (again.welcome.next, again.welcome.epoch) == (10, 2)
    stored = await database.value("SELECT encode(secret_sha256, 'hex') FROM teleop_session")
    assert stored == sha256(SECRET.encode()).hexdigest()


async def test_a_stream_of_before_gets_its_owner_later(service):
    """An older server was not told the secret: the first one that is told counts."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 5))
        await robot.acked(5)
    async with TestRobot.connected(service, stream=robot.stream, secret=SECRET) as again:
        assert again.welcome.next == 5
    async with dial(service) as connection:
        older = TestRobot(connection, robot.stream)
        await older.say(Hello(stream=robot.stream, session=description()))
        assert (await older.hear(ErrorMessage)).code == "not_your_stream"


@pytest.mark.parametrize("secret", ["", "short", "x" * 129, "with spaces, and of length", "새" * 30, 5, None])
async def test_a_secret_that_is_none_is_refused(service, database, secret):
    """By name; nothing is opened."""
    hello = msgspec.to_builtins(Hello(stream=uuid4(), session=description())) | {"secret": secret}
    async with dial(service) as connection:
        await connection.send(msgspec.json.encode(hello).decode())
        refused = await TestRobot(connection, uuid4()).hear(ErrorMessage)
    assert (refused.code, refused.field) == ("bad_message", "secret")
    assert await database.value("SELECT count(*) FROM teleop_session") == 0
