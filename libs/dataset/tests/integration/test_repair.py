"""A dataset whose recorder was killed, repaired: every saved episode as if the recorder had lived."""

import hashlib
import json
import random
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from teleop_dataset.errors import NotRepairable
from teleop_dataset.repair import RepairReport, repair
from teleop_schema.errors import BackendError

CAMERAS = ("observation.images.front", "observation.images.wrist")
FRAMES = [21, 30, 17, 24]
EPISODES = [[0, 21, "pick"], [1, 30, "pick"], [2, 17, "place"], [3, 24, "pick"]]
DATA = "data/chunk-000/file-000.parquet"
META = "meta/episodes/chunk-000/file-000.parquet"
# Steps of saving an episode after which all of its bytes are there.
WHOLE_FROM = ("_save_episode_video:1", "_save_episode_metadata", "write_info", "write_stats", "done")
TORN_UNTIL = ("halfway", "_save_episode_data", "_save_episode_video:0")


def fingerprints(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows(folder: Path) -> pa.Table:
    """All rows, of columns as they are stored: `datasets`, once imported, makes types of its own of some."""
    table = pa.concat_tables(pq.read_table(path) for path in sorted(folder.glob("data/*/*.parquet")))
    for index, field in enumerate(table.schema):
        if isinstance(field.type, pa.BaseExtensionType):
            stored = pa.chunked_array([chunk.storage for chunk in table.column(index).chunks])
            table = table.set_column(index, field.name, stored)
    return table


def episode_rows(folder: Path) -> list[dict]:
    paths = sorted(folder.glob("meta/episodes/*/*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def packets(folder: Path, camera: str) -> list[bytes]:
    found = []
    for path in sorted(folder.glob(f"videos/{camera}/*/*.mp4")):
        with av.open(str(path)) as file:
            found += [bytes(packet) for packet in file.demux(video=0) if packet.size]
    return found


def pictures(folder: Path, camera: str) -> list[bytes]:
    found = []
    for path in sorted(folder.glob(f"videos/{camera}/*/*.mp4")):
        with av.open(str(path)) as file:
            found += [frame.to_ndarray(format="rgb24").tobytes() for frame in file.decode(video=0)]
    return found


def assert_same_episodes(repaired: Path, whole: Path, episodes: int) -> None:
    """The first episodes of both are equal: rows, packets, decoded pictures, and what is told of them."""
    frames = sum(row["length"] for row in episode_rows(whole)[:episodes])
    assert rows(repaired).equals(rows(whole).slice(0, frames))
    for camera in CAMERAS:
        if episodes > 1:
            # Joining the second H.264 episode to the first, LeRobot puts parameter sets into packets.
            assert packets(repaired, camera) == packets(whole, camera)[:frames]
        assert pictures(repaired, camera) == pictures(whole, camera)[:frames]
    for found, expected in zip(episode_rows(repaired), episode_rows(whole), strict=False):
        assert sorted(found) == sorted(expected)
        for name, value in expected.items():
            if "images" in name and name.startswith("stats/"):
                assert_close_pictures(name.split("/")[-1], found[name], value)
            else:
                assert found[name] == value, name


def assert_close_pictures(statistic: str, found: list, expected: list) -> None:
    """LeRobot looked at the pictures before they were compressed; white is 1."""
    extreme = statistic in ("min", "max", "q01", "q99")
    np.testing.assert_allclose(found, expected, atol=0.15 if extreme else 0.03, err_msg=statistic)


def assert_lerobot_reads(folder: Path, episodes: int) -> None:
    """LeRobot opens it and reads the first and the last frame of each episode."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("someone/picking", root=folder)
    assert dataset.num_episodes == episodes
    ends = [row["dataset_to_index"] for row in episode_rows(folder)]
    begins = [row["dataset_from_index"] for row in episode_rows(folder)]
    for index in [*begins, *(end - 1 for end in ends)]:
        item = dataset[index]
        assert int(item["index"]) == index
        assert all(item[camera].shape == (3, 64, 96) for camera in CAMERAS)


@pytest.mark.parametrize("episode", [0, 3])
@pytest.mark.parametrize("step", [*TORN_UNTIL, *WHOLE_FROM])
def test_episodes_whose_bytes_are_there_come_back(recording, tmp_path, episode, step):
    """Wherever the recorder dies while saving: each episode of which all bytes are there, and no other."""
    source = recording.state(episode, step)
    before = fingerprints(source)
    report = repair(source, tmp_path / "repaired")
    whole = episode + (step in WHOLE_FROM)
    assert report.episodes == whole
    assert report.beyond_info == (step in WHOLE_FROM[:2])
    if whole:
        assert report.frames == sum(FRAMES[:whole])
        for camera in CAMERAS:
            assert packets(tmp_path / "repaired", camera) == packets(source, camera)[: report.frames]
        assert_same_episodes(tmp_path / "repaired", recording.whole, whole)
    else:
        assert not (tmp_path / "repaired").exists()
    assert fingerprints(source) == before
    assert [path.name for path in tmp_path.iterdir()] == ["repaired"] * bool(whole)


def test_lerobot_opens_what_was_repaired(recording, tmp_path):
    """LeRobot refuses the torn dataset; it reads the repaired one."""
    repair(recording.state(3, "halfway"), tmp_path / "repaired")
    assert_lerobot_reads(tmp_path / "repaired", 3)


def test_data_is_the_torn_file_and_a_footer(recording, tmp_path):
    """No byte before the footer changes."""
    torn = (recording.state(3, "halfway") / DATA).read_bytes()
    report = repair(recording.state(3, "halfway"), tmp_path / "repaired")
    assert (tmp_path / "repaired" / DATA).read_bytes()[: len(torn)] == torn
    assert report.rebuilt[DATA] == "a footer for its 3 row groups"


def test_intact_files_stay_byte_for_byte(recording, tmp_path):
    """Killed between two episodes, only Parquet files without a footer are made anew."""
    report = repair(recording.state(2, "done"), tmp_path / "repaired")
    assert set(report.rebuilt) == {DATA, META}
    torn, repaired = fingerprints(recording.state(2, "done")), fingerprints(tmp_path / "repaired")
    assert set(report.kept) == set(repaired) - set(report.rebuilt)
    assert all(repaired[path] == torn[path] for path in report.kept)


def test_whole_dataset_stays_as_it_is(recording, tmp_path):
    """There is nothing to repair in a dataset that was closed."""
    report = repair(recording.whole, tmp_path / "repaired")
    assert fingerprints(tmp_path / "repaired") == fingerprints(recording.whole)
    assert (report.rebuilt, report.lost, report.episodes) == ({}, [], 4)


def test_stats_are_those_of_the_recovered_episodes(recording, tmp_path):
    """Killed before stats.json was written: it is added up, numbers as LeRobot's own, pictures nearly so."""
    repair(recording.state(3, "_save_episode_video:1"), tmp_path / "repaired")
    found = json.loads((tmp_path / "repaired/meta/stats.json").read_text())
    expected = json.loads((recording.whole / "meta/stats.json").read_text())
    assert list(found) == list(json.loads((recording.whole / "meta/info.json").read_text())["features"])
    assert found.keys() == expected.keys()
    for key in expected:
        for name, value in expected[key].items():
            if "images" in key:
                assert_close_pictures(name, found[key][name], value)
            else:
                np.testing.assert_allclose(found[key][name], value, rtol=1e-6, err_msg=f"{key} {name}")


def test_killed_process_leaves_the_same_as_the_copies(record, recording, tmp_path):
    """kill -9 of a recorder itself: nothing but what was saved, and all of it."""
    killed = tmp_path / "killed"
    assert record(killed, episodes=EPISODES, kill=[3, "_save_episode_data"]) == -9
    report = repair(killed, tmp_path / "repaired")
    assert report.episodes == 3
    assert_same_episodes(tmp_path / "repaired", recording.whole, 3)


def test_several_files_and_two_resumes(record, tmp_path):
    """Finished files of earlier runs stay, torn ones of the last get their footer; several mp4 per camera."""
    small = {"data_files_size_in_mb": 0.006, "video_files_size_in_mb": 0.004}
    plan = [[index, 15 + index, "pick" if index % 3 else "place"] for index in range(9)]
    whole = tmp_path / "whole"
    copy = {"copies": [[8, "done"]], "copy_to": str(tmp_path)}
    for number, episodes in enumerate((plan[:2], plan[2:4], plan[4:])):
        record(whole, episodes=episodes, resume=number > 0, **small, **copy)
    torn = tmp_path / "8-done"
    assert len(list(torn.glob("data/*/*.parquet"))) > 3
    assert len(list(torn.glob("videos/*front/*/*.mp4"))) > 3
    report = repair(torn, tmp_path / "repaired")
    assert report.episodes == 9
    assert "the rows of 5 episodes from episode 4 on" in report.rebuilt.values()
    assert_same_episodes(tmp_path / "repaired", whole, 9)
    assert_lerobot_reads(tmp_path / "repaired", 9)


def test_repaired_dataset_can_be_resumed(record, recording, tmp_path):
    """Recording goes on where it was interrupted, and ends as it would have."""
    repaired = tmp_path / "repaired"
    repair(recording.state(3, "halfway"), repaired)
    assert record(repaired, episodes=[EPISODES[3]], resume=True) == 0
    assert rows(repaired).equals(rows(recording.whole))
    for camera in CAMERAS:
        assert pictures(repaired, camera) == pictures(recording.whole, camera)
    assert_lerobot_reads(repaired, 4)


@pytest.mark.parametrize(
    "options", [{"codec": "libsvtav1", "depth": True}, {"dtype": "image", "extra": True}]
)
def test_other_ways_to_record(record, tmp_path, options):
    """LeRobot's default codec, a depth camera; pictures, texts and arrays within the Parquet files."""
    whole = tmp_path / "whole"
    record(whole, episodes=EPISODES[:3], copies=[[2, "done"]], copy_to=str(tmp_path), **options)
    report = repair(tmp_path / "2-done", tmp_path / "repaired")
    assert report.episodes == 3
    assert rows(tmp_path / "repaired").equals(rows(whole))
    assert_lerobot_reads(tmp_path / "repaired", 3)


def test_episode_rows_without_a_footer_are_read_too(record, tmp_path):
    """LeRobot writes the rows of ten episodes at a time: theirs come back, only the others are made anew."""
    plan = [[index, 12 + index % 4, "pick"] for index in range(12)]
    whole = tmp_path / "whole"
    record(whole, episodes=plan, streaming=True, copies=[[11, "done"]], copy_to=str(tmp_path))
    report = repair(tmp_path / "11-done", tmp_path / "repaired")
    assert report.episodes == 12
    found, expected = episode_rows(tmp_path / "repaired"), episode_rows(whole)
    assert found[:10] == expected[:10]
    assert found[11].keys() == expected[11].keys()
    assert_same_episodes(tmp_path / "repaired", whole, 12)
    assert_lerobot_reads(tmp_path / "repaired", 12)


@pytest.mark.filterwarnings("ignore")
def test_repaired_dataset_can_be_edited(recording, tmp_path):
    """LeRobot's own tools merge it with a whole one, and delete from it."""
    from lerobot.datasets.dataset_tools import delete_episodes, merge_datasets
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    repair(recording.state(3, "halfway"), tmp_path / "repaired")
    repaired = LeRobotDataset("someone/repaired", root=tmp_path / "repaired")
    whole = LeRobotDataset("someone/whole", root=recording.whole)
    merged = merge_datasets([repaired, whole], "someone/merged", tmp_path / "merged")
    assert (merged.num_episodes, len(merged)) == (7, 68 + 92)
    assert merged[68]["action"].tolist() == whole[0]["action"].tolist()
    less = delete_episodes(repaired, [0], tmp_path / "less", "someone/less")
    assert (less.num_episodes, len(less)) == (2, 47)
    assert less[0]["action"].tolist() == whole[21]["action"].tolist()


def test_torn_info_is_salvaged_or_taken_from_a_backup(recording, tmp_path):
    """info.json is rewritten in place: whatever of it is left, or an earlier one, tells the features."""
    source = shutil.copytree(recording.state(3, "halfway"), tmp_path / "torn")
    info = source / "meta/info.json"
    text = info.read_text()
    info.write_text(text[: text.index('"total_episodes"')])
    assert repair(source, tmp_path / "salvaged").episodes == 3
    info.write_text(text[:300])
    with pytest.raises(NotRepairable) as refused:
        repair(source, tmp_path / "refused")
    assert refused.value.field == "meta/info.json"
    earlier = recording.state(0, "done") / "meta/info.json"
    report = repair(source, tmp_path / "backed_up", earlier_info=earlier)
    assert_same_episodes(tmp_path / "backed_up", recording.whole, 3)
    assert report.flags == ["meta/info.json was torn: taken from info.json, as it was earlier"]


def test_lost_tasks_are_named_by_number(recording, tmp_path):
    """Without tasks.parquet the rows still say which episodes had the same task."""
    source = shutil.copytree(recording.state(3, "halfway"), tmp_path / "torn")
    (source / "meta/tasks.parquet").write_bytes(b"PAR1")
    report = repair(source, tmp_path / "repaired")
    assert [row["tasks"] for row in episode_rows(tmp_path / "repaired")] == [
        ["task 0"],
        ["task 0"],
        ["task 1"],
    ]
    assert [loss.what for loss in report.lost if "task" in loss.what] == [
        "the words of task 0",
        "the words of task 1",
    ]


def test_video_cut_off_by_a_full_disk(recording, tmp_path):
    """An mp4 that was being moved over when the power went: the episodes before the cut come back."""
    source = shutil.copytree(recording.state(3, "halfway"), tmp_path / "torn")
    video = source / f"videos/{CAMERAS[1]}/chunk-000/file-000.mp4"
    video.write_bytes(video.read_bytes()[:-40])
    report = repair(source, tmp_path / "repaired")
    assert report.episodes == 2
    assert any("is cut off after" in loss.why for loss in report.lost)
    assert_same_episodes(tmp_path / "repaired", recording.whole, 2)


def test_frames_dropped_while_recording_are_not_guessed(recording, tmp_path):
    """A camera with fewer frames than rows, and no row that says where: only what is certain comes back."""
    source = shutil.copytree(recording.state(2, "done"), tmp_path / "torn")
    video = source / f"videos/{CAMERAS[0]}/chunk-000/file-000.mp4"
    short = tmp_path / "short.mp4"
    with av.open(str(video)) as given, av.open(str(short), "w") as made:
        stream = given.streams.video[0]
        copy = made.add_stream_from_template(stream, opaque=True)
        copy.time_base = stream.time_base
        for number, packet in enumerate(given.demux(stream)):
            if packet.size and number < 66:
                packet.stream = copy
                made.mux(packet)
    shutil.copy(short, video)
    report = repair(source, tmp_path / "repaired")
    assert not report.whole
    assert any("frames were dropped while recording" in loss.why for loss in report.lost)


def with_frames_dropped(whole: Path, target: Path) -> Path:
    """The dataset as if one camera had lost the last two frames of episode 1, as LeRobot would write it."""
    shutil.copytree(whole, target)
    video = target / f"videos/{CAMERAS[1]}/chunk-000/file-000.mp4"
    lost = range(FRAMES[0] + FRAMES[1] - 2, FRAMES[0] + FRAMES[1])
    with (
        av.open(str(whole / f"videos/{CAMERAS[1]}/chunk-000/file-000.mp4")) as given,
        av.open(str(video), "w") as made,
    ):
        stream = given.streams.video[0]
        copy = made.add_stream_from_template(stream, opaque=True)
        copy.time_base = stream.time_base
        for number, packet in enumerate(given.demux(stream)):
            if packet.size and number not in lost:
                early = packet.duration * len(lost) if number > lost[0] else 0
                packet.pts, packet.dts, packet.stream = packet.pts - early, packet.dts - early, copy
                made.mux(packet)
    table = pq.read_table(target / META)
    for name, since in (("from", 2), ("to", 1)):
        column = f"videos/{CAMERAS[1]}/{name}_timestamp"
        times = [
            time - 2 / 30 * (episode >= since)
            for episode, time in enumerate(table.column(column).to_pylist())
        ]
        table = table.set_column(table.column_names.index(column), column, [times])
    with pq.ParquetWriter(target / META, table.schema, compression="snappy") as writer:
        writer.write_table(table)
    return target


@pytest.mark.parametrize("torn", [False, True])
def test_dropped_frames_that_rows_tell_of_are_flagged(recording, tmp_path, torn):
    """An episode's own row says how long its video is: nothing is lost, the lack is told."""
    source = with_frames_dropped(recording.whole, tmp_path / "short")
    if torn:
        table = (source / META).read_bytes()
        footer = int.from_bytes(table[-8:-4], "little")
        (source / META).write_bytes(table[: -8 - footer])
    report = repair(source, tmp_path / "repaired")
    assert (report.episodes, report.lost) == (4, [])
    assert report.flags == [f"episode 1: {CAMERAS[1]} has 28 frames for 30 rows"]
    assert episode_rows(tmp_path / "repaired") == episode_rows(
        with_frames_dropped(recording.whole, tmp_path / "again")
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(16))
def test_damage_anywhere_is_reported(recording, tmp_path, seed):
    """Flipped bits, cut ends and zeros in any file: a report or a refusal, and nothing half done."""
    chance = random.Random(seed)
    state = chance.choice([recording.state(3, "halfway"), recording.state(0, "done"), recording.whole])
    source = shutil.copytree(state, tmp_path / "torn")
    path = chance.choice([path for path in sorted(source.rglob("*.*")) if path.is_file()])
    data = bytearray(path.read_bytes())
    place = chance.randrange(len(data))
    match chance.randrange(3):
        case 0:
            del data[place:]
        case 1:
            data[place : place + 400] = bytes(len(data[place : place + 400]))
        case 2:
            data[place] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    recovered = False
    with suppress(BackendError):
        recovered = repair(source, tmp_path / "repaired").whole
    assert recovered == (tmp_path / "repaired").exists()
    assert {each.name for each in tmp_path.iterdir()} <= {"torn", "repaired"}


def test_target_must_be_empty(recording, tmp_path):
    """Nothing is ever written over."""
    (tmp_path / "something").touch()
    with pytest.raises(NotRepairable, match="not empty"):
        repair(recording.whole, tmp_path)


def test_command_prints_the_report(recording, tmp_path):
    """0 and the report if there is a dataset, 1 if nothing could be recovered."""

    def run(source: Path, target: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "teleop_dataset.repair", str(source), str(tmp_path / target)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run(recording.state(3, "_save_episode_data"), "repaired")
    assert done.returncode == 0, done.stderr
    assert "recovered 3 episodes, 68 frames" in done.stdout
    assert f"lost: episode 3 (24 rows): {CAMERAS[0]} has no video of it" in done.stdout
    done = run(recording.state(0, "halfway"), "nothing")
    assert done.returncode == 1
    assert "nothing could be recovered" in done.stdout
    assert RepairReport().as_text().startswith("nothing")
