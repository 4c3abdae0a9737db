"""The plain mode: what any WebSocket client can do."""

import asyncio
import json

import pytest
from teleop_schema.limits import MAX_MESSAGE_BYTES
from teleop_telemetry.tables.refusals import MAX_REASONS
from teleop_testing.robots.lines import connect
from teleop_testing.robots.plain import FRAME, client, complete, ledger_of
from teleop_testing.waiting import PATIENCE_S, until
from websockets.exceptions import InvalidStatus


async def test_one_frame_a_message(service, database):
    """Each text message is a frame; it is stored under the names of the first and acknowledged."""
    async with client(service) as robot:
        await robot.send(FRAME)
        assert (await robot.hear())["type"] == "welcome"
        assert await robot.hear() == {"type": "ack", "next": 1}
        await robot.send(FRAME | {"observation": {"grip.pos": 4, "pan.pos": 3}, "timestamp": 1763860000.5})
        await robot.acked(2)
    session = await complete(database)
    assert (session["robot_id"], session["delivery"]) == ("robot_A", "best_effort")
    assert (session["state_names"], session["action_names"]) == (["pan.pos", "grip.pos"], ["pan.pos"])
    rows = await database.fetch("SELECT * FROM teleop_frame ORDER BY frame_index")
    assert [(row["frame_index"], row["state"], row["action"]) for row in rows] == [
        (0, [1.5, -2], [1.25]),
        (1, [3, 4], [1.25]),
    ]
    assert [row["timestamp"].timestamp() for row in rows] == [1763860000.123, 1763860000.5]


async def test_arrays_of_frames(service, database):
    """A message may hold many frames; they follow each other."""
    async with client(service) as robot:
        await robot.send([{"observation": {"a": number}} for number in range(1000)])
        await robot.send({"observation": {"a": 1000}})
        await robot.acked(1001)
    assert await database.value("SELECT array_agg(state[1] ORDER BY frame_index) FROM teleop_frame") == list(
        range(1001)
    )


async def test_disconnecting_completes_the_session(service, database):
    """The session's end and count are known once the client has gone, and its ledger adds up."""
    async with client(service) as robot:
        await robot.send([FRAME] * 5)
        await robot.acked(5)
        assert await database.value("SELECT status FROM teleop_session") == "recording"
    session = await complete(database)
    assert (session["logged_frames"], session["next_frame_index"]) == (5, 5)
    assert session["end_time"] == session["last_frame_time"]


async def test_client_that_sends_and_leaves_loses_nothing(service, database):
    """Frames that arrived are stored, though their sender did not wait to hear of it."""
    async with client(service) as robot:
        for number in range(300):
            await robot.send({"observation": {"a": number}})
    session = await complete(database)
    assert await database.frame_indexes(session["id"]) == list(range(300))


async def test_a_message_that_can_not_be_read(service, database, http):
    """It is counted as refused; the frames that came in one piece with its beginning are stored."""

    async def refused() -> float:
        told = (await http.get("/metrics")).text.splitlines()
        name = 'telemetry_messages_refused_total{code="message_too_large"} '
        return sum(float(line.removeprefix(name)) for line in told if line.startswith(name))

    before = await refused()
    async with client(service) as robot:
        line = robot.connection
        for number in range(3):
            line.protocol.send_text(json.dumps({"observation": {"a": number}}).encode())
        line.protocol.send_text(b'"' + b"x" * (MAX_MESSAGE_BYTES + 1) + b'"')
        line.transport.write(b"".join(line.protocol.data_to_send()))
        await line.wait_closed()
        assert line.close_code == 1009

    async def interrupted() -> int | None:
        return await database.value("SELECT id FROM teleop_session WHERE status = 'interrupted'")

    session = {"id": await until(interrupted)}
    assert await database.frame_indexes(session["id"]) == [0, 1, 2]
    ledger = await ledger_of(http, session)
    assert (ledger["refused"], ledger["complete"]) == (1, False)
    (refusal,) = ledger["refusals"]
    assert refusal["reason"].startswith("a message could not be read: ")
    assert str(MAX_MESSAGE_BYTES) in refusal["reason"]

    async def counted() -> bool:
        return await refused() > before

    await until(counted)


async def test_arrival_is_the_time_of_a_frame_without_one(service, database):
    """A frame that tells no time gets the server's."""
    async with client(service) as robot:
        await robot.send({"observation": {"a": 1}})
        await robot.acked(1)
    age = await database.value("SELECT extract(epoch FROM now() - timestamp)::float8 FROM teleop_frame")
    assert 0 <= age < PATIENCE_S


