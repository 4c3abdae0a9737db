"""How a connection gets its mode, and what a client hears that has missed the one it meant."""

import json

import pytest
import pytest_asyncio
from teleop_runtime.access.tokens import hash_of, make_token, prefix_of
from teleop_schema.messages import (
    OLDEST_SUBPROTOCOL,
    PLAIN_SUBPROTOCOL,
    SUBPROTOCOL,
    SUBPROTOCOL_1_1,
    End,
    Hello,
    encode_batch,
    encode_control,
)
from teleop_testing.robots.plain import FRAME, client, complete, ended, ledger_of
from teleop_testing.robots.robot import TestRobot, batch, description, dial
from teleop_testing.waiting import PATIENCE_S
from websockets.exceptions import ConnectionClosed, InvalidStatus

SHOWN = make_token("robot")
TOKEN = f"bearer.{SHOWN}"
OFFERS = {
    "the newest": ((SUBPROTOCOL,), SUBPROTOCOL),
    "all": ((OLDEST_SUBPROTOCOL, SUBPROTOCOL_1_1, SUBPROTOCOL), SUBPROTOCOL),
    "one of a release to come": (("lerobot.telemetry.v9", SUBPROTOCOL_1_1), SUBPROTOCOL_1_1),
    "with a token": ((SUBPROTOCOL, TOKEN), SUBPROTOCOL),
    "after a token": ((TOKEN, SUBPROTOCOL), SUBPROTOCOL),
    "plain": ((PLAIN_SUBPROTOCOL,), PLAIN_SUBPROTOCOL),
    "plain, with a token": ((PLAIN_SUBPROTOCOL, TOKEN), PLAIN_SUBPROTOCOL),
    "what a library offers by itself": (("arduino",), None),
    "none": ((), None),
}


ADD = """
WITH p AS (INSERT INTO principal (name, role, robot_ids) VALUES ($1, 'robot', ARRAY[$1]) RETURNING id)
INSERT INTO access_token (principal_id, hash, prefix) SELECT id, $2, $3 FROM p
"""


@pytest_asyncio.fixture(autouse=True)
async def known_token(database):
    """The token is that of the robot."""
    await database.connection.execute(ADD, "robot_A", hash_of(SHOWN), prefix_of(SHOWN))


@pytest.mark.parametrize(("offered", "chosen"), OFFERS.values(), ids=OFFERS)
async def test_of_several_offers_the_protocols_own_name_is_chosen(service, offered, chosen):
    """A browser fails a connection whose server chooses none of what its page offered, or a token."""
    async with dial(service, subprotocols=offered) as connection:
        assert connection.subprotocol == chosen


async def test_two_headers_are_one_offer(service):
    """As HTTP has it, a list may come in several lines."""
    dialled = dial(service, subprotocols=(SUBPROTOCOL,))
    dialled.additional_headers = {"Sec-WebSocket-Protocol": TOKEN}
    async with dialled as connection:
        assert connection.subprotocol == SUBPROTOCOL


async def test_plain_frames_with_the_plain_subprotocol(service, database):
    """A page that offers a token sends plain frames as anybody else."""
    async with dial(service, subprotocols=(PLAIN_SUBPROTOCOL, TOKEN)) as connection:
        await connection.send(json.dumps(FRAME))
    session = await complete(database)
    assert (session["delivery"], session["next_frame_index"]) == ("best_effort", 1)


async def test_unknown_version(service):
    """Who speaks only versions that the server does not know is refused, and hears which it knows."""
    with pytest.raises(InvalidStatus) as refused:
        await dial(service, subprotocols=("lerobot.telemetry.v9", TOKEN))
    answer = refused.value.response
    problem = json.loads(answer.body)
    assert (answer.status_code, problem["code"]) == (400, "unknown_subprotocol")
    assert problem["detail"] == "this server does not know the subprotocol lerobot.telemetry.v9"
    assert SUBPROTOCOL in problem["hint"]
    assert TOKEN not in answer.body.decode()


