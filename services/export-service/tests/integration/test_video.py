"""Exports of sessions with cameras, over HTTP."""

import json
import shutil
import time
from itertools import pairwise

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from lerobot_robot_virtual.scene import read_frame_counter
from teleop_dataset.v3.layout import BYTES_PER_MB, FileLimits
from teleop_export.making.build import build
from teleop_export.tables import export_table
from teleop_testing.waiting import LOOK_EVERY_S, until

FRONT = "observation.images.front"


def counters(path):
    """The numbers drawn into the pictures of an mp4 file."""
    with av.open(str(path)) as file:
        return [read_frame_counter(frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]


def episodes_of(folder):
    return pq.read_table(folder / "meta/episodes").to_pylist()


async def test_pictures_are_accounted_for(backend, record, film):
    """How many were used, how often repeated, what was copied; samples that are no row are named too."""
    session = await record(300, episodes=[(0, 100), (100, 120, None, "discarded"), (120, 300)])
    await film(session, 300)
    export, folder = await backend.export(session)
    numbers, report = export["numbers"], export["report"]
    assert (numbers["frames"], numbers["videos"]) == (140, 1)
    assert 0 < numbers["video_bytes"] < numbers["size_bytes"]
    assert (report["committed"], report["excluded"], report["exported"]) == (300, 160, 140)
    reasons = {each["reason"]: each["frames"] for each in report["sessions"][0]["excluded"]}
    assert reasons == {"discarded": 20, "the loop was faster than the 30 rows per second of the dataset": 90}
    assert report["cameras"] == [
        {
            "camera": "front",
            "recorded": 150,
            "used": 140,
            "unused": 10,
            "repeated": 0,
            "stood_in": 0,
            "copied": 2,
            "encoded": [],
        }
    ]
    stages = {stage["stage"]: stage for stage in export["progress"]}
    assert list(stages) == ["data", "video", "statistics", "verify"]
    assert stages["video"]["done"] == stages["video"]["total"] == 140
    assert counters(folder / f"videos/{FRONT}/chunk-000/file-000.mp4") == [*range(50), *range(60, 150)]


async def test_pictures_are_copied_bit_for_bit(backend, record, film, store):
    """The bytes of every recorded picture are in the dataset as they were."""
    session = await record(120)
    await film(session, 120, segment=60)
    _, folder = await backend.export(session)
    (chunk,) = store.glob(".objects/*/*/*")
    assert packets(folder / f"videos/{FRONT}/chunk-000/file-000.mp4") == packets(chunk)


def packets(path):
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(video=0) if packet.size]


async def test_videos_stay_near_their_limit(backend, record, film, monkeypatch):
    """A new file is begun before one grows too large; an episode never lies in two."""
    small = FileLimits(1, 60_000 / BYTES_PER_MB, one_file=False)
    monkeypatch.setattr("teleop_export.planning.order.LEROBOTS_LIMITS", small)
    session = await record(600, episodes=list(pairwise(range(0, 601, 60))))
    await film(session, 600)
    _, folder = await backend.export(session)
    files = sorted((folder / "videos").rglob("*.mp4"))
    assert 1 < len(files) < 10
    assert [number for path in files for number in counters(path)] == list(range(300))
    for episode in episodes_of(folder):
        path = files[episode[f"videos/{FRONT}/file_index"]]
        begin = round(episode[f"videos/{FRONT}/from_timestamp"] * 30)
        assert counters(path)[begin] == episode["episode_index"] * 30
        assert round(episode[f"videos/{FRONT}/to_timestamp"] * 30) == begin + 30


async def test_colours_and_depth_are_no_dataset(backend, record, film, database):
    """Of one camera, in two sessions or in one; depth in mm and in m are, in the unit of the first."""
    depth, colours, metres = await record(60), await record(60), await record(60)
    await film(depth, 60, segment=15, depth_unit="mm")
    await film(colours, 60)
    await film(metres, 60, depth_unit="m")
    refusal = await backend.ask(depth, colours, status=409)
    assert refusal["code"] == "video_differs"
    assert f"gives depth in session {depth} and colours in session {colours}" in refusal["detail"]
    _, folder = await backend.export(metres, depth)
    feature = json.loads((folder / "meta/info.json").read_text())["features"]["observation.images.front"]
    assert (feature["shape"], feature["info"]["depth_unit"]) == ([48, 64, 1], "m")
    await database.value("UPDATE video_chunk SET depth_unit = NULL WHERE chunk_index = 1")
    refusal = await backend.ask(depth, repo_id="lab/other", status=409)
    assert "changed between colours and depth" in refusal["detail"]


