"""The service behind nginx, set up as docs/telemetry-protocol.md has it, and as by who has not read it."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from teleop_testing.backends.reverse_proxies import needs_nginx, nginx
from teleop_testing.robots.lines import connect
from teleop_testing.waiting import PATIENCE_S, until
from websockets.exceptions import InvalidStatus

DOCUMENT = Path(__file__).parents[2] / "docs/telemetry-protocol.md"
ALONE = "location / {{ proxy_pass http://127.0.0.1:{port}; {more} }}"

pytestmark = needs_nginx


async def test_as_documented(service, database, tmp_path):
    """With the lines of the document, frames pass, and the end of a connection is told apart."""
    [location] = re.findall(r"^```\n(location /ws/ .*?)```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    async with nginx(tmp_path, location.replace(":8000", f":{service.port}")) as port:
        async with connect(f"ws://127.0.0.1:{port}/ws/log/robot_A") as line:
            for number in range(100):
                await line.send(json.dumps({"observation": {"a": number}}))
        await until(lambda: database.value("SELECT status = 'complete' FROM teleop_session"))
        assert await database.value("SELECT logged_frames FROM teleop_session") == 100
        line = await connect(f"ws://127.0.0.1:{port}/ws/log/robot_A")
        await line.send(json.dumps({"observation": {"a": 0}}))
        await until(lambda: database.value("SELECT sum(next_frame_index) = 101 FROM teleop_session"))
        line.transport.abort()
        await until(
            lambda: database.value(
                "SELECT status = 'interrupted' FROM teleop_session ORDER BY id DESC LIMIT 1"
            )
        )


IMPATIENT_S = 15
UPGRADING = (
    'proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";'
    f" proxy_read_timeout {IMPATIENT_S}s; proxy_send_timeout {IMPATIENT_S}s;"
)


@pytest.mark.long("a robot says nothing for longer than nginx waits")
async def test_an_idle_connection_outlives_the_time_outs(service, tmp_path):
    """The service's pings pass through nginx in time, although the client itself sends nothing."""
    async with (
        nginx(tmp_path, ALONE.format(port=service.port, more=UPGRADING)) as port,
        connect(f"ws://127.0.0.1:{port}/ws/log/robot_A", ping_interval=None) as line,
    ):
        await asyncio.sleep(2 * IMPATIENT_S)
        await line.send(json.dumps({"observation": {"a": 0}}))
        async with asyncio.timeout(PATIENCE_S):
            while json.loads(await line.recv()).get("next") != 1:
                pass


# What is missing in each: everything; both headers; `Connection`.
INCOMPLETE = ["", "proxy_http_version 1.1;", "proxy_set_header Upgrade $http_upgrade;"]


async def test_without_the_upgrade(service, tmp_path):
    """Whatever is missing, the client reads in the answer to its handshake which lines nginx needs."""
    for more in INCOMPLETE:
        async with nginx(tmp_path, ALONE.format(port=service.port, more=more)) as port:
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://127.0.0.1:{port}/ws/log/robot_A")
        answer = refused.value.response
        problem = json.loads(answer.body)
        assert (answer.status_code, problem["code"]) == (426, "upgrade_required"), more
        assert "a proxy between the client and this server has removed them" in problem["detail"]
        for line in ("proxy_http_version 1.1;", "proxy_set_header Upgrade $http_upgrade;"):
            assert line in problem["hint"]
