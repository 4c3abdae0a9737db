"""Bad input over the wire: each gets a clear error, and nobody else notices."""

import asyncio
import json
import socket
import struct
from contextlib import asynccontextmanager
from uuid import uuid4

import google_crc32c
import msgspec
import pytest
from teleop_schema import messages
from teleop_schema.limits import MAX_FRAMES_PER_BATCH, MAX_MESSAGE_BYTES
from teleop_schema.messages import Ack, End, Ended, ErrorMessage, Event, Hello, Welcome
from teleop_testing.robots.lines import connect
from teleop_testing.robots.robot import TestRobot, batch, description, dial
from teleop_testing.waiting import PATIENCE_S, until
from websockets.exceptions import ConnectionClosed, InvalidStatus


@asynccontextmanager
async def harmed_nobody(service, database):
    """Another robot sends all the while; in the end all that it sent is stored."""
    stop = asyncio.Event()
    async with TestRobot.connected(service, "bystander") as bystander:

        async def send() -> int:
            sent = 0
            while not stop.is_set():
                await bystander.send(batch(sent, 5))
                sent += 5
                await asyncio.sleep(0.005)
            return sent

        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(send())
            yield
            stop.set()
        sent = sending.result()
        await bystander.acked(sent)
    assert await database.frame_indexes(bystander.welcome.session_id) == list(range(sent))


async def fatal_error(robot: TestRobot) -> ErrorMessage:
    """The error that ends a connection; acknowledgements may come before it."""
    while isinstance(message := await robot.hear_any(), Ack):
        pass
    assert isinstance(message, ErrorMessage), message
    assert message.fatal
    return message


async def close_code(robot: TestRobot) -> int:
    """The code with which the server closes the connection, whatever it says before."""
    async with asyncio.timeout(PATIENCE_S):
        try:
            while True:
                await robot.connection.recv()
        except ConnectionClosed as closed:
            return closed.rcvd.code


def binary(**fields) -> bytes:
    """A batch message with any fields and a CRC that is right."""
    body = msgspec.msgpack.encode(fields)
    return messages.CRC.pack(google_crc32c.value(body)) + body


ROBOT_IDS = {
    "..": "..",
    "%2e%2e": "..",
    "": "",
    "%2F": "/",
    "a/b": "a/b",
    "x" * 65: "x" * 65,
    "robot%00": "robot\0",
    "r%D0%BEbot": "rоbot",
    "-a": "-a",
    ".a": ".a",
    "a%20b": "a b",
    "robot_A%0A": "robot_A\n",
    "robot_A%0D%0A": "robot_A\r\n",
    "robot%0A_A": "robot\n_A",
}


async def test_bad_robot_id(service):
    """An address that names no robot is refused over HTTP, and the refusal says why."""
    for path, robot_id in ROBOT_IDS.items():
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://{service}/ws/log/{path}")
        problem = json.loads(refused.value.response.body)
        assert refused.value.response.status_code == 422
        assert (problem["code"], problem["field"], problem["limit"]) == ("bad_robot_id", "robot_id", 64)
        assert repr(robot_id) in problem["detail"]


async def test_foreign_page(service):
    """A page of another site can't connect."""
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://{service}/ws/log/robot_A", origin="http://evil.example")
    assert refused.value.response.status_code == 403


async def test_too_many_connections(service, monkeypatch):
    """One connection too many is refused with 429 and gets in when there is room again."""
    monkeypatch.setattr("teleop_telemetry.receiving.log_endpoint.MAX_CONNECTIONS", 2)
    async with TestRobot.connected(service) as first, TestRobot.connected(service, "robot_B"):
        with pytest.raises(InvalidStatus) as refused:
            await dial(service, "robot_C")
        assert refused.value.response.status_code == 429
        assert json.loads(refused.value.response.body)["limit"] == 2
        await first.connection.close()

        async def get_in() -> bool:
            try:
                async with TestRobot.connected(service, "robot_C"):
                    return True
            except InvalidStatus:
                return False

        await until(get_in)