async def test_camera_that_a_session_lacks_is_named(backend, record, film):
    """With what to do about it; so are pictures of another size, and cameras that nobody has."""
    both, one, small = await record(60), await record(60), await record(60)
    await film(both, 60, "front")
    await film(both, 60, "wrist")
    await film(one, 60, "front")
    await film(small, 60, "front", height=64)
    refusal = await backend.ask(both, one, status=409)
    assert (refusal["code"], refusal["field"]) == ("camera_missing", "cameras")
    assert f"session {one} has no video of camera wrist, only of front" in refusal["detail"]
    assert "cameras" in refusal["hint"]
    assert (await backend.ask(one, cameras=["top"], status=409))["code"] == "camera_missing"
    refusal = await backend.ask(one, small, status=409)
    assert refusal["code"] == "video_differs"
    assert "64x48" in refusal["detail"]
    assert "64x64" in refusal["detail"]
    export, folder = await backend.export(both, one, cameras=["front"])
    assert export["numbers"]["videos"] == len(list((folder / "videos").iterdir())) == 1
    assert (await backend.ask(both, cameras=["front", "front"], status=422))["field"] == "cameras"


@pytest.mark.parametrize("fps", [0, -1, 1e9, 61, 2.5])
async def test_impossible_rates_are_refused(backend, record, film, fps):
    """Rows can't be invented."""
    session = await record(60)
    await film(session, 60)
    refusal = await backend.ask(session, fps=fps, status=422)
    assert refusal["field"] == "fps"


async def test_slow_loop_with_a_fast_camera_keeps_its_rate(backend, record, film):
    """Of the pictures between two samples the latest is the one that the loop saw."""
    session = await record(60, fps=15.0)
    video = await film(session, 60, loop_fps=15.0, fps=30)
    export, folder = await backend.export(session)
    assert json.loads((folder / "meta/info.json").read_text())["fps"] == 15
    shown = counters(folder / f"videos/{FRONT}/chunk-000/file-000.mp4")
    assert shown == [video.shown(iteration) for iteration in range(60)]
    assert export["report"]["cameras"][0]["unused"] == len(video.taken) - 60


@pytest.mark.parametrize("about", [{"absent": [1]}, {"absent": [0]}, {"end": 200}])
async def test_video_that_has_not_all_arrived_is_waited_for(backend, record, film, about):
    """Unless what is there is asked for; then the rest is left out, and named."""
    session = await record(300)
    await film(session, 300, **about)
    refusal = await backend.ask(session, status=409)
    assert refusal["code"] == "video_unfinished"
    assert "include_unfinished" in refusal["hint"]
    export, _ = await backend.export(session, include_unfinished=True)
    (excluded, *_) = export["report"]["sessions"][0]["excluded"]
    assert excluded["reason"].startswith("camera front: ")
    assert export["numbers"]["frames"] < 130


@pytest.mark.parametrize("days", [-1, 1])
async def test_video_outside_its_session_is_not_waited_for(backend, record, film, database, days):
    """The refusal names the chunk and its times, and how it is removed; joints alone can be exported."""
    session = await record(100)
    await film(session, 100, times_only=True)
    await database.connection.execute(
        "UPDATE video_chunk SET captured_us = NULL,"
        " start_timestamp = start_timestamp + make_interval(days => $1),"
        " end_timestamp = end_timestamp + make_interval(days => $1)",
        days,
    )
    chunk = await database.connection.fetchval("SELECT id FROM video_chunk")
    refusal = await backend.ask(session, status=409)
    assert (refusal["code"], refusal["retryable"]) == ("video_misplaced", False)
    assert "lies outside the session: chunk 0 is from 2026-01-0" in refusal["detail"]
    assert f"DELETE /videos/{chunk}" in refusal["hint"]
    await backend.ask(session, cameras=[])


