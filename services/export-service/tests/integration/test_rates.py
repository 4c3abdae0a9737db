"""A dataset plays as fast as what was recorded."""

import json

import av
import pyarrow.parquet as pq
import pytest
from teleop_export.hub.card import card

VIDEO = "videos/observation.images.front/chunk-000/file-000.mp4"


def seconds_of(folder):
    """How long the only episode lasts: by its rate, its times and its video, if it has any."""
    fps = json.loads((folder / "meta/info.json").read_text())["fps"]
    table = pq.read_table(folder / "data")
    assert table["timestamp"].to_numpy()[-1] == pytest.approx((len(table) - 1) / fps, abs=1e-4)
    if (folder / VIDEO).exists():
        with av.open(folder / VIDEO) as file:
            stream = file.streams.video[0]
            assert stream.frames == len(table)
            assert float(stream.duration * stream.time_base) == pytest.approx(len(table) / fps, abs=1e-4)
    return len(table) / fps


@pytest.mark.parametrize(
    ("frames", "declared", "hz", "asked", "fps"),
    [
        (360, 30.0, 60.0, None, 30),
        (360, 30.0, 60.0, 30, 30),
        (360, 30.0, 60.0, 60, 60),
        (120, 30.0, 20.01, None, 20),
        (120, 30.0, 20.01, 10, 10),
        (177, 30.0, 29.5, None, 30),
        (180, 15.0, 30.0, None, 15),
        (180, 30.0, 30.0, None, 30),
    ],
)
async def test_six_seconds_last_six_seconds(backend, record, frames, declared, hz, asked, fps):
    """Whatever the sender declared, and also at a rate that is asked for; the report tells both rates."""
    session = await record(frames, fps=declared, hz=hz)
    export, folder = await backend.export(session, **({} if asked is None else {"fps": asked}))
    assert json.loads((folder / "meta/info.json").read_text())["fps"] == export["report"]["fps"] == fps
    assert seconds_of(folder) == pytest.approx(frames / hz, abs=0.1 if hz == 29.5 else 1 / fps)
    (told,) = export["report"]["sessions"]
    assert told["measured_hz"] == pytest.approx(hz, rel=1e-3)
    assert told["declared_fps"] == declared
    text = (await backend.http.get(f"/exports/{export['id']}/report.txt")).text
    beside = "as declared" if hz == declared else f"instead of the declared {declared:g}"
    assert f"its loop ran at {hz:.2f} Hz, {beside}" in text
    info = json.loads((folder / "meta/info.json").read_text())
    report = json.loads((folder / "meta/backend.json").read_text())["report"]
    assert f"{hz:.2f} Hz, {declared:g} declared" in card("lab/pick", info, report, ["pick"], 1)


async def test_a_loop_below_one_sample_a_second_is_refused(backend, record):
    """LeRobot's rates are whole numbers; formats without one have all that there is."""
    session = await record(16, fps=30.0, hz=0.8)
    asked = {"session_ids": [session], "repo_id": "lab/pick"}
    refused = (await backend.http.post("/exports", json=asked)).json()
    assert (refused["code"], refused["field"]) == ("bad_fps", "fps")
    assert "0.80 Hz" in refused["detail"]
    export, _ = await backend.export(session, format="parquet")
    assert export["status"] == "done"


async def test_a_slow_loop_is_not_called_too_fast(backend, record):
    """Frames without a row are named as what they are: closer together than those of the dataset."""
    session = await record(244, fps=30.0, hz=24.4)
    export, _ = await backend.export(session)
    (excluded,) = export["report"]["sessions"][0]["excluded"]
    assert excluded["frames"] > 0
    assert excluded["reason"] == (
        "closer together than the 24 rows per second of the dataset: all of a dataset has one rate, in whole "
        f"fps, for which its slowest episode has enough frames (session {session}, recorded at 24.40 Hz)"
    )


async def test_video_of_a_loop_twice_as_fast_lasts_as_long(backend, record, film):
    """Pictures go with the samples that are left."""
    session = await record(240, fps=30.0, hz=60.0)
    await film(session, 240, loop_fps=60.0, fps=30)
    _, folder = await backend.export(session)
    assert seconds_of(folder) == pytest.approx(4.0, abs=1 / 30)