async def test_one_robot_leaves_room_for_others(service, monkeypatch):
    """Whatever number of connections it opens."""
    monkeypatch.setattr("teleop_telemetry.receiving.log_endpoint.MAX_CONNECTIONS_OF_ROBOT", 2)
    async with TestRobot.connected(service, "robot_A"), TestRobot.connected(service, "robot_A"):
        with pytest.raises(InvalidStatus) as refused:
            await dial(service, "robot_A")
        assert json.loads(refused.value.response.body)["limit"] == 2
        async with TestRobot.connected(service, "robot_B"):
            pass


HELLO = Hello(stream=uuid4(), session=description())
BEFORE_HELLO = {
    "batch": (messages.encode_batch(batch(0, 1)), "protocol_violation", 1002),
    "end": (messages.encode_control(End(frames=0)), "protocol_violation", 1002),
    "garbage": ("hello?", "bad_message", 1007),
    "nothing": ("", "bad_message", 1007),
    "no object": ("[]", "bad_message", 1007),
    "depth bomb": ('{"type":"hello","session":{"host":' + '{"a":' * 100_000, "bad_message", 1007),
    "nul in host": (
        messages.encode_control(Hello(stream=uuid4(), session=description(host={"name": "a\0"}))),
        "bad_message",
        1007,
    ),
    "names twice": ('{"type":"hello"}', "bad_message", 1007),
}


async def test_wrong_first_message(service, database):
    """A connection begins with a hello that can be understood, or ends."""
    async with harmed_nobody(service, database):
        for name, (message, code, closed_with) in BEFORE_HELLO.items():
            async with dial(service) as connection:
                robot = TestRobot(connection, uuid4())
                await connection.send(message)
                assert ((await fatal_error(robot)).code, name) == (code, name)
                assert await close_code(robot) == closed_with


async def test_no_hello(service, monkeypatch):
    """A connection that says nothing is told so, and ended."""
    monkeypatch.setattr("teleop_telemetry.receiving.acknowledged.HELLO_TIMEOUT_S", 0.2)
    async with dial(service) as connection:
        robot = TestRobot(connection, uuid4())
        error = await fatal_error(robot)
        assert (error.code, error.field) == ("protocol_violation", "type")
        assert await close_code(robot) == 1002


def damaged() -> bytes:
    message = bytearray(messages.encode_batch(batch(0, 2)))
    message[-1] ^= 1
    return bytes(message)


ragged = struct.pack("<3f", 1, 2, 3)
BAD_BATCHES = {
    "empty": (b"", "batch"),
    "crc": (damaged(), "crc32c"),
    "truncated": (messages.encode_batch(batch(0, 2))[:-5], "crc32c"),
    "no map": (messages.CRC.pack(google_crc32c.value(b"\x01")) + b"\x01", None),
    "count 0": (binary(first=0, count=0), "count"),
    "count 2^32-1": (binary(first=0, count=2**32 - 1), "count"),
    "count over the limit": (binary(first=0, count=MAX_FRAMES_PER_BATCH + 1), "count"),
    "negative index": (binary(first=-1, count=1), "first"),
    "unknown field": (binary(first=0, count=1, speed=2), "speed"),
    "no timestamps": (messages.encode_batch(batch(0, 2, timestamps=b"")), "timestamps"),
    "short state": (messages.encode_batch(batch(0, 2, state=bytes(4))), "state"),
    "ragged state": (messages.encode_batch(batch(0, 2, state=ragged)), "state"),
    "three joints": (messages.encode_batch(batch(0, 1, state=ragged)), "state"),
    "long action": (messages.encode_batch(batch(0, 2, action=bytes(20))), "action"),
    "extra of no frame": (messages.encode_batch(batch(0, 2, extra={2: {"a": 1}})), "extra"),
    "extra with nul": (messages.encode_batch(batch(0, 2, extra={1: {"a": "\0"}})), "extra[1]"),
    "extra too large": (messages.encode_batch(batch(0, 1, extra={0: {"a": "x" * 70_000}})), "extra[0]"),
    "gap with values": (messages.encode_batch(batch(0, 2, gap="lost")), "timestamps"),
    "event of no kind": (
        binary(first=0, count=1, events=[{"kind": "x", "frame_index": 0}]),
        "events[0].kind",
    ),
}