async def test_cameras_without_any_video_are_waited_for(backend, record, film):
    """A robot that had cameras does not become a dataset of joints because its video is seconds behind."""
    session = await record(100, cameras=("front", "wrist"))
    for arrived in ((), ("front",)):
        for camera in arrived:
            await film(session, 100, camera)
        refusal = await backend.ask(session, status=409)
        assert (refusal["code"], refusal["field"]) == ("video_unfinished", "cameras")
        assert "no usable video" in refusal["detail"]
        export, _ = await backend.export(session, include_unfinished=True)
        assert export["numbers"]["videos"] == len(arrived)
    assert (await backend.ask(session, cameras=["wrist"], status=409))["code"] == "video_unfinished"
    export, _ = await backend.export(session, cameras=[])
    assert export["numbers"]["videos"] == 0
    export, _ = await backend.export(session, cameras=["front"])
    assert export["numbers"]["videos"] == 1
    await film(session, 100, "wrist")
    export, _ = await backend.export(session)
    assert export["numbers"]["videos"] == 2


async def test_video_that_arrives_later_makes_another_export(backend, record, film):
    """The same request is the same export only as long as the sessions hold the same."""
    session = await record(100)
    without = await backend.ask(session)
    await film(session, 100)
    assert (await backend.ask(session))["id"] != without["id"]


async def test_video_that_cannot_be_used_is_cut_out(backend, record, film):
    """The episode is split there, or the export refused, as for missing samples."""
    session = await record(300)
    await film(session, 300, quarantined=[1])
    refusal = await backend.ask(session, on_gap="refuse", status=409)
    assert refusal["code"] == "episode_has_gap"
    assert "it was damaged on the way" in refusal["detail"]
    export, folder = await backend.export(session)
    shown = counters(folder / f"videos/{FRONT}/chunk-000/file-000.mp4")
    assert shown == [*range(50), *range(100, 150)]
    assert [episode["length"] for episode in episodes_of(folder)] == [50, 50]
    assert "chunk 1 can't be used" in export["report"]["sessions"][0]["excluded"][0]["reason"]


async def test_video_that_is_not_checked_yet_is_awaited(backend, record, film, database):
    """Nothing is wrong with it that anybody knows of: no frame is left out for a check that goes on."""
    session = await record(300)
    await film(session, 300, quarantined=[1, 2])
    await database.connection.execute(
        f"UPDATE video_chunk SET look_after = now(), look_version = 0, quarantine = 'not checked yet: busy'"
        f" WHERE session_id = {session} AND chunk_index = 2"
    )
    refusal = await backend.ask(session, status=409)
    assert (refusal["code"], refusal["retryable"]) == ("video_unfinished", True)
    assert "its video chunk 2 can't be used: not checked yet: busy" in refusal["detail"]
    await database.connection.execute(
        f"UPDATE video_chunk SET look_after = NULL, look_version = 1, quarantine = NULL"
        f" WHERE session_id = {session} AND chunk_index = 2"
    )
    _, folder = await backend.export(session)
    assert [episode["length"] for episode in episodes_of(folder)] == [50, 50]


async def test_video_that_is_known_to_be_gone_is_cut_out(backend, record, film, database, store):
    """Before the export fails for it; once it is back, the same request is another export."""
    session = await record(300)
    await film(session, 300)
    whole = await backend.ask(session)
    damaged = "UPDATE stored_object SET damage = {} WHERE sha256 = (SELECT sha256 FROM video_chunk" + (
        f" WHERE session_id = {session} AND chunk_index = 1)"
    )
    await database.connection.execute(damaged.format("'it is missing'"))
    export, folder = await backend.export(session)
    assert export["id"] != whole["id"]
    shown = counters(folder / f"videos/{FRONT}/chunk-000/file-000.mp4")
    assert shown == [*range(50), *range(100, 150)]
    assert "damaged: it is missing" in export["report"]["sessions"][0]["excluded"][0]["reason"]
    await database.connection.execute(damaged.format("NULL"))
    assert (await backend.ask(session))["id"] == whole["id"]


