"""Sensors that give NaN or infinity now and then."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest


async def spoil(database, session, frames, value="NaN"):
    """Give the second joint that value in these frames."""
    await database.connection.execute(
        "UPDATE teleop_frame SET state[2] = $3::text::real WHERE session_id = $1 AND frame_index = ANY($2)",
        session,
        list(frames),
        value,
    )


def states(folder):
    table = pq.read_table(folder / "data")
    return np.stack(table["observation.state"].to_numpy())


async def test_frames_with_such_values_are_cut_out_and_named(backend, record, database):
    """The dataset has none, and the report says where they were and of which joint."""
    session = await record(700)
    await spoil(database, session, [100, 101, 130])
    export, folder = await backend.export(session)
    report = export["report"]["sessions"][0]
    found = [(each["first_frame"], each["end_frame"], each["reason"]) for each in report["excluded"]]
    assert found == [
        (100, 102, "observation elbow_flex.pos is NaN or infinite"),
        (102, 130, "a rest of less than a second beside NaN or infinite values"),
        (130, 131, "observation elbow_flex.pos is NaN or infinite"),
    ]
    assert pq.read_table(folder / "meta/episodes")["length"].to_pylist() == [100, 569]
    assert np.isfinite(states(folder)).all()


async def test_a_sensor_that_fails_often_is_one_refusal(backend, record, database):
    """Not 59 episodes of one frame."""
    session = await record(118, fps=30.0)
    await spoil(database, session, range(0, 118, 2), value="-Infinity")
    refusal = await backend.ask(session, status=409)
    assert (refusal["code"], refusal["field"]) == ("not_finite", "on_not_finite")
    assert "observation elbow_flex.pos" in refusal["detail"]
    assert "keep" in refusal["hint"]
    assert (await backend.ask(session, on_not_finite="refuse", status=409))["code"] == "not_finite"


@pytest.mark.parametrize("broken", [range(0, 118, 2), range(118)], ids=["some", "all of a joint"])
async def test_kept_values_are_those_that_were_recorded(backend, record, database, broken):
    """Statistics, of each episode and of all, are those of the finite ones; without any they are 0."""
    session = await record(118, fps=30.0, episodes=[(0, 50), (50, 118)])
    await spoil(database, session, broken)
    export, folder = await backend.export(session, on_not_finite="keep")
    values = states(folder).astype(np.float64)[:, 1]
    assert export["report"]["excluded"] == 0
    assert np.flatnonzero(~np.isfinite(values)).tolist() == list(broken)
    fine = values[np.isfinite(values)] if len(broken) < 118 else np.zeros(1)
    stats = json.loads((folder / "meta/stats.json").read_text())["observation.state"]
    for name, expected in (
        ("min", fine.min()),
        ("max", fine.max()),
        ("mean", fine.mean()),
        ("std", fine.std()),
        ("q10", np.quantile(fine, 0.1)),
    ):
        assert stats[name][1] == pytest.approx(expected, abs=1e-4), name
    first = values[:50][np.isfinite(values[:50])] if len(broken) < 118 else np.zeros(1)
    (mean, _) = pq.read_table(folder / "meta/episodes")["stats/observation.state/mean"].to_pylist()
    assert mean[1] == pytest.approx(first.mean(), abs=1e-4)