async def test_bad_batch(service, database):
    """A batch that can't be understood ends its connection with the field's name; what was stored stays."""
    async with harmed_nobody(service, database):
        for name, (message, field) in BAD_BATCHES.items():
            async with TestRobot.connected(service) as robot:
                await robot.send(batch(0, 3))
                await robot.acked(3)
                await robot.connection.send(message)
                error = await fatal_error(robot)
                code = "bad_crc" if field == "crc32c" else "bad_message"
                assert (name, error.code, error.field) == (name, code, field)
                assert await close_code(robot) == 1007
            async with TestRobot.connected(service, stream=robot.stream) as again:
                assert again.welcome.next == 3


BAD_CONTROLS = {
    "second hello": (messages.encode_control(HELLO), "protocol_violation", 1002),
    "a server's word": ('{"type":"ack","next":9}', "bad_message", 1007),
    "no JSON": ("}", "bad_message", 1007),
    "byte order mark": ('\ufeff{"type":"end","frames":0}', "bad_message", 1007),
    "negative end": ('{"type":"end","frames":-1}', "bad_message", 1007),
    "end below what is stored": ('{"type":"end","frames":2}', "session_mismatch", 4408),
}


async def test_bad_control_message(service, database):
    """A control message that has no place ends the connection with its error's own code."""
    async with harmed_nobody(service, database):
        for name, (message, code, closed_with) in BAD_CONTROLS.items():
            async with TestRobot.connected(service) as robot:
                await robot.send(batch(0, 3))
                await robot.acked(3)
                await robot.connection.send(message)
                assert (name, (await fatal_error(robot)).code) == (name, code)
                assert await close_code(robot) == closed_with


