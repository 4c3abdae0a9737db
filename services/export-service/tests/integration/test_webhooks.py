"""Other programs are told what happens: over real sockets, with signatures, again until it arrives."""

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from teleop_export.tables.database import open_pool
from teleop_export.webhooks.table import WebhookTable
from teleop_testing.backends.serving import serving
from teleop_testing.waiting import PATIENCE_S

EXAMPLE = Path(__file__).parents[4] / "examples" / "receive_webhooks.py"
EVENTS = ["session.complete", "export.done", "export.failed"]
# What waits is due, as if its time had come.
HURRY = "UPDATE webhook_delivery SET next_attempt_at = now() - interval '1 s' WHERE status = 'waiting'"


class Receiver:
    """A program that is told.

    answers  status of each answer, the last for all further ones
    heard    headers and body of each request
    """

    def __init__(self) -> None:
        self.answers = [200]
        self.heard: list[tuple[dict[str, str], bytes]] = []
        self.address = ""

    async def handle(self, request: Request) -> Response:
        self.heard.append((dict(request.headers), await request.body()))
        status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return Response(status_code=status, headers={"location": f"http://{self.address}/elsewhere"})

    async def hears(self, count: int) -> None:
        """Wait until it has heard so many requests."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.heard) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@asynccontextmanager
async def listening() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = Starlette(routes=[Route("/{path:path}", receiver.handle, methods=["POST", "GET"])])
    async with serving(app) as address:
        receiver.address = address
        yield receiver


@pytest.fixture
async def receiver(monkeypatch):
    """One that webhooks may be sent to."""
    monkeypatch.setenv("LEROBOT_BACKEND_WEBHOOKS", "127.0.0.1/32 receiver.lab")
    async with listening() as receiver:
        yield receiver


@pytest.fixture
async def told(receiver, serve):
    """A backend that may tell it."""
    async with serve() as backend:
        yield backend


async def add(backend, url, events=EVENTS, status=201):
    answer = await backend.http.post("/webhooks", json={"url": url, "events": events})
    assert answer.status_code == status, answer.text
    return answer.json()


async def deliveries(backend, webhook, until=lambda each: True):
    """The deliveries once all of them are as wanted."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = await backend.http.get(f"/webhooks/{webhook['id']}/deliveries")
            found = answer.json()["deliveries"]
            if found and all(until(each) for each in found):
                return found
            await asyncio.sleep(0.05)


def is_signed(secret, headers, body):
    """As a receiver checks it that knows nothing but the specification."""
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
    return headers["webhook-signature"] == f"v1,{expected}"


async def test_what_happens_is_told(told, receiver, record, database):
    """With what it is about, signed; the key is shown once."""
    webhook = await add(told, f"http://{receiver.address}/hook")
    session = await record(20, status="recording")
    await database.connection.execute("UPDATE teleop_session SET status = 'complete' WHERE id = $1", session)
    await receiver.hears(1)
    export, _ = await told.export(session)
    await receiver.hears(2)
    bodies = [json.loads(body) for _, body in receiver.heard]
    assert [body["type"] for body in bodies] == ["session.complete", "export.done"]
    assert bodies[0]["data"] == {"session_id": session, "robot_id": "robot_A", "frames": 20}
    assert bodies[1]["data"]["export_id"] == export["id"]
    assert bodies[1]["data"]["fingerprint"] == export["fingerprint"]
    for headers, body in receiver.heard:
        assert headers["content-type"] == "application/json"
        assert is_signed(webhook["secret"], headers, body)
        assert not is_signed(webhook["secret"], headers, body + b" ")
    ended = await deliveries(told, webhook, lambda each: each["status"] == "delivered")
    assert {each["id"] for each in ended} == {headers["webhook-id"] for headers, _ in receiver.heard}
    assert [(each["answer"], each["attempts"], each["next_attempt_at"]) for each in ended] == [
        (200, 1, None)
    ] * 2
    (listed,) = (await told.http.get("/webhooks")).json()["webhooks"]
    assert "secret" not in listed
    assert (listed["waiting"], listed["failing_since"]) == (0, None)


