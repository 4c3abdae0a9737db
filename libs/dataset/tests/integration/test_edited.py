"""Datasets as LeRobot's own tools leave them: their columns and files are not those of a recorder."""

import shutil
from itertools import count, islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from teleop_dataset.repair import find_sound, repair
from teleop_testing.datasets.repaired import (
    CAMERAS,
    FRAMES,
    assert_lerobot_reads,
    assert_picked_episodes,
    episode_rows,
    hole,
)
from teleop_testing.once import once

TOTAL = sum(FRAMES)
REWARD = {"dtype": "float32", "shape": (1,), "names": None}
EMBEDDING = {"dtype": "float32", "shape": (3,)}


def edit(folder, recorded):
    """A folder for each kind of edit, by LeRobot's tools; each takes the dataset that LeRobot loads of it."""
    from lerobot.datasets import dataset_tools as tools
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    def load(name):
        return LeRobotDataset("someone/picking", root=folder / name)

    shutil.copytree(recorded, folder / "recorded")
    shutil.copytree(recorded, folder / "retasked")
    tools.modify_tasks(load("retasked"), episode_tasks={0: "fold", 3: "접기"})
    added = {
        "next.reward": (np.arange(TOTAL, dtype=np.float32), REWARD),
        "embedding": (np.ones((TOTAL, 3), np.float32), EMBEDDING),
    }
    tools.add_features(load("recorded"), added, output_dir=folder / "added", repo_id="someone/added")
    tools.remove_feature(
        load("added"), "observation.state", output_dir=folder / "removed", repo_id="someone/removed"
    )
    tools.delete_episodes(load("recorded"), [1], output_dir=folder / "deleted", repo_id="someone/deleted")
    some = [load("recorded"), load("deleted"), load("retasked")]
    tools.merge_datasets(some, "someone/merged", output_dir=folder / "merged")
    apart = {"concatenate_videos": False, "concatenate_data": False}
    tools.merge_datasets(some, "someone/apart", output_dir=folder / "apart", **apart)
    record_pictures(folder / "pictures")
    tools.convert_image_to_video_dataset(
        load("pictures"), output_dir=folder / "converted", repo_id="someone/converted"
    )
    # What is left are files from the second on.
    tools.delete_episodes(load("apart"), [0, 1, 2, 3], output_dir=folder / "late", repo_id="someone/late")


def record_pictures(folder):
    """A dataset of pictures; each shows its number among all of them as a level of grey."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    features = {
        "action": {"dtype": "float32", "shape": (1,), "names": ["joint"]},
        CAMERAS[0]: {"dtype": "image", "shape": (64, 96, 3), "names": ["height", "width", "channels"]},
    }
    dataset = LeRobotDataset.create("someone/pictures", 30, features, root=folder, use_videos=False)
    numbers = count()
    for length in FRAMES:
        for number in islice(numbers, length):
            picture = np.full((64, 96, 3), 2 * number, np.uint8)
            action = np.array([number], np.float32)
            dataset.add_frame({"action": action, CAMERAS[0]: picture, "task": "pick"})
        dataset.save_episode()
    dataset.finalize()


@pytest.fixture(scope="module")
def edited(recording, tmp_path_factory):
    return once(tmp_path_factory, "edited", lambda folder: edit(folder, recording.whole))


@pytest.mark.parametrize(
    ("name", "episodes", "frames"),
    [
        ("retasked", 4, TOTAL),
        ("added", 4, TOTAL),
        ("removed", 4, TOTAL),
        ("deleted", 3, TOTAL - FRAMES[1]),
        ("merged", 11, 3 * TOTAL - FRAMES[1]),
        ("apart", 11, 3 * TOTAL - FRAMES[1]),
        ("late", 7, 2 * TOTAL - FRAMES[1]),
        ("converted", 4, TOTAL),
    ],
)
def test_what_lerobots_tools_made_is_sound(edited, name, episodes, frames):
    """Nothing of it needs a repair."""
    sound = find_sound(edited / name)
    assert sound is not None
    assert (sound.episodes, sound.frames, sound.flags) == (episodes, frames, ())


def test_rows_that_were_changed_on_purpose_are_only_noted(edited, tmp_path):
    """As somebody who turns all actions into other units leaves them, without the episodes' statistics."""
    source = shutil.copytree(edited / "retasked", tmp_path / "degrees")
    path = next(source.glob("data/*/*.parquet"))
    table = pq.read_table(path)
    turned = pa.array([[57.3 * each for each in row] for row in table.column("action").to_pylist()])
    column = table.schema.get_field_index("action")
    pq.write_table(table.set_column(column, "action", turned.cast(table.schema.field(column).type)), path)
    sound = find_sound(source)
    assert sound is not None
    assert sound.flags == (
        "action does not match the statistics of 4 of 4 episodes: it was changed after the recording, "
        "or is damaged",
    )


@pytest.mark.parametrize("name", ["retasked", "added", "merged", "late"])
def test_hole_in_the_video_costs_the_episode_that_shows_there(edited, tmp_path, name):
    """All others come back with their own rows, pictures and columns, and LeRobot reads them."""
    source = shutil.copytree(edited / name, tmp_path / "holed")
    told = episode_rows(source)
    place = "chunk-{:03d}/file-{:03d}.mp4".format(
        *(told[1][f"videos/{CAMERAS[0]}/{which}"] for which in ("chunk_index", "file_index"))
    )
    begin = round(told[1][f"videos/{CAMERAS[0]}/from_timestamp"] * 30)
    hole(source / "videos" / CAMERAS[0] / place, range(begin + 5, begin + 9))
    assert find_sound(source) is None
    report = repair(source, tmp_path / "repaired")
    assert [loss.what for loss in report.lost] == [f"episode 1 ({told[1]['length']} rows)"]
    assert_picked_episodes(
        tmp_path / "repaired", edited / name, [number for number in range(len(told)) if number != 1]
    )
    assert_lerobot_reads(tmp_path / "repaired", len(told) - 1)
    assert find_sound(tmp_path / "repaired") is not None
    # LeRobot's tools give no statistics to features that they add, and stop at columns with nulls.
    tables = [pq.read_table(path) for path in (tmp_path / "repaired").glob("meta/episodes/*/*.parquet")]
    assert not any(column.null_count for table in tables for column in table.columns)


def test_hole_in_a_video_of_episodes_that_begin_between_keyframes(edited, tmp_path):
    """The others come back with their own pictures; the video can't be cut there, so it is kept as it is."""
    source = shutil.copytree(edited / "converted", tmp_path / "holed")
    (path,) = source.glob("videos/*/*/*.mp4")
    hole(path, range(FRAMES[0] + 9, FRAMES[0] + 13))
    assert find_sound(source) is None
    report = repair(source, tmp_path / "repaired")
    assert [loss.what for loss in report.lost] == [f"episode 1 ({FRAMES[1]} rows)"]
    assert find_sound(tmp_path / "repaired") is not None
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("someone/repaired", root=tmp_path / "repaired")
    assert [row["length"] for row in episode_rows(tmp_path / "repaired")] == [FRAMES[0], *FRAMES[2:]]
    for index in range(len(dataset)):
        item = dataset[index]
        shown = float(item[CAMERAS[0]].mean()) * 255
        assert shown == pytest.approx(2 * float(item["action"]), abs=4)