HELLO = encode_control(Hello(stream="0199f3a4-7c1e-7b52-9d0f-2f6a4d7e8b01", session=description()))


@pytest.mark.parametrize(
    "message", [HELLO, encode_control(End(frames=0)), '{"stream":"x", "type" : "hello"}']
)
async def test_acknowledged_mode_without_its_subprotocol(service, message):
    """A `hello` in plain mode hears what it lacks, and the connection ends: its sender would wait forever."""
    async with client(service) as robot:
        await robot.send(message)
        error = await robot.hear()
        assert (error["code"], error["fatal"], error["field"]) == ("protocol_violation", True, "type")
        assert error["detail"].endswith(
            "belongs to the acknowledged mode, and this connection is in plain mode"
        )
        assert error["hint"] == f"connect with the subprotocol {SUBPROTOCOL}"
        with pytest.raises(ConnectionClosed) as closed:
            await robot.hear()
        # For clients that never look at messages: their libraries print this.
        assert closed.value.rcvd.code == 1002
        assert closed.value.rcvd.reason.startswith(error["detail"][:30])


async def test_hello_after_plain_frames(service, database, http):
    """What was stored stays, and the ledger counts the message that was refused."""
    async with client(service) as robot:
        await robot.send(FRAME)
        await robot.acked(1)
        await robot.send(HELLO)
        error = await robot.hear()
        assert error["code"] == "protocol_violation"
    session = await ended(database, "interrupted")
    ledger = await ledger_of(http, session)
    assert (ledger["committed"], ledger["refused"], ledger["complete"]) == (1, 1, False)


async def test_a_frame_of_another_type_is_no_hello(service):
    """A field of that name alone does not end a connection."""
    async with client(service) as robot:
        await robot.send(FRAME | {"type": "observation"})
        assert (await robot.refused())["field"] == "type"
        await robot.send(FRAME)
        await robot.acked(1)


async def test_batch_in_plain_mode(service):
    """So is a batch, which is a binary message."""
    async with client(service) as robot:
        await robot.send(encode_batch(batch(0, 1)))
        error = await robot.refused()
        assert "binary" in error["detail"]
        assert SUBPROTOCOL in error["hint"]


async def test_plain_frames_in_acknowledged_mode(service):
    """Who offered the subprotocol and sends plain frames hears that they need a connection without it."""
    async with dial(service) as connection:
        await connection.send(json.dumps(FRAME))
        error = await TestRobot(connection, None).hear_any()
        assert (error.code, error.field, error.detail) == ("bad_message", "type", "type is missing")
        assert "plain frames need a connection without one" in error.hint


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_http_at_the_address(http, method):
    """A browser's address bar, or curl, hears what the address is for."""
    answer = await http.request(method, "/ws/log/robot_A")
    assert (answer.status_code, answer.headers["Upgrade"]) == (426, "websocket")
    problem = answer.json()
    assert problem["code"] == "upgrade_required"
    assert problem["detail"] == "/ws/log/robot_A is an address for WebSocket only"
    assert problem["hint"] == "connect with ws:// or wss://"


# What nginx 1.22 sends for a WebSocket's handshake: with proxy_pass alone; with `Upgrade` passed on, but not
# `Connection`; the other way round.
STRIPPED = {
    "proxy_pass alone": {"Connection": "close"},
    "no Connection": {"Connection": "close", "Upgrade": "websocket"},
    "no Upgrade": {"Connection": "Upgrade"},
}


@pytest.mark.parametrize("headers", STRIPPED.values(), ids=STRIPPED)
async def test_handshake_behind_a_proxy_that_strips_it(http, headers):
    """A handshake without its Upgrade headers was cut by a proxy; the answer says how to let it pass."""
    handshake = {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    answer = await http.get("/ws/log/robot_A", headers={**handshake, **headers}, timeout=PATIENCE_S)
    assert answer.status_code == 426
    problem = answer.json()
    assert "a proxy between the client and this server has removed them" in problem["detail"]
    assert "proxy_set_header Upgrade $http_upgrade" in problem["hint"]