async def test_query_tells_what_frames_do_not(service, database):
    """fps, task and robot_type come with the address."""
    async with client(service, "robot_A?fps=30&task=pick%20the%20cube&robot_type=so101") as robot:
        await robot.send(FRAME)
        await robot.acked(1)
    session = await complete(database)
    assert (session["fps"], session["task"], session["robot_type"]) == (30, "pick the cube", "so101")


async def test_bad_query_is_refused(service):
    """A wrong parameter refuses the handshake with 422 and its name."""
    for query, field in {
        "fps=0": "fps",
        "fps=1e9": "fps",
        "fps=fast": "fps",
        "speed=1": "speed",
        "task=a%00": "task",
    }.items():
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://{service}/ws/log/robot_A?{query}")
        assert refused.value.response.status_code == 422
        assert json.loads(refused.value.response.body)["field"] == field


async def test_strangers_go_to_extra(service, database):
    """Names that the first frame had not are kept beside it."""
    async with client(service) as robot:
        await robot.send({"observation": {"a": 1}})
        await robot.send({"observation": {"a": 2, "b": 3}, "action": {"c": 4.5}})
        await robot.acked(2)
    extras = await database.fetch("SELECT extra FROM teleop_frame ORDER BY frame_index")
    assert [json.loads(row["extra"] or "null") for row in extras] == [
        None,
        {"observation": {"b": 3.0}, "action": {"c": 4.5}},
    ]


async def test_refused_first_frames_fix_no_names(service, database):
    """Names come from the first frames that were taken, not from ones that were refused."""
    async with client(service) as robot:
        await robot.send([{"observation": {"a": 1, "b": 2}}, {"observation": {"a": "far"}}])
        assert (await robot.refused())["field"] == "[1].observation.a"
        await robot.send({"observation": {"c": 1}})
        await robot.acked(1)
    assert (await complete(database))["state_names"] == ["c"]


BAD = [
    "",
    "{",
    "null",
    "[]",
    '{"observation":{"a":[]}}',
    '{"observation":{"a":"1"}}',
    "\ufeff{}",
    "[" * 100_000,
    b"\0",
]


async def test_nothing_measured_is_thrown_away(service, http, database):
    """Truth values, NaN, infinities and frames that lack a name or an action are stored; the ledger counts
    what is not finite, by name; they come back as they were sent."""
    sent = [
        FRAME,
        FRAME | {"action": {}},
        {"observation": {"pan.pos": True, "stranger": 5}},
        '{"observation":{"pan.pos":NaN,"grip.pos":-Infinity},"action":{"pan.pos":1e999}}',
        FRAME
        | {"observation": {"pan.pos": None, "grip.pos": "Infinity"}, "action": {"pan.pos": "-Infinity"}},
    ]
    async with client(service) as robot:
        for message in sent:
            await robot.send(message)
        await robot.acked(len(sent))
    session = (await complete(database))["id"]
    ledger = (await http.get(f"/sessions/{session}/ledger")).json()
    assert (ledger["committed"], ledger["missing"], ledger["complete"]) == (5, 0, True)
    assert ledger["not_finite"] == {
        "action.pan.pos": 4,
        "observation.grip.pos": 3,
        "observation.pan.pos": 2,
    }
    told = (await http.get(f"/sessions/{session}/frames")).json()["frames"]
    expected = [
        ({"pan.pos": 1.5, "grip.pos": -2}, {"pan.pos": 1.25}),
        ({"pan.pos": 1.5, "grip.pos": -2}, {"pan.pos": None}),
        ({"pan.pos": 1, "grip.pos": None}, {"pan.pos": None}),
        ({"pan.pos": None, "grip.pos": "-Infinity"}, {"pan.pos": "Infinity"}),
        ({"pan.pos": None, "grip.pos": "Infinity"}, {"pan.pos": "-Infinity"}),
    ]
    assert [(frame["observation"], frame["action"]) for frame in told] == expected
    assert told[2]["extra"] == {"observation": {"stranger": 5}}
    views = await database.fetch("SELECT data FROM teleop_frame_data ORDER BY frame_index")
    assert [(view["observation"], view["action"]) for view in (json.loads(row["data"]) for row in views)] == (
        expected
    )


