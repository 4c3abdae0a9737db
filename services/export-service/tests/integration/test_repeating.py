"""Exports with the labels of then and of now, what differs between two, and the way back from a dataset."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from teleop_dataset.repair import repair
from teleop_runtime.access.tokens import hash_of, make_token, prefix_of
from teleop_testing.datasets.recorded import judge_episode

EPISODES = [(0, 200, None, "success"), (200, 400, None, "failure"), (400, 600, "place", None)]
META = Path("meta/episodes/chunk-000/file-000.parquet")
ADD_TOKEN = """
WITH p AS (INSERT INTO principal (name, role, robot_ids)
           VALUES ('trainee', 'operator', '{robot_B}') RETURNING id)
INSERT INTO access_token (principal_id, hash, prefix) SELECT id, $1, $2 FROM p
"""


@pytest.fixture
async def first(record, database_url):
    """A session of three episodes, of which two are labelled."""
    session = await record(600, task="pick", episodes=EPISODES)
    judge_episode(database_url, session, 0, operator="kim", quality=5, tags=["red"])
    judge_episode(database_url, session, 1, operator="kim", reason="dropped", quality=2)
    return session


async def made(backend, **body):
    answer = await backend.http.post("/exports", json={"repo_id": "lab/pick", **body})
    assert answer.status_code == 202, answer.text
    return await backend.ended(answer.json()["id"])


async def outcome(database, session, index, told):
    await database.connection.execute(
        "UPDATE episode SET outcome = $1 WHERE session_id = $2 AND episode_index = $3", told, session, index
    )


async def repeated(backend, export, labels):
    answer = await backend.http.post(f"/exports/{export['id']}/repeat", json={"labels": labels})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"].endswith(f"/exports/{answer.json()['id']}")
    return await backend.ended(answer.json()["id"])


async def compared(backend, export, baseline):
    answer = await backend.http.get(f"/exports/{export['id']}/compare?with={baseline['id']}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def folder_of(backend, export):
    (folder,) = backend.root.glob(f"export-{export['id']}-*")
    return folder


def labels_of(folder):
    """The labels of each episode in a dataset, without what they were measured to be."""
    return [
        {name: value for name, value in row.items() if name.startswith("backend/")}
        for row in pq.read_table(folder / META).to_pylist()
    ]


async def test_labels_of_then_come_back(backend, first, database_url):
    """Although they are others now, and the files are gone."""
    then = await made(backend, session_ids=[first])
    before = labels_of(folder_of(backend, then))
    judge_episode(database_url, first, 1, operator="kim", reason="collision", quality=1)
    assert (await repeated(backend, then, "then"))["finished_at"] == then["finished_at"]
    shutil.rmtree(folder_of(backend, then))
    again = await repeated(backend, then, "then")
    assert (again["id"], again["status"]) == (then["id"], "done")
    assert labels_of(folder_of(backend, again)) == before


async def test_labels_of_now_are_another_export(backend, record, first, database, database_url):
    """Of the episodes that are the answer now; without any change it is the same."""
    then = await made(backend, filter={"outcome": "success"})
    assert (await repeated(backend, then, "now"))["id"] == then["id"]
    judge_episode(database_url, first, 0, operator="kim", quality=3, tags=["red"])
    judge_episode(database_url, first, 2, operator="lee")
    await outcome(database, first, 2, "success")
    later = await record(50, task="pick", episodes=[(0, 50, None, "success")])
    now = await repeated(backend, then, "now")
    assert now["request"]["session_ids"] == [first, later]
    found = await compared(backend, now, then)
    assert [found[name]["id"] for name in ("export", "baseline")] == [now["id"], then["id"]]
    assert [found[name]["episodes"] for name in ("export", "baseline")] == [3, 1]
    assert [found[name]["frames"] for name in ("export", "baseline")] == [450, 200]
    assert found["export"]["hours"] == pytest.approx(450 / 60 / 3600, abs=1e-4)
    assert found["added"]["first"] == [
        {"session_id": first, "episode_index": 2, "frames": 200},
        {"session_id": later, "episode_index": 0, "frames": 50},
    ]
    assert (found["added"]["episodes"], found["added"]["frames"], found["removed"]["episodes"]) == (2, 250, 0)
    assert found["relabelled"] == [
        {
            "session_id": first,
            "episode_index": 0,
            "changes": [{"label": "quality", "before": 5, "after": 3}],
        }
    ]
    assert (found["relabelled_count"], found["recut"], found["same"]) == (1, [], 0)
    other_way = await compared(backend, then, now)
    assert (other_way["removed"], other_way["added"]["episodes"]) == (found["added"], 0)


async def test_sessions_that_were_named_stay_those(backend, record, first, database):
    """A filter beside them looks for no others, and at those that had no such episode then."""
    second = await record(50, episodes=[(0, 50, None, "failure")])
    then = await made(backend, session_ids=[first, second], filter={"outcome": "success"})
    assert then["request"]["session_ids"] == [first]
    await record(50, episodes=[(0, 50, None, "success")])
    await outcome(database, second, 0, "success")
    assert (await repeated(backend, then, "now"))["request"]["session_ids"] == [first, second]


async def test_what_was_trimmed_and_told_otherwise_is_named(backend, first, database):
    then = await made(backend, session_ids=[first])
    await database.connection.execute(
        "UPDATE episode SET end_frame = 150, task = 'lift' WHERE session_id = $1 AND episode_index = 0", first
    )
    await outcome(database, first, 1, "discarded")
    found = await compared(backend, await repeated(backend, then, "now"), then)
    assert found["recut"] == [{"session_id": first, "episode_index": 0, "before": 200, "after": 150}]
    assert found["relabelled"][0]["changes"] == [{"label": "task", "before": ["pick"], "after": ["lift"]}]
    assert found["removed"]["first"] == [{"session_id": first, "episode_index": 1, "frames": 200}]
    assert found["same"] == 1


async def test_what_can_not_be_repeated_or_compared(backend, record, database):
    export = await made(backend, session_ids=[await record(20)])
    raw = await made(backend, session_ids=export["request"]["session_ids"], format="parquet")
    token = make_token("operator")
    await database.connection.execute(ADD_TOKEN, hash_of(token), prefix_of(token))
    theirs = await made(backend, session_ids=[await record(20, robot_id="robot_B")])
    narrow = {"Authorization": f"Bearer {token}"}
    for path, headers, status, code in (
        (f"{export['id']}/compare?with=999", {}, 404, "export_not_found"),
        (f"{export['id']}/compare?with={raw['id']}", {}, 409, "not_comparable"),
        (f"{export['id']}/compare", {}, 422, "bad_input"),
        (f"{theirs['id']}/compare?with={theirs['id']}", narrow, 200, None),
        (f"{theirs['id']}/compare?with={export['id']}", narrow, 404, "export_not_found"),
        (f"{export['id']}/compare?with={theirs['id']}", narrow, 404, "export_not_found"),
    ):
        answer = await backend.http.get(f"/exports/{path}", headers=headers)
        assert (answer.status_code, answer.json().get("code")) == (status, code), path
    for number, body, status in ((999, {"labels": "now"}, 404), (export["id"], {"labels": "soon"}, 422)):
        answer = await backend.http.post(f"/exports/{number}/repeat", json=body)
        assert answer.status_code == status, answer.text


async def test_a_dataset_leads_back_to_its_export(backend, first, tmp_path):
    """By a word in it that is copied with it; another dataset has another."""
    export, other = await made(backend, session_ids=[first]), await made(backend, filter={"tag": "red"})
    copy = shutil.copytree(folder_of(backend, export), tmp_path / "copy")
    name = json.loads((copy / "meta/backend.json").read_bytes())["fingerprint"]
    assert name == export["fingerprint"] != other["fingerprint"]
    found = (await backend.http.get(f"/exports?fingerprint={name}")).json()["exports"]
    assert [each["id"] for each in found] == [export["id"]]
    assert (await backend.http.get(f"/exports?fingerprint={'0' * 64}")).json()["exports"] == []
    assert (await backend.http.get("/exports?fingerprint=x")).json()["field"] == "fingerprint"


async def test_a_repair_keeps_the_labels(backend, first, tmp_path):
    """Those of rows that are damaged are in meta/backend.json, too."""
    export = await made(backend, session_ids=[first])
    torn = shutil.copytree(folder_of(backend, export), tmp_path / "torn")
    with (torn / META).open("r+b") as file:
        file.truncate((torn / META).stat().st_size - 100)
    repair(torn, tmp_path / "repaired")
    assert labels_of(tmp_path / "repaired") == labels_of(folder_of(backend, export))


async def test_a_repair_that_loses_episodes_keeps_the_labels_of_the_others(backend, record, tmp_path):
    """Beside their new numbers."""
    numbers = [
        await record(100, episodes=[(0, 60, None, "success"), (60, 100, None, "failure")]) for _ in range(2)
    ]
    export = await made(backend, session_ids=numbers)
    torn = shutil.copytree(folder_of(backend, export), tmp_path / "torn")
    data = torn / "data/chunk-000/file-000.parquet"
    table = pq.read_table(data)
    with pq.ParquetWriter(data, table.schema) as writer:
        for first, end in ((0, 60), (100, 160), (160, 200)):
            writer.write_table(table.slice(first, end - first))
    report = repair(torn, tmp_path / "repaired")
    assert (report.episodes, report.renumbered) == (3, {2: 1, 3: 2})
    told = labels_of(tmp_path / "repaired")
    whole = labels_of(folder_of(backend, export))
    assert told == [whole[0], whole[2], whole[3]]
    lineage = json.loads((tmp_path / "repaired/meta/backend.json").read_bytes())
    assert lineage["fingerprint"] == export["fingerprint"]
    assert [(each["episode_index"], each["session_id"]) for each in lineage["episodes"]] == [
        (0, numbers[0]),
        (1, numbers[1]),
        (2, numbers[1]),
    ]
