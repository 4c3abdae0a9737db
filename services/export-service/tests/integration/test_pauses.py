"""Episodes with frames that LeRobot's dataset did not take."""

import json

import numpy as np
import pyarrow.parquet as pq
from mcap.reader import make_reader

PAUSES = [(30, 90), (100, 101)]


async def test_rows_are_those_of_lerobots_dataset(backend, record, film, add_columns):
    """One episode whose rows follow each other at its rate, each with its own picture and value; the report
    says where the others are."""
    session = await record(180, fps=30.0, episodes=[(0, 150)], pauses=PAUSES, cameras=("front",))
    await film(session, 180, loop_fps=30.0)
    added = [*range(30), *range(90, 100), *range(101, 150)]
    await add_columns(session, {"next.reward": (added, np.float32(added)[:, None])})
    export, folder = await backend.export(session, on_gap="refuse")
    rows = pq.read_table(folder / "data/chunk-000/file-000.parquet")
    assert rows["next.reward"].to_pylist() == added
    assert rows["episode_index"].to_pylist() == [0] * len(added)
    assert rows["frame_index"].to_pylist() == list(range(len(added)))
    report = export["report"]["sessions"][0]
    assert [(each["first_frame"], each["end_frame"], each["frames"]) for each in report["excluded"]] == [
        *((30, 90, 60), (100, 101, 1)),
        (150, 180, 30),
    ]
    assert (report["gaps"], report["times"], report["columns_left_out"]) == ([], [], [])
    assert export["report"]["fps"] == 30
    (camera,) = export["report"]["cameras"]
    assert (camera["used"], camera["repeated"], camera["stood_in"]) == (len(added), 0, 0)
    (told,) = json.loads((folder / "meta/backend.json").read_text())["episodes"]
    assert told["pauses"] == [[30, 90], [100, 101]]
    text = (await backend.http.get(f"/exports/{export['id']}/report.txt")).text
    assert "left out: episode 0, frames 30 to 89: paused: recorded within the episode but not" in text


async def test_an_episode_that_pauses_has_no_rows_of_the_pause(backend, record, database):
    """Neither while it is being recorded nor once its recorder has died, which report and text say."""
    session = await record(60, episodes=[(0, None)], status="recording")
    await database.connection.execute("UPDATE episode SET paused_from = 40 WHERE session_id = $1", session)
    export, _ = await backend.export(session, include_unfinished=True)
    assert (export["report"]["exported"], export["report"]["sessions"][0]["cut_off"]) == (40, [])
    await database.connection.execute(
        "UPDATE episode SET end_frame = 40, cut_off = true WHERE session_id = $1", session
    )
    for form, frames in (("lerobot-v3.0", 40), ("parquet", 60)):
        export, _ = await backend.export(session, include_unfinished=True, format=form)
        assert (export["report"]["exported"], export["report"]["sessions"][0]["cut_off"]) == (frames, [0])
        text = (await backend.http.get(f"/exports/{export['id']}/report.txt")).text
        assert f"cut off: episode 0 of session {session}: its recorder died before the episode" in text
        assert f'"discarded" (PATCH /sessions/{session}/episodes/0)' in text


async def test_every_third_frame(backend, record):
    """A command that acts three times per row: the dataset's rate is that of the rows."""
    pauses = [(frame + 1, frame + 3) for frame in range(0, 267, 3)]
    session = await record(270, fps=10.0, hz=30.0, episodes=[(0, 268)], pauses=pauses)
    export, folder = await backend.export(session)
    rows = pq.read_table(folder / "data/chunk-000/file-000.parquet")
    assert (len(rows), export["report"]["fps"], export["report"]["sessions"][0]["times"]) == (90, 10, [])


async def test_raw_exports_have_all_frames_and_say_which_were_not_taken(backend, record):
    """As Parquet and as MCAP."""
    session = await record(180, episodes=[(0, 150)], pauses=PAUSES)
    _, folder = await backend.export(session, format="parquet")
    told = folder / f"session-{session}"
    assert pq.read_metadata(told / "frames.parquet").num_rows == 180
    pauses = pq.read_table(told / "pauses.parquet").to_pylist()
    assert [(each["session_id"], each["first_frame"], each["end_frame"]) for each in pauses] == [
        (session, *each) for each in PAUSES
    ]
    _, folder = await backend.export(session, format="mcap")
    with (folder / f"session-{session}.mcap").open("rb") as file:
        metadata = {each.name: each.metadata for each in make_reader(file).iter_metadata()}
    assert json.loads(metadata["pauses"]["frames"]) == [list(each) for each in PAUSES]