async def test_messages_after_the_end(service, database):
    """What comes after `end` is not stored and not acknowledged."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 3))
        await robot.say(End(frames=3))
        await robot.send(batch(3, 3))
        while not isinstance(message := await robot.hear_any(), Ended):
            assert message == Ack(next=3)
        assert await close_code(robot) == 1000
    assert await database.frame_indexes(robot.welcome.session_id) == [0, 1, 2]
    assert await database.value("SELECT status FROM teleop_session") == "complete"


async def test_oversize_message(service, database):
    """A message over the limit is not read: close code 1009."""
    async with harmed_nobody(service, database), TestRobot.connected(service) as robot:
        await robot.connection.send(bytes(MAX_MESSAGE_BYTES + 1))
        assert await close_code(robot) == 1009


async def test_oversize_message_in_pieces(service, database):
    """Neither is one that comes fragment by fragment without an end."""

    async def pieces():
        while True:
            yield bytes(100_000)

    async with harmed_nobody(service, database), TestRobot.connected(service) as robot:
        with pytest.raises(ConnectionClosed) as closed:
            await robot.connection.send(pieces())
        assert closed.value.rcvd.code == 1009


async def test_text_that_is_not_utf8(service, database):
    """A text message of other bytes is no text: close code 1007."""
    async with harmed_nobody(service, database), TestRobot.connected(service) as robot:
        await robot.connection.send(b"\xff\xfe", text=True)
        assert await close_code(robot) == 1007


async def test_ping_flood(service, database):
    """Thousands of pings are answered or not; frames are stored all the same."""
    async with harmed_nobody(service, database), TestRobot.connected(service) as robot:
        for _ in range(2000):
            await robot.connection.ping()
        await robot.send(batch(0, 3))
        await robot.acked(3)


async def test_connection_that_breaks_off(service, database):
    """A connection reset in the middle of a message leaves what was acknowledged, and nothing else."""
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 3))
        await robot.acked(3)
        transport = robot.connection.transport
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        transport.write(b"\x82\x7e\x10\x00half a frame")
        transport.abort()
    async with TestRobot.connected(service, stream=robot.stream) as again:
        assert again.welcome.next == 3
        await again.send(batch(3, 3))
        await again.acked(6)
    assert await database.frame_indexes(robot.welcome.session_id) == list(range(6))


async def test_strange_times_are_stored_and_flagged(service, database, http):
    """Time that goes backwards, or lies in 1969 or 9999, is stored as told, and the ledger says so."""
    times = struct.pack("<4q", 1_763_860_000_000_000, -1, 253_402_300_799_999_999, 1_763_860_000_000_001)
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 4, timestamps=times))
        await robot.acked(4)
    ledger = (await http.get(f"/sessions/{robot.welcome.session_id}/ledger")).json()
    assert (ledger["backwards"], ledger["implausible"], ledger["unaccounted"]) == (2, 2, 0)
    stored = await database.value(
        "SELECT array_agg((extract(epoch FROM timestamp) * 1000000)::bigint ORDER BY frame_index)"
        " FROM teleop_frame"
    )
    assert stored == list(struct.unpack("<4q", times))


async def test_time_outside_of_the_calendar_costs_its_frame(service, database):
    """A time that no calendar has becomes a named gap."""
    times = struct.pack("<3q", 0, 2**63 - 1, -(2**63))
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 3, timestamps=times))
        await robot.acked(3)
    [gap] = await database.fetch("SELECT first_frame, end_frame, reason FROM frame_gap")
    assert tuple(gap.values()) == (1, 3, "the timestamp is outside the years 1 to 9999")


async def test_extra_arrives_as_it_was_sent(service, database):
    """What a frame carries beyond its names is kept, for the frames that carry something."""
    extra = {1: {"temperature": {"grip": 41.5}, "note": 'C:\\u0000 "x" 집', "ok": None}, 4: {"n": [1, 2.5]}}
    async with TestRobot.connected(service) as robot:
        await robot.send(batch(0, 5, extra=extra))
        await robot.acked(5)
    rows = await database.fetch("SELECT frame_index, extra FROM teleop_frame WHERE extra IS NOT NULL")
    assert {row["frame_index"]: json.loads(row["extra"]) for row in rows} == extra


async def test_long_gap_in_one_message(service, database):
    """A gap may be far longer than a batch; it advances the watermark in one step."""
    nothing = {"timestamps": b"", "state": b"", "action": b""}
    async with TestRobot.connected(service) as robot:
        gap = batch(0, 1, gap="the disk was full", **nothing)
        await robot.send(msgspec.structs.replace(gap, count=10**9))
        await robot.send(batch(10**9, 1))
        await robot.acked(10**9 + 1)
    assert await database.frame_indexes(robot.welcome.session_id) == [10**9]


async def test_sql_in_names_is_only_a_name(service, database):
    """Text is data wherever it comes from."""
    evil = "'; DROP TABLE teleop_frame; --"
    session = description(state_names=(evil, "b"), task=evil, host={evil: evil})
    async with TestRobot.connected(service, session=session) as robot:
        await robot.send(batch(0, 1, events=(Event(kind="mark", frame_index=0, note=evil),)))
        await robot.acked(1)
    assert await database.value("SELECT state_names[1] FROM teleop_session") == evil
    assert await database.value("SELECT note FROM session_mark") == evil


async def test_welcome_tells_the_limits(service):
    """A robot learns from the server what it may send."""
    async with TestRobot.connected(service) as robot:
        assert isinstance(robot.welcome, Welcome)
        assert robot.welcome.limits.max_message_bytes == MAX_MESSAGE_BYTES
        assert robot.welcome.limits.max_frames == MAX_FRAMES_PER_BATCH


async def test_a_mistyped_address_is_answered_with_the_right_one(service):
    """A WebSocket hears in the handshake that nothing is there, and where it should have gone."""
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://{service}/ws/logs/robot_A")
    answer = refused.value.response
    problem = json.loads(answer.body)
    assert (answer.status_code, problem["code"]) == (404, "not_found")
    assert problem["detail"] == "nothing exists at /ws/logs/robot_A for WebSocket"
    assert "/ws/log/{robot_id}" in problem["hint"]
