"""What a token has opened ends with it: connections, downloads, uploads, events."""

import asyncio
import json
from contextlib import suppress

import httpx
import pytest
from teleop_runtime import gate, lasting
from teleop_runtime.access.tokens import prefix_of
from teleop_runtime.serving import guard
from teleop_testing.backends.guarded import bearer
from teleop_testing.robots.lines import connect
from teleop_testing.waiting import PATIENCE_S, wait_for
from websockets.exceptions import ConnectionClosed

ENDS = {
    "revoked": "UPDATE access_token SET revoked_at = now() WHERE prefix = $1",
    "expired": "UPDATE access_token SET expires_at = now() WHERE prefix = $1",
    "for fewer robots": """
        UPDATE principal SET robot_ids = '{robot_C}'
         WHERE id = (SELECT principal_id FROM access_token WHERE prefix = $1)
    """,
}


@pytest.fixture(params=ENDS)
def end(request, database):
    """Ends a token, in each of the ways."""

    async def end(token):
        await database.connection.execute(ENDS[request.param], prefix_of(token))

    return end


async def test_the_end_of_a_token_ends_its_connections(address, add, end):
    """With its code, and with words; other connections stay."""
    token, other = await add("admin", "anna"), await add("robot", "robot_B")
    async with (
        connect(f"ws://{address}/ws/robot_A", additional_headers=bearer(token)) as socket,
        connect(f"ws://{address}/ws/robot_B", additional_headers=bearer(other)) as staying,
    ):
        await end(token)
        async with asyncio.timeout(PATIENCE_S):
            message = json.loads(await socket.recv())
            assert (message["code"], message["fatal"], message["retryable"]) == ("unauthorized", True, True)
            with pytest.raises(ConnectionClosed):
                await socket.recv()
        assert socket.close_code == 4401
        await staying.send("x")
        assert await staying.recv() == "x"
    assert gate.LOOK_EVERY_S + lasting.REMEMBERED_S < 5


async def test_the_end_of_a_token_ends_its_downloads(http, add, end):
    """However long they are; other downloads go on."""
    token, other = await add("viewer", "anna"), await add("viewer", "berta")
    async with (
        http.stream("GET", "/file", headers=bearer(token)) as stream,
        http.stream("GET", "/file", headers=bearer(other)) as staying,
        asyncio.timeout(PATIENCE_S),
    ):
        assert (stream.status_code, staying.status_code) == (200, 200)
        await end(token)
        with pytest.raises(httpx.RemoteProtocolError):
            await stream.aread()
        others = staying.aiter_raw()
        for _ in range(100):
            assert await anext(others)


class Sending:
    """An upload whose body goes on as long as nobody answers."""

    @classmethod
    async def begun(cls, address, path, token):
        sending = cls()
        host, port = address.rsplit(":", 1)
        sending._reader, sending._writer = await asyncio.open_connection(host, int(port))
        sending._writer.write(
            f"POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n"
            "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        # Whoever is asked for the body has been let in.
        assert await sending.status() == b"100"
        await sending._reader.readline()
        return sending

    async def go_on(self):
        with suppress(ConnectionError):
            self._writer.write(b"1\r\nx\r\n")
            await self._writer.drain()

    async def end(self):
        self._writer.write(b"0\r\n\r\n")

    async def status(self):
        return (await self._reader.readline()).split()[1]

    async def close(self):
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


async def test_the_end_of_a_token_ends_its_uploads(address, add, end):
    """Before their last byte has come; other uploads come to their end."""
    token, other = await add("admin", "anna"), await add("robot", "robot_B")
    sending = await Sending.begun(address, "/file/robot_A", token)
    staying = await Sending.begun(address, "/file/robot_B", other)
    await sending.go_on()
    await end(token)
    answered = asyncio.create_task(sending.status())
    async with asyncio.timeout(PATIENCE_S):
        while not answered.done():
            await sending.go_on()
            await staying.go_on()
            await asyncio.wait([answered], timeout=0.05)
        assert await answered == b"401"
        await staying.end()
        assert await staying.status() == b"200"
    for each in (sending, staying):
        await each.close()
    assert guard.LOOK_AGAIN_S + lasting.REMEMBERED_S < 5


async def test_the_end_of_a_token_ends_its_events(http, add, database):
    """Even if none comes; others hear on, and events that end by themselves are all there."""
    token, other = await add("viewer", "anna"), await add("viewer", "berta")
    few = await http.get("/few-events", headers=bearer(token))
    assert few.text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
    async with (
        http.stream("GET", "/events", headers=bearer(token)) as stream,
        http.stream("GET", "/events", headers=bearer(other)) as staying,
        asyncio.timeout(PATIENCE_S),
    ):
        revoke = "UPDATE access_token SET revoked_at = now() WHERE prefix = $1"
        await database.connection.execute(revoke, prefix_of(token))
        assert [each async for each in stream.aiter_lines()] == ["data: first", ""]
        assert await anext(staying.aiter_lines()) == "data: first"
        assert not staying.is_closed


async def test_a_revoked_token_is_soon_refused(http, add, database):
    """It is remembered for a moment only."""
    token = await add("viewer")
    assert (await http.get("/whoami", headers=bearer(token))).status_code == 200
    await database.connection.execute("UPDATE access_token SET revoked_at = now()")

    async def refused():
        return (await http.get("/whoami", headers=bearer(token))).status_code == 401

    await wait_for(refused)
