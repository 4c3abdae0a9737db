"""docs/telemetry-protocol.md, from which strangers write their clients, says what the service does."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from teleop_runtime.serving import problems
from teleop_schema import errors, limits, messages
from teleop_schema.errors import BackendError
from teleop_schema.limits import Limits
from teleop_schema.messages import Event
from teleop_schema.session import Camera, SessionDescription
from teleop_telemetry.receiving import acknowledged, commit
from teleop_testing.robots.robot import batch, dial
from teleop_testing.waiting import PATIENCE_S, until
from websockets.exceptions import ConnectionClosed

TEXT = (Path(__file__).parents[4] / "docs/telemetry-protocol.md").read_text()
KINDS = {
    kind.code: kind
    for module in (errors, commit, problems)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, BackendError)
}
ROW = re.compile(r"^\| (\d+) \| `(\w+)` \| (yes|no) \|", re.MULTILINE)


def test_table_of_errors():
    """Each code has the number and the `retryable` that the server sends with it."""
    closes, statuses = TEXT.split("## Errors and close codes")[1].split("Handshakes are refused over HTTP")
    for part, number_of in ((closes, "close_code"), (statuses, "status")):
        rows = ROW.findall(part)
        assert len(rows) > 5
        for number, code, retryable in rows:
            kind = KINDS[code]
            expected = (getattr(kind, number_of), "yes" if kind.retryable else "no")
            assert (int(number), retryable) == expected, code
    told = {code for _, code, _ in ROW.findall(closes)}
    of_a_connection = {kind.code for kind in (errors.BadMessage, errors.BadCrc, errors.MessageTooLarge)}
    of_a_stream = {errors.ProtocolViolation.code, errors.SessionMismatch.code, errors.Fenced.code}
    of_the_server = {commit.OutOfStep.code, commit.Unstorable.code, errors.StorageUnavailable.code}
    assert told >= of_a_connection | of_a_stream | of_the_server


def test_every_field_is_described():
    """Of each message, and of what is in it."""
    told = set(re.findall(r"`([\w.]+)`", TEXT))
    robot = {*messages.Hello.__struct_fields__, *messages.End.__struct_fields__}
    robot |= {*messages.Batch.__struct_fields__}
    server = {name for kind in messages.ServerMessage.__args__ for name in kind.__struct_fields__}
    within = {f"session.{name}" for name in SessionDescription.__struct_fields__}
    within |= {*Limits.__struct_fields__, *Camera.__struct_fields__}
    assert {*robot, *server, *within} - told == set()


def test_limits():
    """As they are enforced."""
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", TEXT.split("### Limits")[1], re.MULTILINE))
    assert rows["message"].startswith(f"{limits.MAX_MESSAGE_BYTES:,} bytes")
    assert rows["frames in a batch"] == str(limits.MAX_FRAMES_PER_BATCH)
    window = f"{limits.WINDOW_BATCHES} batches, {limits.WINDOW_BYTES:,} bytes"
    assert rows["unacknowledged"].startswith(window)
    assert rows["values of `state`, of `action`"] == str(limits.MAX_VECTOR_VALUES)
    assert rows["a name"].startswith(f"1 to {limits.MAX_NAME_LENGTH} characters")
    assert rows["`task`, `note`, `gap`, `robot_type`"] == f"{limits.MAX_TEXT_LENGTH} characters"
    assert rows["time to send `hello`"] == f"{acknowledged.HELLO_TIMEOUT_S:.0f} s"


def test_subprotocols():
    """All that the server knows, and the form of a token."""
    for name in (*messages.SUBPROTOCOLS, messages.PLAIN_SUBPROTOCOL, "bearer.<token>"):
        assert f"`{name}`" in TEXT


TRANSCRIPT = re.search(r"### A transcript with a cut.*?```\n(.*?)```", TEXT, re.DOTALL)


async def test_transcript(service, database):
    """Played against the service, word for word, with its cut."""
    assert TRANSCRIPT is not None
    async with asyncio.timeout(PATIENCE_S):
        await play_all(service, database)
    [episode] = await database.fetch("SELECT start_frame, end_frame, outcome FROM episode")
    assert tuple(episode.values()) == (0, 8, "success")
    assert await database.frame_indexes(1) == list(range(8))
    assert await database.value("SELECT status FROM teleop_session") == "complete"


async def play_all(service, database) -> None:
    """Each of its connections."""
    for connection in TRANSCRIPT[1].split(f"connect /ws/log/robot_A, offering {messages.SUBPROTOCOL}\n")[1:]:
        async with dial(service) as line:
            for said in filter(None, connection.splitlines()):
                await play(said, line, database)


async def play(said: str, line, database) -> None:
    """One line of the transcript."""
    if said.startswith("> batch "):
        fields = json.loads(said.removeprefix("> batch "))
        events = tuple(Event(**event) for event in fields.pop("events", []))
        await line.send(messages.encode_batch(batch(**fields, events=events)))
    elif said.startswith("> "):
        await line.send(said[2:])
    elif said.startswith("< "):
        assert json.loads(await line.recv()) == json.loads(said[2:])
    elif said.startswith("cut: "):
        await until(lambda: database.value("SELECT next_frame_index = 6 FROM teleop_session"))
        line.transport.abort()
    else:
        assert said == "closed by the server: 1000"
        with pytest.raises(ConnectionClosed) as closed:
            await line.recv()
        assert closed.value.rcvd.code == 1000
