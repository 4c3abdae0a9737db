"""Exports of erased sessions: none is left, and none is made any more."""

import json

import pytest
from teleop_export.work.folders import Folders
from teleop_testing.datasets.erased import ask_session, share_of
from teleop_testing.waiting import until

SERVICE = "export-service"
TOLD = """
WITH made AS (INSERT INTO webhook (url, events, secret, created_by)
              VALUES ('http://x', '{}', '', '') RETURNING id)
INSERT INTO webhook_delivery (webhook_id, event, payload)
SELECT id, 'session.complete', jsonb_build_object('data', jsonb_build_object('session_id', session))
  FROM made, unnest(ARRAY[$1, $2]::bigint[]) AS session
"""


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Tests do not wait as long as services do."""
    monkeypatch.setattr("teleop_export.app.ERASE_EVERY_S", 0.05)


async def done(database, erasure: int) -> dict:
    """The share once it is done."""

    async def is_done() -> bool:
        return (await share_of(database, erasure, SERVICE))["done_at"] is not None

    await until(is_done)
    return await share_of(database, erasure, SERVICE)


async def test_every_export_with_frames_of_it_goes(backend, record, database):
    """Also one of several sessions; others stay. Copies elsewhere are named."""
    session, other = await record(60), await record(60)
    await backend.export(session)
    both, _ = await backend.export(session, other, repo_id="lab/both")
    left, folder = await backend.export(other, repo_id="lab/other")
    await database.connection.execute(
        """INSERT INTO export_push (export_id, private, overwrite, status, attempts_left, commit_url)
           VALUES ($1, true, false, 'done', 1, 'https://hub/lab/both/commit/1')""",
        both["id"],
    )
    await database.connection.execute(TOLD, session, other)
    share = await done(database, await ask_session(database, session))
    assert json.loads(share["removed"]) == {"exports": 2}
    told = "\n".join(share["not_reached"])
    assert "https://hub/lab/both/commit/1" in told
    assert f"downloads of export {both['id']} (lab/both)" in told
    assert [path for path in backend.root.glob("export-*")] == [folder]
    assert await database.fetch("SELECT id FROM export") == [{"id": left["id"]}]
    assert await database.value("SELECT count(*) FROM export_push") == 0
    (told,) = await database.fetch("SELECT payload->'data'->>'session_id' AS session FROM webhook_delivery")
    assert told["session"] == str(other)
    read = ("", "/report.txt", "/events", "/archive", "/files/meta/info.json", f"/compare?with={left['id']}")
    changed = (("DELETE", ""), ("POST", "/push"), ("POST", "/repeat"))
    for method, path in (*(("GET", each) for each in read), *changed):
        body = {"labels": "now"} if path == "/repeat" else {}
        gone = await backend.http.request(method, f"/exports/{both['id']}{path}", json=body)
        assert (gone.status_code, gone.json()["code"]) == (410, "export_erased"), path
        assert f"session {session}, which was erased for good by" in gone.json()["detail"]
    assert (await backend.http.get(f"/exports/{left['id'] + 1}")).status_code == 404


async def test_an_export_that_is_being_made_goes(backend, record, database):
    """It stops, and the share is done only once nothing is left of what it has built."""
    session = await record(20_000, episodes=[(first, first + 100) for first in range(0, 20_000, 100)])
    asked = await backend.ask(session)
    await backend.begun(asked["id"])
    await done(database, await ask_session(database, session))
    await backend.leaves_nothing()
    assert (await backend.http.get(f"/exports/{asked['id']}")).status_code == 410


async def test_nothing_is_exported_of_it_any_more(backend, record, database):
    """Not even by a request that had read the session before, and whoever asks hears why."""
    session = await record(60)
    await ask_session(database, session)
    refused = await backend.ask(session, status=410)
    assert (refused["code"], refused["field"]) == ("session_erased", "session_ids")
    assert "was erased for good by" in refused["detail"]


async def test_a_folder_is_erased_after_a_kill_too(tmp_path):
    """Wherever the one before was: with its name, put aside, or removed in part."""
    folders = Folders(tmp_path, "database")
    for place in (folders.published(1, "abc"), tmp_path / ".building/discarded-export-1-abc-database"):
        place.mkdir()
        (place / "data").write_bytes(b"rows")
        assert folders.has_remains(["1"]) == (".building" in str(place))
        folders.erase(1, "abc")
        assert [path.name for path in tmp_path.rglob("*")] == [".building"]
    (tmp_path / ".building/1-1-database").mkdir()
    assert folders.has_remains(["1"])
    assert not folders.has_remains(["11"])
