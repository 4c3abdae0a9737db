"""Columns that a command added to the frames of a session, in a dataset."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from teleop_client.exporting.cli import parse, summary
from teleop_export.hub.card import card

LEVELS = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
DTYPES = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
]


def some(dtype: str, *shape: int, seed: int = 0) -> np.ndarray:
    """Values of every size that the type has."""
    random, kind = np.random.default_rng(seed), np.dtype(dtype)
    if kind.kind == "f":
        return random.normal(scale=100, size=shape).astype(kind)
    bits = random.integers(0, 256, (*shape, kind.itemsize), np.uint8)
    return (bits[..., 0] & 1).astype(bool) if dtype == "bool" else bits.view(kind).reshape(shape)


def values_of(folder, name: str) -> np.ndarray:
    """Of all rows, (rows, *shape)."""
    info = json.loads((folder / "meta/info.json").read_text())["features"][name]
    rows = pq.read_table(folder / "data").column(name).to_pylist()
    shape = () if info["shape"] == [1] else info["shape"]
    return np.array(rows, info["dtype"]).reshape(len(rows), *shape)


async def test_values_and_statistics_of_every_type(backend, record, add_columns):
    """Each value to the last bit; order statistics are numpy's, exactly, of each episode and of all."""
    session = await record(300, episodes=[(0, 100), (100, 101), (101, 300)])
    given = {
        f"{dtype}{'x'.join(map(str, shape))}": some(dtype, 300, *shape)
        for dtype in DTYPES
        for shape in ((1,), (3,), (2, 2))
    }
    given["spans"] = np.arange(300)[:, None] * np.array([0, 1, 2**50])
    given["widest"] = np.array([[2**63 - 1], [-(2**63)]] * 150)
    given["huge"] = np.array([[1.7e308], [-1.7e308], [0.0]] * 100)
    await add_columns(session, {name: (range(300), values) for name, values in given.items()})
    export, folder = await backend.export(session)
    assert [each["name"] for each in export["report"]["columns"]] == list(given)
    stats = json.loads((folder / "meta/stats.json").read_text())
    episodes = pq.read_table(folder / "meta/episodes").to_pylist()
    for name, values in given.items():
        found = values_of(folder, name)
        expected = values[:, 0] if values.shape[1:] == (1,) else values
        assert found.dtype == values.dtype, name
        assert found.tobytes() == expected.tobytes(), name
        same_statistics(name, stats[name], values)
        for episode in episodes:
            rows = slice(episode["dataset_from_index"], episode["dataset_to_index"])
            told = {key.rpartition("/")[2]: episode[key] for key in episode if f"stats/{name}/" in key}
            same_statistics(name, told, values[rows])


async def test_texts_are_strings(backend, record, add_columns):
    """Each as it was recorded, without statistics, as LeRobot has them."""
    session = await record(120, episodes=[(0, 100), (100, 120)])
    words = np.array([[f"집어 {number} " * (number % 7)] for number in range(120)])
    reward = some("float32", 120, 1)
    await add_columns(
        session,
        {
            "instruction": (range(120), words),
            "next.reward": (range(120), reward),
            "sometimes": (range(20), np.array([["only here"]] * 20)),
        },
    )
    export, folder = await backend.export(session)
    assert [each["name"] for each in export["report"]["columns"]] == ["instruction", "next.reward"]
    info = json.loads((folder / "meta/info.json").read_text())
    assert info["features"]["instruction"] == {"dtype": "string", "shape": [1], "names": None}
    rows = pq.read_table(folder / "data")
    assert rows["instruction"].to_pylist() == words[:, 0].tolist()
    assert rows["next.reward"].to_pylist() == reward[:, 0].tolist()
    assert "instruction" not in json.loads((folder / "meta/stats.json").read_text())
    assert not any("instruction" in name for name in pq.read_table(folder / "meta/episodes").column_names)


def same_statistics(name, found, values):
    assert found["count"] == [len(values)], name
    exact = values.reshape(-1, values.shape[-1])
    exact = exact if exact.dtype.kind in "iu" else exact.astype(np.float64)
    np.testing.assert_array_equal(found["min"], exact.min(axis=0).astype(float), name)
    np.testing.assert_array_equal(found["max"], exact.max(axis=0).astype(float), name)
    if name == "huge":
        return
    scale = float(np.abs(exact.astype(float)).max())
    for key, level in LEVELS.items():
        expected = np.quantile(exact.astype(np.longdouble), level, axis=0)
        np.testing.assert_allclose(found[key], expected.astype(float), 1e-14, 1e-14 * scale, err_msg=name)
    wide = exact.astype(np.longdouble)
    np.testing.assert_allclose(found["mean"], wide.mean(axis=0).astype(float), 1e-12, 1e-12 * scale, name)
    np.testing.assert_allclose(found["std"], wide.std(axis=0).astype(float), 1e-9, 1e-12 * scale, name)


async def test_a_lower_rate_thins_them_along(backend, record, add_columns):
    """A row has the values of the frame that it is."""
    session = await record(120, fps=60.0)
    await add_columns(session, {"n": (range(120), np.arange(120, dtype=np.int64)[:, None])})
    _, folder = await backend.export(session, fps=20)
    assert values_of(folder, "n").tolist() == list(range(0, 120, 3))