async def test_bad_messages_are_answered_and_left_out(service, database):
    """Each bad message is answered with an error, none of it is stored, and the next frame is."""
    async with client(service) as robot:
        for number, message in enumerate(BAD):
            await robot.send(message)
            assert (await robot.refused())["code"] == "bad_message"
            await robot.send({"observation": {"a": number}})
            await robot.acked(number + 1)
    assert await database.value("SELECT array_agg(state[1] ORDER BY frame_index) FROM teleop_frame") == list(
        range(len(BAD))
    )


async def test_one_robots_nonsense_harms_nobody(service, database):
    """Robots whose frames meet in one commit with another's nonsense lose nothing."""

    async def good(robot_id: str) -> None:
        async with client(service, robot_id) as robot:
            for number in range(50):
                await robot.send({"observation": {"a": number}})
            await robot.acked(50)

    async def bad() -> None:
        async with client(service, "nonsense") as robot:
            for number in range(50):
                await robot.send(BAD[number % len(BAD)])
                await robot.refused()

    await asyncio.gather(*(good(f"robot_{number}") for number in range(5)), bad())
    counts = await database.fetch("SELECT count(*) FROM teleop_frame GROUP BY session_id")
    assert [row["count"] for row in counts] == [50] * 5


async def test_session_that_nobody_finished_is_interrupted(ingest, database):
    """A plain session whose service was killed is marked as interrupted, and its count stays unknown."""
    writer = await ingest.writer()
    await ingest.send(writer, 0, 3)
    await writer.settled()
    await database.connection.execute("UPDATE teleop_session SET delivery = 'best_effort'")
    await ingest.table.interrupt_abandoned(300)
    assert await database.value("SELECT status FROM teleop_session") == "recording"
    await database.connection.execute("UPDATE teleop_session SET last_commit_at = now() - interval '301 s'")
    await ingest.table.interrupt_abandoned(300)
    [session] = await database.fetch("SELECT * FROM teleop_session")
    assert (session["status"], session["logged_frames"]) == ("interrupted", None)
    assert session["end_time"] == session["last_frame_time"]


async def test_session_that_goes_on_is_recording_again(ingest, database):
    """A session that was taken for abandoned, or had ended, records again with its next frame."""
    writer = await ingest.writer()
    await database.connection.execute("UPDATE teleop_session SET status = 'interrupted', end_time = now()")
    await ingest.send(writer, 0, 3)
    await writer.settled()
    [session] = await database.fetch("SELECT * FROM teleop_session")
    assert (session["status"], session["end_time"]) == ("recording", None)


async def test_refused_frames_are_in_the_ledger(service, database, http):
    """Frames that could not be taken are counted and named, so that the session is not called complete."""
    async with client(service) as robot:
        await robot.send({"observation": {"b": "1"}})
        assert (await robot.refused())["field"] == "observation.b"
        for number in range(16):
            await robot.send({"observation": {"a": number}})
        await robot.send([{"observation": {"a": 1}}, {"observation": {"a": "far"}}])
        assert (await robot.refused())["field"] == "[1].observation.a"
        session = {"id": await database.value("SELECT id FROM teleop_session")}
        # While it goes on, too.
        await until(lambda: database.fetch("SELECT FROM refused_frames"))
        await robot.send(b"binary")
        await robot.refused()
    await complete(database)
    ledger = await ledger_of(http, session)
    assert (ledger["logged"], ledger["committed"], ledger["missing"]) == (16, 16, 0)
    assert (ledger["refused"], ledger["complete"]) == (4, False)
    assert [(refusal["field"], refusal["frames"]) for refusal in ledger["refusals"]] == [
        ("observation.b", 1),
        ("[1].observation.a", 2),
        ("", 1),
    ]
    assert "must be a number" in ledger["refusals"][1]["reason"]


async def test_endless_reasons(service, database, http):
    """A sender of ever new nonsense fills no table: reasons are bounded, the count is not."""
    async with client(service) as robot:
        await robot.send(FRAME)
        for number in range(2 * MAX_REASONS):
            await robot.send({"observation": {f"a{number}\0": "nonsense"}})
            await robot.refused()
    ledger = await ledger_of(http, await complete(database))
    assert (ledger["refused"], len(ledger["refusals"])) == (2 * MAX_REASONS, MAX_REASONS + 1)
    assert ledger["refusals"][-1]["frames"] == MAX_REASONS
