"""The service over HTTP, on a real PostgreSQL."""

import asyncio
import json
import time
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
from teleop_export.making.build import build
from teleop_export.tables.session_table import SessionReader

LEVELS = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}


def data_of(folder):
    return pq.read_table(folder / "data")


def column(table, key):
    values = table.column(key).combine_chunks()
    flat = values.flatten() if hasattr(values.type, "list_size") else values
    return flat.to_numpy().reshape(len(values), -1)


async def test_dataset_holds_the_recorded_frames(backend, record, database):
    """Row for row what the table holds, discarded episodes apart."""
    session = await record(
        900, episodes=[(0, 300, "pick", "success"), (310, 400, None, "discarded"), (400, 900, "place", None)]
    )
    export, folder = await backend.export(session)
    rows = await database.fetch(
        """SELECT state, action, "timestamp" FROM teleop_frame
            WHERE session_id = $1 AND (frame_index < 300 OR frame_index >= 400) ORDER BY frame_index""",
        session,
    )
    table = data_of(folder)
    np.testing.assert_array_equal(
        column(table, "observation.state"), np.float32([row["state"] for row in rows])
    )
    np.testing.assert_array_equal(column(table, "action"), np.float32([row["action"] for row in rows]))
    captured_us = [round(row["timestamp"].timestamp() * 1e6) for row in rows]
    assert (column(table, "capture.time_ns").ravel() // 1000).tolist() == captured_us
    numbers = export["numbers"]
    assert (numbers["episodes"], numbers["frames"], numbers["tasks"]) == (2, 800, 2)
    assert [stage["stage"] for stage in export["progress"]] == ["data", "statistics", "verify"]
    assert all(stage["done"] == stage["total"] for stage in export["progress"])


async def test_report_accounts_for_every_frame(backend, record):
    """committed = exported + excluded, each exclusion and each gap with its reason."""
    session = await record(
        500,
        episodes=[(0, 200), (200, 300, None, "discarded"), (300, 500)],
        gaps=[(50, 60, "disk full")],
        lost=[400],
    )
    export, folder = await backend.export(session, include_incomplete=True)
    report = export["report"]
    assert (report["committed"], report["excluded"], report["exported"]) == (489, 100, 389)
    (found,) = report["sessions"]
    assert [(each["reason"], each["frames"]) for each in found["excluded"]] == [("discarded", 100)]
    gaps = [(gap["first_frame"], gap["end_frame"], gap["reason"]) for gap in found["gaps"]]
    assert gaps == [(50, 60, "disk full"), (400, 401, "never stored, reason unknown")]
    origins = json.loads((folder / "meta/backend.json").read_text())["episodes"]
    spans = [(origin["first_frame"], origin["end_frame"]) for origin in origins]
    assert spans == [(0, 50), (60, 200), (300, 400), (401, 500)]
    assert export["numbers"]["frames"] == 389


@pytest.mark.parametrize("format", ["lerobot-v3.0", "parquet"])
async def test_frames_that_nobody_knows_of_are_waited_for(backend, record, monkeypatch, format):
    """No session leaves as whole that may not be: until they have come, are given up, or it is asked for."""
    monkeypatch.setattr("teleop_export.api.asking.RECHECK_AFTER_S", 0.0)
    session = await record(100, gaps=[(10, 12, "disk full")], lost=[40, 41, 42])
    refusal = await backend.ask(session, format=format, status=409)
    assert (refusal["code"], refusal["field"]) == ("frames_unaccounted", "session_ids")
    assert f"session {session} has 3 frames unaccounted for" in refusal["detail"]
    assert f"/sessions/{session}/give-up-missing" in refusal["hint"]
    assert "include_incomplete" in refusal["hint"]
    await backend.ask(session, format=format, include_incomplete=True)


async def test_frames_lost_with_a_database_are_waited_for(backend, record, database, monkeypatch):
    """Of a session that the store alone told of, as many as its robot logged."""
    monkeypatch.setattr("teleop_export.api.asking.RECHECK_AFTER_S", 0.0)
    lost, whole = await record(0), await record(30)
    await database.connection.execute(
        "UPDATE teleop_session SET found_at = now(), logged_frames = 140 WHERE id = $1", lost
    )
    refusal = await backend.ask(lost, whole, status=409)
    assert refusal["code"] == "frames_unaccounted"
    assert refusal["detail"].startswith(f"session {lost} has 140 frames unaccounted for")


async def test_frames_that_come_while_one_waits_are_waited_for(backend, record, database, monkeypatch):
    """A commit that was seen in part is no reason to refuse: it is looked at twice."""
    session = await record(100, lost=[40])
    looks = []

    async def read(self, *words, **more):
        looks.append(words)
        if len(looks) == 2:
            await database.connection.execute(
                """INSERT INTO teleop_frame SELECT session_id, 40, "timestamp", state, action
                     FROM teleop_frame WHERE session_id = $1 AND frame_index = 39""",
                session,
            )
        return await looked(self, *words, **more)

    looked = SessionReader.read
    monkeypatch.setattr("teleop_export.api.asking.RECHECK_AFTER_S", 0.0)
    monkeypatch.setattr(SessionReader, "read", read)
    assert (await backend.ask(session))["report"]["committed"] == 100


async def test_statistics_are_those_of_the_whole_table(backend, record):
    """Order statistics to the last bit, of the dataset and of each of its episodes.

    Sums agree as far as float64 goes: 256 ns is its grain at nanoseconds since 1970.
    """
    lengths = [700, 1, 2300, 999]
    edges = np.cumsum([0, *lengths]).tolist()
    session = await record(edges[-1], episodes=list(pairwise(edges)))
    _, folder = await backend.export(session)
    table, stats = data_of(folder), json.loads((folder / "meta/stats.json").read_text())
    episodes = pq.read_table(folder / "meta/episodes").to_pylist()
    assert list(stats) == table.column_names
    for key in table.column_names:
        values = column(table, key)
        values = values.astype(np.float64) if values.dtype.kind == "f" else values
        same_statistics(stats[key], values)
        for episode in episodes:
            rows = slice(episode["dataset_from_index"], episode["dataset_to_index"])
            prefix = f"stats/{key}/"
            found = {name.removeprefix(prefix): episode[name] for name in episode if name.startswith(prefix)}
            same_statistics(found, values[rows])


def same_statistics(found, values):
    assert found["count"] == [len(values)]
    np.testing.assert_array_equal(found["min"], values.min(axis=0))
    np.testing.assert_array_equal(found["max"], values.max(axis=0))
    for name, level in LEVELS.items():
        np.testing.assert_array_equal(found[name], np.quantile(values, level, axis=0))
    np.testing.assert_allclose(found["mean"], values.mean(axis=0), rtol=1e-12, atol=1e-12)
    spread = (values - values[:1]).std(axis=0)
    np.testing.assert_allclose(found["std"], spread, rtol=1e-8, atol=1e-12)


async def test_same_request_is_the_same_export(backend, record, database):
    """Until the session holds something else."""
    session = await record(100)
    first, folder = await backend.export(session)
    made_at = folder.stat().st_mtime_ns
    again = await backend.ask(session)
    assert (again["id"], again["status"]) == (first["id"], "done")
    assert folder.stat().st_mtime_ns == made_at
    assert (await backend.ask(session, repo_id="lab/other"))["id"] != first["id"]
    await database.connection.execute("UPDATE teleop_session SET task = 'fold' WHERE id = $1", session)
    assert (await backend.ask(session))["id"] != first["id"]


async def test_requests_at_the_same_moment_are_one_export(backend, record):
    """However many clients ask."""
    session = await record(100)
    answers = await asyncio.gather(*(backend.ask(session) for _ in range(8)))
    assert len({answer["id"] for answer in answers}) == 1
    assert (await backend.ended(answers[0]["id"]))["status"] == "done"


async def test_sessions_merge(backend, record):
    """One after the other, each episode from one of them; tasks are shared."""
    first = await record(100, task="pick")
    second = await record(60, task="pick", episodes=[(0, 20, "place"), (20, 60)])
    export, folder = await backend.export(second, first)
    episodes = pq.read_table(folder / "meta/episodes").to_pylist()
    assert [(each["tasks"], each["length"]) for each in episodes] == [
        (["place"], 20),
        (["pick"], 40),
        (["pick"], 100),
    ]
    assert export["numbers"]["tasks"] == 2


async def test_unfinished_session_is_exported_up_to_now(backend, record):
    """Only if asked for; otherwise it is a conflict that says how to ask."""
    session = await record(100, status="recording", episodes=[(0, 40), (40, None)])
    refusal = await backend.ask(session, status=409)
    assert refusal["code"] == "session_unfinished"
    assert "include_unfinished" in refusal["hint"]
    export, _ = await backend.export(session, include_unfinished=True)
    assert export["numbers"]["frames"] == 100


async def test_session_without_actions_has_no_such_feature(backend, record):
    """LeRobot takes no features of width zero."""
    session = await record(50, actions=())
    _, folder = await backend.export(session)
    assert "action" not in json.loads((folder / "meta/info.json").read_text())["features"]


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        (b"", 422, "bad_input", None),
        (b'{"session_ids": [1], "repo_id": "u/d"', 422, "bad_input", None),
        (b'{"session_ids": [1], "repo_id": "u/d"} x', 422, "bad_input", None),
        (b"[" * 100_000, 422, "bad_input", None),
        (b'{"session_ids": ' + b"[" * 100_000, 422, "bad_input", None),
        (b"[]", 422, "bad_input", None),
        (b'{"session_ids": [1]}', 422, "bad_input", "repo_id"),
        (b'{"session_ids": [1], "repo_id": "u/d", "fps": -1}', 422, "bad_input", "fps"),
        (b'{"session_ids": [], "repo_id": "u/d"}', 422, "bad_input", "session_ids"),
        (b'{"session_ids": [1.5], "repo_id": "u/d"}', 422, "bad_input", "session_ids[0]"),
        (b'{"session_ids": [0], "repo_id": "u/d"}', 422, "bad_input", "session_ids[0]"),
        (b'{"session_ids": [99999999999999999999], "repo_id": "u/d"}', 422, "bad_input", None),
        (b'{"session_ids": [1, 1], "repo_id": "u/d"}', 422, "bad_input", "session_ids"),
        (b'{"session_ids": [1], "repo_id": "../etc"}', 422, "bad_input", "repo_id"),
        (b'{"session_ids": [1], "repo_id": "u/\\u0000"}', 422, "bad_input", "repo_id"),
        (b'{"session_ids": [1], "repo_id": "u/d", "on_gap": "fill"}', 422, "bad_input", "on_gap"),
        (
            b'{"session_ids": [1], "repo_id": "u/d", "include_outcomes": []}',
            422,
            "bad_input",
            "include_outcomes",
        ),
        (b'{"session_ids": [1], "repo_id": "u/d", "split": {}}', 422, "bad_input", "split"),
        (b'{"session_ids": [1], "repo_id": "u/d", "split": {"train": 0.5}}', 422, "bad_input", "split"),
        (b'{"session_ids": [1], "repo_id": "u/d", "split": {"a": 2, "b": -1}}', 422, "bad_input", None),
        (b'{"session_ids": [1], "repo_id": "u/d", "split": {"../a": 1}}', 422, "bad_input", None),
        (b'{"session_ids": [1], "repo_id": "u/d", "split": {"a\\n": 1}}', 422, "bad_input", None),
        (b'{"session_ids": [77], "repo_id": "u/d"}', 404, "session_not_found", "session_ids"),
        (b"x" * (1024 * 1024 + 1), 413, "body_too_large", None),
    ],
)
async def test_bad_requests_are_named(backend, body, status, code, field):
    """Each gets a problem document, and nothing is queued."""
    answer = await backend.http.post("/exports", content=body)
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["code"] == code
    if field is not None:
        assert problem["field"] == field
    assert (await backend.http.get("/exports")).json()["exports"] == []