async def test_the_example_hears_it(told):
    """And not what somebody else sends."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    webhook = await add(told, f"http://127.0.0.1:{port}/hook")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        EXAMPLE,
        "127.0.0.1",
        str(port),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"WEBHOOK_SECRET": webhook["secret"]},
    )
    try:
        async with asyncio.timeout(PATIENCE_S), httpx.AsyncClient(timeout=PATIENCE_S) as stranger:
            while True:
                try:
                    answer = await stranger.post(f"http://127.0.0.1:{port}/hook", content=b"{}")
                    break
                except httpx.ConnectError:
                    await asyncio.sleep(0.05)
            assert answer.status_code == 401
            await told.http.post(f"/webhooks/{webhook['id']}/test")
            assert process.stdout is not None
            assert await process.stdout.readline() == b"test {}\n"
    finally:
        process.kill()
        await process.communicate()


async def test_only_what_was_asked_for_is_told(told, receiver, record):
    await add(told, f"http://{receiver.address}/done", ["export.done"])
    webhook = await add(told, f"http://{receiver.address}/failed", ["export.failed"])
    await told.export(await record(20))
    await receiver.hears(1)
    answer = await told.http.get(f"/webhooks/{webhook['id']}/deliveries")
    assert answer.json()["deliveries"] == []


async def test_nothing_is_told_of_what_was_taken_back(told, receiver, record, database):
    """It is noted in the transaction that it is about."""
    webhook = await add(told, f"http://{receiver.address}/hook")
    session = await record(20, status="recording")
    taken_back = database.connection.transaction()
    await taken_back.start()
    await database.connection.execute("UPDATE teleop_session SET status = 'complete'")
    await taken_back.rollback()
    await database.connection.execute("UPDATE teleop_session SET status = 'complete' WHERE id = $1", session)
    assert len(await deliveries(told, webhook)) == 1


async def test_it_is_told_again_until_it_arrives(told, receiver, database):
    """Under the same name, so that a receiver can tell; an end of the backend in between changes nothing."""
    receiver.answers = [500, 302, 200]
    webhook = await add(told, f"http://{receiver.address}/hook")
    assert (await told.http.post(f"/webhooks/{webhook['id']}/test")).status_code == 202
    (first,) = await deliveries(told, webhook, lambda each: each["error"])
    assert (first["status"], first["answer"]) == ("waiting", 500)
    (listed,) = (await told.http.get("/webhooks")).json()["webhooks"]
    assert (listed["waiting"], listed["last_error"]) == (1, "the receiver answered 500")
    assert listed["failing_since"] is not None
    await database.connection.execute(HURRY)
    await receiver.hears(2)
    (second,) = await deliveries(told, webhook, lambda each: each["answer"] == 302)
    assert "redirects are not followed" in second["error"]
    await database.connection.execute(HURRY)
    (third,) = await deliveries(told, webhook, lambda each: each["status"] == "delivered")
    assert third["attempts"] == 3
    assert len({headers["webhook-id"] for headers, _ in receiver.heard}) == 1
    assert len({body for _, body in receiver.heard}) == 1
    (listed,) = (await told.http.get("/webhooks")).json()["webhooks"]
    assert (listed["failing_since"], listed["last_error"]) == (None, None)


async def test_what_a_sender_left_when_it_died_is_sent_by_another(receiver, serve, database):
    """Once its lease has ended, and not before."""
    async with serve(work_here=False) as backend:
        webhook = await add(backend, f"http://{receiver.address}/hook")
        await backend.http.post(f"/webhooks/{webhook['id']}/test")
    await database.connection.execute(
        "UPDATE webhook_delivery SET attempts = 1, next_attempt_at = now() + interval '1 min'"
    )
    async with serve() as backend:
        await database.connection.execute(HURRY)
        (sent,) = await deliveries(backend, webhook, lambda each: each["status"] == "delivered")
    assert (sent["attempts"], len(receiver.heard)) == (2, 1)


async def test_replicas_send_once(receiver, serve):
    async with serve() as first, serve() as second:
        webhook = await add(first, f"http://{receiver.address}/hook")
        for _ in range(10):
            await second.http.post(f"/webhooks/{webhook['id']}/test")
        await deliveries(first, webhook, lambda each: each["status"] == "delivered")
    assert len(receiver.heard) == 10
    assert len({headers["webhook-id"] for headers, _ in receiver.heard}) == 10


async def test_one_that_does_not_answer_keeps_no_other_waiting(told, receiver):
    """It is noted."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dead = await add(told, f"http://127.0.0.1:{silent.getsockname()[1]}/hook")
        alive = await add(told, f"http://{receiver.address}/hook")
        for webhook in (dead, alive):
            await told.http.post(f"/webhooks/{webhook['id']}/test")
        await deliveries(told, alive, lambda each: each["status"] == "delivered")
        (waiting,) = await deliveries(told, dead)
        assert waiting["status"] == "waiting"