async def test_sessions_with_the_same_columns_merge(backend, record, add_columns):
    """Wherever in their frames the columns lie; a column that only one of them has is left out, and named."""
    first, second = await record(40), await record(30)
    reward, pose = some("float32", 70, 1), some("float64", 70, 3, seed=1)
    await add_columns(first, {"reward": (range(40), reward[:40]), "pose": (range(40), pose[:40])})
    only = np.ones((30, 1), bool)
    await add_columns(
        second,
        {"only": (range(30), only), "pose": (range(30), pose[40:]), "reward": (range(30), reward[40:])},
    )
    export, folder = await backend.export(first, second)
    np.testing.assert_array_equal(values_of(folder, "reward"), reward[:, 0])
    np.testing.assert_array_equal(values_of(folder, "pose"), pose)
    assert [each["name"] for each in export["report"]["columns"]] == ["reward", "pose"]
    told = [session["columns_left_out"] for session in export["report"]["sessions"]]
    left_out = {
        "name": "only",
        "reason": f"no frame of session {first} has it",
        "hint": f"export session {second} without the others",
    }
    assert told == [[], [left_out]]
    text = (await backend.http.get(f"/exports/{export['id']}/report.txt")).text
    assert f"column left out: only: no frame of session {first} has it" in text
    assert "column pose: float64 [3]" in text
    info = json.loads((folder / "meta/info.json").read_text())
    origin = json.loads((folder / "meta/backend.json").read_text())["report"]
    assert f"- `only` was left out: no frame of session {first} has it; export" in card(
        "lab/pick", info, origin, ["t"], 1
    )


async def test_a_column_that_some_rows_lack_is_left_out(backend, record, add_columns):
    """Of the frames that become rows; those of discarded episodes, between episodes, and without an
    observation of their own don't count."""
    session = await record(
        200, observed=2, episodes=[(0, 80), (80, 100, None, "discarded"), (110, 200)], task="pick"
    )
    rows = [*range(0, 80, 2), *range(110, 200, 2)]
    await add_columns(
        session,
        {"whole": (rows, some("int64", len(rows), 1)), "holed": (rows[1:], some("int64", len(rows) - 1, 1))},
    )
    export, folder = await backend.export(session)
    np.testing.assert_array_equal(values_of(folder, "whole"), some("int64", len(rows), 1)[:, 0])
    (told,) = export["report"]["sessions"]
    (left_out,) = told["columns_left_out"]
    assert left_out["name"] == "holed"
    assert left_out["reason"] == f"session {session} has no value for it in 1 frame, the first is 0"
    assert "discarded" in left_out["hint"]


async def test_values_that_are_not_finite_are_kept(backend, record, add_columns, database):
    """A reward may well be NaN: it costs no frame, statistics are those of the others, the report counts the
    rows; who refuses such values is told which column."""
    session = await record(100, episodes=[(0, 50), (50, 100)])
    reward = some("float64", 100, 1)
    reward[[3, 60, 61]] = np.nan
    touch = some("float32", 100, 2, 2)
    touch[7, 1, 0] = np.inf
    await add_columns(session, {"reward": (range(100), reward), "touch": (range(100), touch)})
    export, folder = await backend.export(session)
    assert export["report"]["exported"] == 100
    assert [each["not_finite"] for each in export["report"]["columns"]] == [3, 1]
    assert values_of(folder, "reward").tobytes() == reward.tobytes()
    stats = json.loads((folder / "meta/stats.json").read_text())
    fine = reward[np.isfinite(reward)]
    assert stats["reward"]["count"] == [100]
    assert stats["reward"]["max"] == [fine.max()]
    assert stats["reward"]["mean"][0] == pytest.approx(fine.mean(), rel=1e-12)
    assert stats["reward"]["q90"][0] == np.quantile(fine, 0.9)
    first = touch[..., 0][np.isfinite(touch[..., 0])].astype(float)
    assert stats["touch"]["mean"][0] == pytest.approx(first.mean(), rel=1e-6)
    assert stats["touch"]["q50"][0] == np.quantile(first, 0.5)
    asked = await backend.ask(session, on_not_finite="refuse")
    error = (await backend.ended(asked["id"]))["error"]
    assert (error["code"], error["field"]) == ("not_finite", "on_not_finite")
    assert "a value of reward that is NaN or infinite" in error["detail"]


async def test_what_was_never_recorded_is_told(backend, record, database):
    """What only the command's dataset had, and cameras without video: in the report, for machines and for
    people, of every format, in the card and on the terminal."""
    first, second = await record(40), await record(40)
    why = {"instruction": "a text", "observation.state": "made of the robot's"}
    for session in (first, second):
        await database.connection.execute(
            "UPDATE teleop_session SET host = $2::jsonb WHERE id = $1",
            session,
            json.dumps({"features_not_recorded": why, "cameras_not_recorded": {"grey": "no colours"}}),
        )
    free = await record(40)
    await database.connection.execute(
        """UPDATE teleop_session SET host = '{"features_not_recorded": 7}' WHERE id = $1""", free
    )
    told = [{"name": "observation.images.grey", "reason": "no colours"}] + [
        {"name": name, "reason": reason} for name, reason in why.items()
    ]
    _, folder = await backend.export(first, format="parquet")
    assert json.loads((folder / "report.json").read_text())["sessions"][0]["not_recorded"] == told
    export, folder = await backend.export(first, second, free)
    assert [each["not_recorded"] for each in export["report"]["sessions"]] == [told, told, []]
    text = (await backend.http.get(f"/exports/{export['id']}/report.txt")).text
    assert text.count("  not recorded: instruction: a text\n") == 2
    info = json.loads((folder / "meta/info.json").read_text())
    origin = json.loads((folder / "meta/backend.json").read_text())["report"]
    words = card("lab/pick", info, origin, ["t"], 1)
    assert f"- `instruction` of session {first}, {second}: a text\n" in words
    arguments = parse(["--session_id", "1", "--repo_id", "lab/pick"])
    assert f"not recorded in session {first}: observation.images.grey: no colours" in summary(
        export, folder, arguments
    )
