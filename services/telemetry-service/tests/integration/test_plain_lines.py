"""The plain mode: clients that never read, and how a line ends."""

import asyncio
import json

import pytest
from teleop_runtime.serving.connection import WebSocketConnection
from teleop_runtime.serving.serve import SERVER_OPTIONS
from teleop_testing.robots.lines import connect, connect_in_thread
from teleop_testing.robots.plain import FRAME, client, complete, ended, ledger_of
from teleop_testing.waiting import until


@pytest.fixture
def unanswered(monkeypatch):
    """Impatient pings; gives how often one stayed unanswered: after the first a client was cut once."""
    monkeypatch.setitem(SERVER_OPTIONS, "ws_ping_interval", 0.05)
    monkeypatch.setitem(SERVER_OPTIONS, "ws_ping_timeout", 0.05)
    found = []
    theirs = WebSocketConnection.keepalive_timeout

    def looked(connection) -> None:
        found.append(connection.peer.reads)
        theirs(connection)

    monkeypatch.setattr(WebSocketConnection, "keepalive_timeout", looked)
    return found


async def test_client_that_only_sends(unanswered, service, database):
    """A client that never reads, so that its library answers no pings any more, loses nothing."""
    async with connect(f"ws://{service}/ws/log/robot_A", compression=None) as connection:
        sent = 0
        while unanswered.count(False) < 5:
            await connection.send(json.dumps({"observation": {"a": sent}}))
            sent += 1
            await asyncio.sleep(0.001)
        # Silent, too: the line is open as long as TCP says so.
        silent = len(unanswered)
        await until(lambda: len(unanswered) > silent + 3)
        await connection.send(json.dumps({"observation": {"a": sent}}))
        heard = await until(lambda: database.value("SELECT next_frame_index FROM teleop_session"))
        assert heard > 0
    session = await complete(database)
    assert await database.frame_indexes(session["id"]) == list(range(sent + 1))


async def test_client_of_threads_that_only_sends(unanswered, service, database):
    """The same with the blocking client that most scripts use."""

    def record() -> int:
        with connect_in_thread(f"ws://{service}/ws/log/robot_A", compression=None) as connection:
            sent = 0
            while unanswered.count(False) < 3:
                connection.send(json.dumps({"observation": {"a": sent}}))
                sent += 1
        return sent

    sent = await asyncio.to_thread(record)
    session = await complete(database)
    assert await database.frame_indexes(session["id"]) == list(range(sent))


async def test_acknowledgements_do_not_pile_up(unanswered, service, database):
    """Who does not read is sent nothing more, and hears the newest acknowledgement when it reads again."""
    async with client(service) as robot:
        sent = 0
        while unanswered.count(False) < 3:
            await robot.send({"observation": {"a": sent}})
            sent += 1
            await asyncio.sleep(0.001)
        # Commits go on, acknowledgements do not.
        commits = 0
        while commits < 30:
            await robot.send({"observation": {"a": sent}})
            sent += 1
            await until(
                lambda: database.value("SELECT next_frame_index = $1 FROM teleop_session", sent)  # noqa: B023
            )
            commits += 1
        heard = []
        while (message := await robot.hear()).get("next") != sent:
            heard.append(message["next"])
        # One may slip out with a ping that the client's own buffer still took in.
        assert len([number for number in heard if sent - 30 < number < sent]) <= 3


async def test_line_that_was_cut(service, database, http, capsys):
    """A session whose client vanished is interrupted, not complete; how many frames it had nobody knows."""
    async with client(service) as robot:
        await robot.send([FRAME] * 5)
        await robot.acked(5)
        robot.connection.transport.abort()
    session = await ended(database, "interrupted")
    assert (session["logged_frames"], session["next_frame_index"]) == (None, 5)
    assert session["end_time"] == session["last_frame_time"]
    ledger = await ledger_of(http, session)
    assert (ledger["committed"], ledger["logged"], ledger["complete"]) == (5, None, False)


@pytest.mark.parametrize("code", [1000, 1001])
async def test_close_by_word(service, database, code):
    """A client that says that it is done, or a page that is left, completes its session."""
    async with client(service) as robot:
        await robot.send(FRAME)
        await robot.acked(1)
        await robot.connection.close(code)
    assert (await complete(database))["logged_frames"] == 1


async def test_end_for_an_error(service, database):
    """A client that closes because something failed has not finished."""
    async with client(service) as robot:
        await robot.send(FRAME)
        await robot.acked(1)
        await robot.connection.close(1011, "camera unplugged")
    await ended(database, "interrupted")


async def test_a_database_that_is_away_at_the_beginning(service, database, monkeypatch):
    """The first frame waits like all others until it can be stored, and its sender may long be gone then."""
    monkeypatch.setattr("teleop_telemetry.receiving.plain_mode.AGAIN_AFTER_S", 0.05)
    await database.fail_inserts("true", "53100", table="teleop_session")
    async with client(service) as robot:
        for number in range(50):
            await robot.send({"observation": {"a": number}})
        notice = await robot.refused()
        assert (notice["code"], notice["retryable"]) == ("no_space", True)
    await database.heal()
    session = await complete(database)
    assert session["logged_frames"] == 50
    assert await database.frame_indexes(session["id"]) == list(range(50))
    assert await database.value("SELECT count(*) FROM refused_frames") == 0


async def test_a_database_that_is_away_at_the_end(service, database, monkeypatch):
    """That a client is done is noted once it can be, and not forgotten."""
    monkeypatch.setattr("teleop_telemetry.receiving.plain_mode.AGAIN_AFTER_S", 0.05)
    async with client(service) as robot:
        await robot.send(FRAME)
        await robot.acked(1)
        await database.connection.execute(
            """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
               BEGIN RAISE EXCEPTION 'injected' USING ERRCODE = '57P03'; END $$;
               CREATE TRIGGER refuse BEFORE UPDATE ON teleop_session FOR EACH ROW EXECUTE FUNCTION refuse()"""
        )
    await asyncio.sleep(0.5)
    assert await database.value("SELECT status FROM teleop_session") == "recording"
    await database.connection.execute("DROP TRIGGER refuse ON teleop_session")
    assert (await complete(database))["logged_frames"] == 1