async def test_one_that_is_gone_is_told_nothing_more(told, receiver, record):
    """Until an admin tests it again."""
    receiver.answers = [410, 200]
    webhook = await add(told, f"http://{receiver.address}/hook", ["export.done"])
    await told.http.post(f"/webhooks/{webhook['id']}/test")
    await deliveries(told, webhook, lambda each: each["status"] == "failed")
    (listed,) = (await told.http.get("/webhooks")).json()["webhooks"]
    assert listed["disabled_at"] is not None
    await told.export(await record(20))
    assert len(await deliveries(told, webhook)) == 1
    await told.http.post(f"/webhooks/{webhook['id']}/test")
    await receiver.hears(2)
    (listed,) = (await told.http.get("/webhooks")).json()["webhooks"]
    assert listed["disabled_at"] is None


async def test_a_name_is_looked_at_when_it_is_used(told, receiver, monkeypatch):
    """Whatever it stood for before: nothing of this machine's network is reached."""
    asked = []

    async def resolve(host, port):
        asked.append(host)
        return ["10.0.0.7"] if len(asked) == 1 else ["127.0.0.1"]

    monkeypatch.setattr("teleop_export.webhooks.sender.resolve", resolve)
    port = receiver.address.partition(":")[2]
    webhook = await add(told, f"http://receiver.lab:{port}/hook")
    await told.http.post(f"/webhooks/{webhook['id']}/test")
    (refused,) = await deliveries(told, webhook, lambda each: each["error"])
    assert "10.0.0.7" in refused["error"]
    assert receiver.heard == []
    await told.http.post(f"/webhooks/{webhook['id']}/test")
    await receiver.hears(1)
    assert receiver.heard[0][0]["host"] == f"receiver.lab:{port}"


async def test_an_address_that_nobody_named_is_refused(told):
    for url in ("http://10.0.0.1/x", "https://example.com/", "http://169.254.169.254/latest", "x"):
        answer = await told.http.post("/webhooks", json={"url": url, "events": EVENTS})
        assert (answer.status_code, answer.json()["field"]) == (422, "url")
    assert (await told.http.get("/webhooks")).json()["webhooks"] == []


async def test_webhooks_are_few_and_can_be_removed(told, receiver):
    made = [await add(told, f"http://{receiver.address}/{number}") for number in range(20)]
    refused = await add(told, f"http://{receiver.address}/more", status=409)
    assert (refused["code"], refused["limit"]) == ("too_many_webhooks", 20)
    await told.http.post(f"/webhooks/{made[0]['id']}/test")
    assert (await told.http.delete(f"/webhooks/{made[0]['id']}")).status_code == 204
    for method, path in (("DELETE", ""), ("GET", "/deliveries"), ("POST", "/test")):
        answer = await told.http.request(method, f"/webhooks/{made[0]['id']}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "webhook_not_found")


async def test_the_log_of_deliveries_is_bounded(told, receiver, database, database_url):
    """Of those that have ended, the newest are kept."""
    webhook = await add(told, f"http://{receiver.address}/hook")
    await database.connection.execute(
        """INSERT INTO webhook_delivery (webhook_id, event, payload, status, next_attempt_at, ended_at,
                                         created_at)
           SELECT $1, 'test', '{}', 'delivered', NULL, now(), now() - number * interval '1 s'
             FROM generate_series(1, 1100) AS number""",
        webhook["id"],
    )
    async with open_pool(database_url) as pool:
        await WebhookTable(pool).prune()
    assert await database.connection.fetchval("SELECT count(*) FROM webhook_delivery") == 1000