@pytest.mark.parametrize("form", ["lerobot-v3.0", "mcap"])
async def test_what_was_made_of_other_pictures_is_told(backend, record, film, database, form):
    """By session and camera, wherever the export is shown; asked for again it is another one."""
    session, other = await record(300), await record(300)
    await film(session, 300)
    await film(session, 300, "wrist")
    await film(other, 300)
    made, of_other = await backend.ask(session, format=form), await backend.ask(other, format=form)
    await backend.ended(made["id"])
    assert made["video_corrected"] == []
    await database.connection.execute(
        "UPDATE video_chunk SET quarantine = 'it is turned', corrected_at = now()"
        f" WHERE session_id = {session} AND camera_key = 'wrist' AND chunk_index IN (0, 2)"
    )
    told = [{"session_id": session, "camera": "wrist", "chunks": 2}]
    page = (await backend.http.get("/exports")).json()["exports"]
    assert {each["id"]: each["video_corrected"] for each in page} == {made["id"]: told, of_other["id"]: []}
    text = (await backend.http.get(f"/exports/{made['id']}/report.txt")).text
    assert f"session {session}, camera wrist, 2 chunks; request the export again" in text
    again = await backend.ask(session, format=form, include_unfinished=True)
    assert (again["id"] != made["id"], again["video_corrected"]) == (True, [])


async def test_lost_object_fails_the_export(backend, record, film, store):
    """And says so; nothing is left."""
    session = await record(100)
    await film(session, 100)
    shutil.rmtree(store / ".objects")
    export = await backend.ended((await backend.ask(session))["id"])
    assert (export["status"], export["error"]["code"]) == ("failed", "object_missing")
    await backend.leaves_nothing()


async def test_an_export_waits_while_all_stored_files_are_away(backend, record, film, store, monkeypatch):
    """Their disk is not mounted for a while: no object is missing, and no attempt is lost."""
    monkeypatch.setattr(export_table, "MAX_ATTEMPTS", 1)
    session = await record(100)
    await film(session, 100)
    away = store.rename(store.with_name("away"))
    export_id = (await backend.ask(session))["id"]

    async def waits_for() -> dict | None:
        return (await backend.http.get(f"/exports/{export_id}")).json()["waits_for"]

    told = await until(waits_for)
    assert (told["code"], "mounted" in told["hint"]) == ("store_unusable", True)
    shutil.rmtree(store, ignore_errors=True)
    away.rename(store)
    assert (await backend.ended(export_id))["status"] == "done"


async def test_cancelling_while_video_is_copied_leaves_nothing(backend, record, film, monkeypatch):
    """It stops where it is, when it tells of its progress next, and not once all is copied."""
    copied = []

    def build_no_further(*work, watch):
        def stay(stage, done, total):
            watch(stage, done, total)
            while stage == "video":
                copied.append((done, total))
                time.sleep(LOOK_EVERY_S)
                watch(stage, done, total)

        return build(*work, watch=stay)

    monkeypatch.setattr("teleop_export.worker.build", build_no_further)
    session = await record(2000)
    await film(session, 2000, segment=10)
    export = await backend.ask(session)
    await backend.begun(export["id"])
    await backend.http.delete(f"/exports/{export['id']}")
    await backend.leaves_nothing()
    assert (await backend.ended(export["id"]))["status"] == "cancelled"
    (where,) = set(copied)
    assert where[0] < where[1]


async def test_ages_tell_how_old_samples_and_pictures_are(backend, record, film, database):
    """In ms, float32; merging with LeRobot's own datasets needs them left out."""
    session = await record(200)
    video = await film(session, 200, "front")
    await film(session, 200, "wrist", fps=20)
    _, folder = await backend.export(session, fps=25)
    info = json.loads((folder / "meta/info.json").read_text())
    assert info["features"]["capture.picture_age_ms"]["names"] == ["front", "wrist"]
    rows = pq.read_table(folder / "data").to_pylist()
    by_number = {picture.number: picture for picture in video.taken}
    shown = counters(folder / f"videos/{FRONT}/chunk-000/file-000.mp4")
    start_us = rows[0]["capture.time_ns"] / 1000
    for row, number in zip(rows, shown, strict=True):
        taken_us = row["capture.time_ns"] / 1000
        age_ms = (taken_us - by_number[number].captured_us) / 1000
        np.testing.assert_allclose(row["capture.picture_age_ms"][0], age_ms, atol=0.01)
        # The nearest sample of a faster loop: within half a row's time.
        assert abs(row["frame_index"] / 25 * 1_000_000 - (taken_us - start_us)) <= 20_000
    _, folder = await backend.export(session, include_capture_time=False)
    features = json.loads((folder / "meta/info.json").read_text())["features"]
    assert not [key for key in features if key.startswith("capture.")]
