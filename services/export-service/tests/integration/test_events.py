"""Following exports by server-sent events."""

import asyncio
import json
import threading
import time
from itertools import pairwise

import pytest
from teleop_client.exporting import exports
from teleop_export.api import events
from teleop_export.making.build import build
from teleop_testing.backends.reverse_proxies import needs_nginx, nginx
from teleop_testing.backends.serving import client_of
from teleop_testing.waiting import PATIENCE_S


@pytest.fixture
def slowly(monkeypatch):
    """Exports take a second or two."""

    def build_slowly(folder, order, name, reader, chunks, files, media, watch):
        def wait(stage, done, total):
            time.sleep(0.05)
            watch(stage, done, total)

        return build(folder, order, name, reader, chunks, files, media, wait)

    monkeypatch.setattr("teleop_export.worker.build", build_slowly)
    monkeypatch.setattr("teleop_export.planning.pieces.READ_FRAMES", 100)


async def heard(backend, export_id, **headers):
    """All events until the stream ends, as (id, event, data)."""
    found = []
    async with asyncio.timeout(PATIENCE_S):
        async with backend.http.stream("GET", f"/exports/{export_id}/events", headers=headers) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            fields = {}
            async for line in answer.aiter_lines():
                if line and not line.startswith(":"):
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif not line and "data" in fields:
                    found.append((fields["id"], fields["event"], json.loads(fields["data"])))
                    fields = {}
    return found


async def test_events_tell_every_stage_until_the_end(backend, record, slowly):
    """A state at once, then changes, never the same twice, and the stream ends after the last."""
    session = await record(2000, episodes=[(first, first + 100) for first in range(0, 2000, 100)])
    export = await backend.ask(session)
    states = await heard(backend, export["id"])
    assert {event for _, event, _ in states} == {"state"}
    assert [state["status"] for _, _, state in states][-1] == "done"
    assert "running" in {state["status"] for _, _, state in states}
    assert all(one[2] != other[2] for one, other in pairwise(states))
    last = dict(states[-1][2])
    detail = (await backend.http.get(f"/exports/{export['id']}")).json()
    assert detail.pop("report")
    assert last == detail


async def test_finished_export_is_one_event(backend, record):
    """And to a browser that comes back after it, nothing more, so that it stays away."""
    export, _ = await backend.export(await record(10))
    ((event_id, _, state),) = await heard(backend, export["id"])
    assert (event_id, state["status"]) == ("last", "done")
    again = await backend.http.get(f"/exports/{export['id']}/events", headers={"Last-Event-ID": "last"})
    assert again.status_code == 204
    for odd in ("7", "-1", "x" * 1000):
        assert len(await heard(backend, export["id"], **{"Last-Event-ID": odd})) == 1


async def test_cancelled_export_ends_the_stream(backend, record, slowly):
    """As does one that is removed altogether."""
    session = await record(4000, episodes=[(first, first + 100) for first in range(0, 4000, 100)])
    export = await backend.ask(session)
    following = asyncio.create_task(heard(backend, export["id"]))
    await backend.begun(export["id"])
    await backend.http.delete(f"/exports/{export['id']}")
    assert (await following)[-1][2]["status"] == "cancelled"


async def test_quiet_stream_has_a_heartbeat(backend, record, slowly, monkeypatch):
    """So that proxies keep it open."""
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.0)
    monkeypatch.setattr(events, "LOOK_EVERY_S", 0.01)
    session = await record(1000, episodes=[(first, first + 100) for first in range(0, 1000, 100)])
    export = await backend.ask(session)
    async with backend.http.stream("GET", f"/exports/{export['id']}/events") as answer:
        assert ": alive" in [line async for line in answer.aiter_lines()]


@needs_nginx
async def test_nginx_with_its_defaults_passes_events_on_at_once(backend, record, tmp_path, monkeypatch):
    """It would keep some KB together; here the export goes on only once the client has heard of it."""
    listening = threading.Event()

    def build_once_heard(*parts, **more):
        assert listening.wait(PATIENCE_S)
        return build(*parts, **more)

    monkeypatch.setattr("teleop_export.worker.build", build_once_heard)
    export = await backend.ask(await record(10))
    directives = f"location / {{ proxy_pass {backend.http.base_url}; }}"
    async with nginx(tmp_path, directives) as port, client_of(f"127.0.0.1:{port}") as http:
        try:
            async with http.stream("GET", f"/exports/{export['id']}/events") as answer:
                told = (json.loads(line[6:]) async for line in answer.aiter_lines() if line[:6] == "data: ")
                assert (await anext(told))["status"] in ("queued", "running")
                listening.set()
                assert [state["status"] async for state in told][-1] == "done"
        finally:
            listening.set()


async def test_followers_are_limited(backend, record, slowly, monkeypatch):
    """429 beyond; a place is free again when a follower leaves."""
    monkeypatch.setattr(events, "MAX_FOLLOWERS", 1)
    session = await record(4000, episodes=[(first, first + 100) for first in range(0, 4000, 100)])
    url = f"/exports/{(await backend.ask(session))['id']}/events"
    async with backend.http.stream("GET", url) as answer:
        lines = answer.aiter_lines()
        assert await anext(lines)
        refused = await backend.http.get(url)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_connections")
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async with backend.http.stream("GET", url) as answer:
                if answer.status_code == 200:
                    break
            await asyncio.sleep(0.05)


async def test_unknown_export_has_no_events(backend):
    """A problem document, no stream."""
    answer = await backend.http.get("/exports/77/events")
    assert (answer.status_code, answer.json()["code"]) == (404, "export_not_found")


@pytest.mark.parametrize("media", ["text/event-stream", "nothing/known"])
async def test_command_line_follows_with_and_without_events(backend, record, slowly, monkeypatch, media):
    """Where something on the way does not let them through, it asks again and again."""
    monkeypatch.setattr(exports, "EVENTS", media)
    session = await record(1000, episodes=[(first, first + 100) for first in range(0, 1000, 100)])
    export = await backend.ask(session)
    told = []

    class Told:
        def __call__(self, *progress):
            told.append(progress)

        def note(self, line):
            raise AssertionError(line)

    async with exports.Exports.connected(str(backend.http.base_url)) as following:
        made = await following.follow(export["id"], Told())
    assert (made["status"], made["report"]["exported"]) == ("done", 1000)
    assert {stage for stage, _, _ in told} >= {"data", "verify"}
    assert told[-1][1] == told[-1][2]