async def test_sessions_of_differing_speed_are_merged_at_a_rate_that_is_asked_for(backend, record):
    """Without one they are refused, and the refusal names it."""
    fast, slow = await record(90, fps=30.0), await record(60, fps=30.0, hz=20.0)
    refusal = await backend.ask(fast, slow, status=409)
    assert (refusal["code"], refusal["field"]) == ("rates_differ", "fps")
    assert f"a dataset has one rate, but session {slow} was recorded at 20.00 Hz" in refusal["detail"]
    assert refusal["hint"] == f'set `"fps": 20`, or leave out session {slow}'
    _, folder = await backend.export(fast, slow, fps=20)
    lengths = pq.read_table(folder / "meta/episodes")["length"].to_pylist()
    assert lengths == [60, 60]
    refusal = await backend.ask(slow, fps=30, status=422)
    assert (refusal["code"], refusal["limit"]) == ("bad_fps", 20)


@pytest.mark.parametrize("fps", [None, 15])
async def test_a_stall_is_named(backend, record, fps):
    """Nothing else tells: `timestamp` counts rows."""
    session = await record(120, fps=30.0, stalls=[(60, 0.2)])
    export, _ = await backend.export(session, **({} if fps is None else {"fps": fps}))
    (time,) = export["report"]["sessions"][0]["times"]
    (stall,) = time["stalls"]
    assert stall["after_frame"] < 60 <= stall["next_frame"]
    assert stall["seconds"] == pytest.approx(0.23, abs=0.07)
    assert time["recorded_s"] == pytest.approx(4.2, abs=0.01)
    assert time["dataset_s"] == pytest.approx(4.0, abs=0.1)
    text = (await backend.http.get(f"/exports/{export['id']}/report.txt")).text
    assert f"stall: {stall['seconds']:.2f} s from frame" in text


async def test_one_observation_is_one_row(backend, record):
    """Actions that follow without a new one are named, and left out unless they are asked for."""
    session = await record(180, fps=30.0, observed=15)
    export, folder = await backend.export(session)
    table = pq.read_table(folder / "data")
    assert len(table) == 12
    assert json.loads((folder / "meta/info.json").read_text())["fps"] == 2
    (excluded,) = export["report"]["sessions"][0]["excluded"]
    assert excluded["frames"] == 168
    assert "repeats the observation" in excluded["reason"]
    assert (export["report"]["committed"], export["report"]["exported"]) == (180, 12)
    export, folder = await backend.export(session, include_repeated=True)
    table = pq.read_table(folder / "data")
    assert json.loads((folder / "meta/info.json").read_text())["fps"] == 30
    ages = table["capture.observation_age_ms"].to_numpy()
    assert ages[:15].tolist() == pytest.approx([step * 1000 / 30 for step in range(15)], abs=0.01)
    assert (len(table), export["report"]["sessions"][0]["excluded"]) == (180, [])


async def test_episode_without_an_observation_is_no_episode(backend, record):
    """It would be one without rows."""
    session = await record(60, fps=30.0, observed=30, episodes=[(0, 20), (20, 28), (30, 60)])
    export, folder = await backend.export(session, fps=1)
    assert pq.read_table(folder / "meta/episodes")["length"].to_pylist() == [1, 1]
    report = export["report"]
    assert sum(each["frames"] for each in report["sessions"][0]["excluded"]) == report["excluded"] == 58


async def test_the_same_columns_at_every_rate(backend, record, film):
    """Exports at the loop's own rate and thinned ones merge: `capture.time_ns` tells how old a sample is."""
    session = await record(120, fps=30.0)
    await film(session, 120, loop_fps=30.0, fps=30)
    native, thinned = [(await backend.export(session, **more))[1] for more in ({}, {"fps": 20})]
    columns = [
        json.loads((folder / "meta/info.json").read_text())["features"].keys() for folder in (native, thinned)
    ]
    assert columns[0] == columns[1]
    assert not [name for name in columns[0] if "sample_age" in name]
