"""What people have judged of episodes chooses them, and leaves with them."""

import io
import json

import pyarrow.parquet as pq
import pytest
from teleop_testing.datasets.recorded import judge_episode


@pytest.fixture
async def judged(record, database, database_url):
    """Two sessions of two robots, with four episodes; the second has an operator of its own."""
    first = await record(
        600,
        task="pick",
        episodes=[(0, 200, None, "success"), (200, 400, None, "failure"), (400, 600, None, None)],
    )
    second = await record(200, task="pick", robot_id="robot_B")
    judge_episode(database_url, first, 0, operator="kim", quality=5, tags=["red", "edge"])
    judge_episode(database_url, first, 1, operator="kim", reason="dropped", quality=2)
    judge_episode(database_url, first, 2, operator="lee", tags=["edge"])
    await database.connection.execute("UPDATE teleop_session SET operator = 'lee' WHERE id = $1", second)
    return first, second


async def made(backend, wanted=None, **more):
    """The export, and the rows of meta/episodes."""
    chosen = {"filter": wanted} if wanted else {}
    answer = await backend.http.post("/exports", json={"repo_id": "lab/judged", **chosen, **more})
    assert answer.status_code == 202, answer.text
    export = await backend.ended(answer.json()["id"])
    assert export["status"] == "done", export
    path = f"/exports/{export['id']}/files/meta/episodes/chunk-000/file-000.parquet"
    content = (await backend.http.get(path)).content
    return export, pq.read_table(io.BytesIO(content)).to_pylist()


def labels(row):
    return {name: value for name, value in row.items() if name.startswith("backend/")}


async def test_what_is_known_of_an_episode_leaves_with_it(backend, judged):
    first, second = judged
    export, rows = await made(backend, session_ids=[first, second])
    assert [row["backend/measured_hz"] for row in rows] == [pytest.approx(60, abs=0.01)] * 4
    told = [labels(row) | {"backend/measured_hz": None} for row in rows]
    names = ("session_id", "episode_index", "robot_id", "operator", "outcome", "success", "reason", "quality")
    assert [[row[f"backend/{name}"] for name in names] for row in told] == [
        [first, 0, "robot_A", "kim", "success", True, None, 5],
        [first, 1, "robot_A", "kim", "failure", False, "dropped", 2],
        [first, 2, "robot_A", "lee", None, None, None, None],
        [second, None, "robot_B", "lee", None, None, None, None],
    ]
    assert [row["backend/tags"] for row in told] == [["red", "edge"], [], ["edge"], []]
    lineage = (await backend.http.get(f"/exports/{export['id']}/files/meta/backend.json")).json()
    assert [each["labels"]["operator"] for each in lineage["episodes"]] == ["kim", "kim", "lee", "lee"]


async def test_labels_stay_behind_if_they_are_to(backend, judged):
    export, rows = await made(backend, session_ids=[judged[0]], include_labels=False)
    assert [labels(row) for row in rows] == [{}, {}, {}]
    lineage = (await backend.http.get(f"/exports/{export['id']}/files/meta/backend.json")).text
    assert "kim" not in lineage
    export, _ = await made(backend, {"operator": "lee"}, include_labels=False)
    told = (await backend.http.get(f"/exports/{export['id']}")).text
    lineage = (await backend.http.get(f"/exports/{export['id']}/files/meta/backend.json")).text
    assert "operator not requested" in lineage
    assert "kim" not in lineage + told


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"operator": "kim"}, [("robot_A", 0), ("robot_A", 1)]),
        ({"operator": "lee"}, [("robot_A", 2), ("robot_B", None)]),
        ({"reason": "dropped"}, [("robot_A", 1)]),
        ({"min_quality": 2}, [("robot_A", 0), ("robot_A", 1)]),
        ({"min_quality": 3}, [("robot_A", 0)]),
        ({"tag": "edge"}, [("robot_A", 0), ("robot_A", 2)]),
        ({"tag": "red"}, [("robot_A", 0)]),
        ({"operator": "kim", "outcome": "failure"}, [("robot_A", 1)]),
        ({"operator": "lee", "robot_id": "robot_B"}, [("robot_B", None)]),
        ({"operator": "lee", "session_id": 1}, [("robot_A", 2)]),
    ],
)
async def test_episodes_are_chosen_by_what_is_known_of_them(backend, judged, wanted, expected):
    """The others are left out, and the report names the reason."""
    export, rows = await made(backend, wanted)
    assert [(row["backend/robot_id"], row["backend/episode_index"]) for row in rows] == expected
    report = export["report"]
    assert report["committed"] == report["exported"] + report["excluded"]
    assert all("not requested" in each["reason"] for each in report["sessions"][0]["excluded"])


@pytest.mark.parametrize(
    ("wanted", "field", "hint"),
    [
        ({"operator": "max"}, "filter.operator", "kim, lee"),
        ({"reason": "unheard"}, "filter.reason", "dropped"),
        ({"tag": "blue"}, "filter.tag", "edge, red"),
        ({"min_quality": 6}, "filter.min_quality", None),
        ({"operator": "a\0"}, "filter.operator", None),
        ({"operator": "lee", "reason": "dropped"}, "filter", "leave one"),
    ],
)
async def test_what_nobody_is_known_by_is_named(backend, judged, wanted, field, hint):
    answer = await backend.http.post("/exports", json={"repo_id": "lab/judged", "filter": wanted})
    assert answer.status_code >= 400, answer.text
    problem = answer.json()
    assert problem.get("field") == field, problem
    assert hint is None or hint in problem["hint"]


async def test_another_judgement_is_another_export(backend, judged, database_url):
    """With the labels of now; the earlier export keeps those of then."""
    first, _ = judged
    before, _ = await made(backend, session_ids=[first])
    again, _ = await made(backend, session_ids=[first])
    assert again["id"] == before["id"]
    judge_episode(database_url, first, 1, operator="kim", reason="collision", quality=2)
    after, rows = await made(backend, session_ids=[first])
    assert after["id"] != before["id"]
    assert rows[1]["backend/reason"] == "collision"
    kept = (await backend.http.get(f"/exports/{before['id']}/files/meta/backend.json")).text
    assert json.loads(kept)["episodes"][1]["labels"]["reason"] == "dropped"


@pytest.mark.parametrize(
    "part", [{"operator": "kim"}, {"reason": "dropped"}, {"min_quality": 2}, {"tag": "edge"}]
)
async def test_a_recording_as_it_is_has_all_of_its_episodes(backend, judged, part):
    """What would be passed over is refused."""
    body = {"repo_id": "lab/judged", "filter": part, "format": "parquet"}
    answer = await backend.http.post("/exports", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, f"filter.{next(iter(part))}"), answer.text
