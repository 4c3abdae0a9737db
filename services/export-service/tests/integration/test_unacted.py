"""Sessions in which the robot was observed, and no action was sent for some frames, or for any."""

import numpy as np
import pyarrow.parquet as pq


async def forget_actions(database, session, where="true"):
    """These frames were observed only."""
    await database.connection.execute(
        "UPDATE teleop_frame SET action = array_fill('NaN'::real, ARRAY[cardinality(action)])"
        f" WHERE session_id = $1 AND {where}",
        session,
    )


def frames_of(folder):
    return pq.read_table(folder / "data")["observation.state"].to_numpy()


async def test_frames_without_an_action_make_no_rows_and_no_cuts(backend, record, database):
    """Three looks at the robot for each action: the dataset has the frames that were acted on, one episode of
    them, at their rate; the report names the others."""
    session = await record(360, fps=60.0)
    await forget_actions(database, session, "frame_index % 3 > 0")
    export, folder = await backend.export(session)
    assert len(frames_of(folder)) == 120
    (told,) = export["report"]["sessions"][0]["excluded"]
    assert (told["reason"], told["frames"]) == ("no action: the robot was observed only", 240)
    episodes = pq.read_table(folder / "meta/episodes")
    assert episodes["length"].to_pylist() == [120]
    assert export["report"]["fps"] == 20
    assert np.isfinite(np.stack(pq.read_table(folder / "data")["action"].to_numpy())).all()


async def test_session_without_any_action_says_what_can_be_done(backend, record, database):
    """Nothing is made up; asked for, the rows have no action (NaN). One that declares none has a dataset
    without the feature."""
    session = await record(90, fps=30.0)
    await forget_actions(database, session)
    refusal = await backend.ask(session, status=409)
    assert "90 frames: no action: the robot was observed only" in refusal["detail"]
    assert '`"on_not_finite": "keep"`' in refusal["hint"]
    _, folder = await backend.export(session, on_not_finite="keep")
    table = pq.read_table(folder / "data")
    assert len(table) == 90
    assert np.isnan(np.stack(table["action"].to_numpy())).all()
    declared = await record(90, fps=30.0, actions=[])
    _, folder = await backend.export(declared, repo_id="u/observed")
    assert "action" not in pq.read_table(folder / "data").column_names
