"""A dataset whose recorder was killed, repaired: every saved episode as if the recorder had lived."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from teleop_dataset.errors import NotRepairable
from teleop_dataset.repair import RepairReport, find_sound, repair
from teleop_testing.datasets.repaired import (
    CAMERAS,
    DATA,
    FRAMES,
    META,
    assert_close_pictures,
    assert_lerobot_reads,
    assert_same_episodes,
    episode_rows,
    packets,
    pictures,
    rows,
)
from teleop_testing.waiting import PATIENCE_S

EPISODES = [[0, 21, "pick"], [1, 30, "pick"], [2, 17, "place"], [3, 24, "pick"]]
# Steps of saving an episode after which all of its bytes are there.
WHOLE_FROM = ("_save_episode_video:1", "_save_episode_metadata", "write_info", "write_stats", "done")
TORN_UNTIL = ("halfway", "_save_episode_data", "_save_episode_video:0")


def fingerprints(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


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


def test_damaged_picture_in_the_rows_costs_its_episode(record, tmp_path):
    """Pictures that are kept as files in a closed dataset: LeRobot can't read such a row."""
    source = tmp_path / "torn"
    record(source, episodes=EPISODES[:3], dtype="image", cameras=1)
    assert find_sound(source) is not None
    table = rows(source)
    cells = table.column(CAMERAS[0]).to_pylist()
    damaged = EPISODES[0][1] + 4
    png = cells[damaged]["bytes"]
    cells[damaged]["bytes"] = png[:60] + bytes(32) + png[92:]
    place = table.column_names.index(CAMERAS[0])
    table = table.set_column(place, table.schema.field(place), pa.array(cells, table.schema.types[place]))
    with pq.ParquetWriter(source / DATA, table.schema) as writer:
        for index, length, _ in EPISODES[:3]:
            writer.write_table(table.slice(sum(each[1] for each in EPISODES[:index]), length))
    assert find_sound(source) is None
    report = repair(source, tmp_path / "repaired")
    assert [loss.what for loss in report.lost] == ["episode 1 (30 rows)"]
    assert f"picture 4 of {CAMERAS[0]} can't be decoded" in report.lost[0].why
    assert find_sound(tmp_path / "repaired") is not None


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


def test_target_must_be_empty(recording, tmp_path):
    """Nothing is ever written over."""
    (tmp_path / "something").touch()
    with pytest.raises(NotRepairable, match="not empty"):
        repair(recording.whole, tmp_path)


def test_command_prints_the_report(recording, tmp_path):
    """0 and the report if there is a dataset, 1 if nothing could be recovered."""

    def run(source: Path, target: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "teleop_dataset.repair", str(source), str(tmp_path / target)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)

    done = run(recording.state(3, "_save_episode_data"), "repaired")
    assert done.returncode == 0, done.stderr
    assert "recovered 3 episodes, 68 frames" in done.stdout
    assert f"lost: episode 3 (24 rows): {CAMERAS[0]} has no video of it" in done.stdout
    done = run(recording.state(0, "halfway"), "nothing")
    assert done.returncode == 1
    assert "nothing could be recovered" in done.stdout
    assert RepairReport().as_text().startswith("nothing")