async def test_sessions_that_cannot_be_exported_say_why(backend, record, database):
    """fps, differences, gaps, emptiness, deletion."""
    whole, uneven = await record(10), await record(10, fps=0.4)
    gone, empty = await record(10), await record(0)
    holed = await record(10, gaps=[(3, 5, "disk full")])
    await database.connection.execute("UPDATE teleop_session SET deleted_at = now() WHERE id = $1", gone)
    assert (await backend.ask(uneven, status=422))["field"] == "fps"
    assert (await backend.ask(whole, uneven, status=409))["code"] == "sessions_differ"
    assert (await backend.ask(gone, status=404))["code"] == "session_not_found"
    assert (await backend.ask(empty, status=409))["code"] == "nothing_to_export"
    assert "disk full" in (await backend.ask(holed, on_gap="refuse", status=409))["detail"]


async def test_full_disk_is_told_before_anything_is_written(backend, record, monkeypatch):
    """507, with how much room there is."""
    monkeypatch.setattr("teleop_export.work.folders.KEEP_FREE", 1.0)
    assert (await backend.ask(await record(10), status=507))["code"] == "no_space"


async def test_exports_are_listed_page_by_page(backend, record):
    """Newest first; a cursor that is none is refused."""
    session = await record(10)
    made = [(await backend.ask(session, repo_id=f"lab/n{number}"))["id"] for number in range(5)]
    for each in made:
        await backend.ended(each)
    seen, cursor = [], None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await backend.http.get("/exports", params=query)).json()
        seen += [export["id"] for export in page["exports"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == made[::-1]
    for query in ("cursor=abc", "cursor=-1", "limit=1000000000", "limit=0", "page=2"):
        assert (await backend.http.get(f"/exports?{query}")).status_code == 422


async def test_unknown_exports_are_not_found(backend):
    """On every address below /exports."""
    for number in (1, 2**63):
        for method, path in (
            ("GET", ""),
            ("DELETE", ""),
            ("GET", "/archive"),
            ("GET", "/files/meta/info.json"),
        ):
            answer = await backend.http.request(method, f"/exports/{number}{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "export_not_found")


async def test_deleting_a_finished_export_leaves_nothing(backend, record):
    """Neither its row nor its files."""
    session = await record(10)
    export, _ = await backend.export(session)
    assert (await backend.http.delete(f"/exports/{export['id']}")).status_code == 204
    assert (await backend.http.get(f"/exports/{export['id']}")).status_code == 404
    await backend.leaves_nothing()
    assert (await backend.ask(session))["id"] != export["id"]


@pytest.fixture
def slowly(monkeypatch):
    """Exports take some seconds."""

    def build_slowly(*work, watch):
        def wait(stage, done, total):
            time.sleep(0.05)
            watch(stage, done, total)

        return build(*work, watch=wait)

    monkeypatch.setattr("teleop_export.worker.build", build_slowly)
    monkeypatch.setattr("teleop_export.planning.pieces.READ_FRAMES", 100)


async def test_cancelling_a_running_export_leaves_nothing(backend, record, slowly):
    """It stops soon, nothing is published, and the same request makes it anew."""
    session = await record(4000, episodes=list(pairwise(range(0, 4001, 100))))
    export = await backend.ask(session)
    await backend.begun(export["id"])
    assert (await backend.http.get(f"/exports/{export['id']}/archive")).json()["code"] == "export_not_ready"
    assert (await backend.http.delete(f"/exports/{export['id']}")).status_code == 204
    assert (await backend.ended(export["id"]))["status"] == "cancelled"
    await backend.leaves_nothing()
    again, _ = await backend.export(session)
    assert (again["id"], again["numbers"]["frames"]) == (export["id"], 4000)


async def test_stopping_the_service_hands_a_running_export_back(serve, record, database, slowly, monkeypatch):
    """It is queued again, with nothing left of the attempt; the next service makes it."""
    monkeypatch.setattr("teleop_export.work.jobs.SHUTDOWN_GRACE_S", 0.1)
    session = await record(20_000, episodes=list(pairwise(range(0, 20_001, 100))))
    async with serve() as backend:
        export = await backend.ask(session)
        await backend.begun(export["id"])
    assert await database.value("SELECT status FROM export") == "queued"
    assert [path.name for path in backend.root.rglob("*")] == [".building"]
    monkeypatch.undo()
    async with serve() as backend:
        made = await backend.ended(export["id"])
        assert (made["status"], made["numbers"]["frames"]) == ("done", 20_000)


# Once a worker has begun, a frame is not any more what the export was planned with.
SPOIL = """
CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE teleop_frame SET state = '{1, NaN, 3}' WHERE frame_index = 7;
    RETURN NEW;
END $$;
CREATE TRIGGER spoil BEFORE UPDATE ON export FOR EACH ROW
    WHEN (OLD.status = 'queued' AND NEW.status = 'running') EXECUTE FUNCTION spoil();
"""


async def test_failed_export_says_why_and_may_be_asked_for_again(backend, record, database):
    """Its problem is the one that HTTP would have told; mended, the same request succeeds."""
    session = await record(100)
    await database.connection.execute(SPOIL)
    failed = await backend.ended((await backend.ask(session))["id"])
    assert (failed["status"], failed["error"]["code"]) == ("failed", "not_finite")
    assert "observation.state" in failed["error"]["detail"]
    await backend.leaves_nothing()
    await database.connection.execute(
        "DROP TRIGGER spoil ON export; UPDATE teleop_frame SET state = '{1, 2, 3}' WHERE frame_index = 7"
    )
    again, _ = await backend.export(session)
    assert (again["id"], again["error"]) == (failed["id"], None)


async def test_openapi_describes_the_operations(backend):
    """With the schema of the request."""
    document = (await backend.http.get("/openapi.json")).json()
    assert set(document["paths"]) >= {"/exports", "/exports/{export_id}", "/exports/{export_id}/files/{path}"}
    assert "session_ids" in document["components"]["schemas"]["ExportRequest"]["properties"]
    assert (await backend.http.get("/readyz")).json()["status"] == "ready"
