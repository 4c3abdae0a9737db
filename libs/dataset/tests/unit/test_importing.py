"""What a dataset becomes as a session, and what is refused of files that nobody vouches for."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from teleop_dataset.errors import NotImportable
from teleop_dataset.importing import FrameTables, columns, describe
from teleop_testing.datasets.importable import NAMES, REWARD, values_of, write_dataset
from teleop_testing.datasets.parquet_bombs import equal_rows, long_text

STARTED_US = 1_700_000_000_000_000
STATE = "observation.state"
ADDED = REWARD | {
    "done": {"dtype": "bool", "shape": [1], "names": None},
    "pose": {"dtype": "float64", "shape": [3], "names": ["x", "y", "z"]},
    "grid": {"dtype": "int16", "shape": [2, 3], "names": None},
}


def read(folder):
    """(description, frames, columns, episodes)."""
    about = describe(folder)
    tables = FrameTables(folder, about, STARTED_US)
    read = list(tables.read())
    arrays = [pa.concat_arrays([each[number] for _, each in read]) for number in range(len(about.columns))]
    return about, pa.concat_tables([frames for frames, _ in read]), arrays, tables.episodes()


def edit_info(folder, change):
    path = folder / "meta/info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def edit_rows(folder, name, values, pattern="data/*/*.parquet"):
    (path,) = folder.glob(pattern)
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index(name), name, values), path)


def test_values_columns_and_tasks(tmp_path):
    about, frames, arrays, episodes = read(write_dataset(tmp_path, added=ADDED))
    assert (about.state_names, about.robot_type, about.fps) == (tuple(NAMES), "so101_follower", 30)
    state = np.array(frames["state"].to_pylist(), np.float32)
    assert (state == values_of("state", 8, [2], "float32", 0)).all()
    assert [(each.name, each.dtype, list(each.shape)) for each in about.columns] == [
        (name, feature["dtype"], feature["shape"]) for name, feature in ADDED.items()
    ]
    for array, (name, feature) in zip(arrays, ADDED.items(), strict=True):
        flat = array.flatten() if isinstance(array, pa.FixedSizeListArray) else array
        wanted = values_of(name, 8, feature["shape"], feature["dtype"], 0).ravel()
        assert (flat.to_numpy(zero_copy_only=False) == wanted).all(), name
    assert [(each.first, each.end, each.tasks) for each in episodes] == [
        (0, 5, [(0, "task 0")]),
        (5, 8, [(5, "task 1")]),
    ]


def test_an_episode_is_the_same_wherever_batches_end(tmp_path, monkeypatch):
    """So a longer dataset, in other files, is known to begin with those of a shorter one."""
    short = read(write_dataset(tmp_path / "short", [5, 3]))[3]
    monkeypatch.setattr(columns, "BATCH_ROWS", 3)
    long = read(write_dataset(tmp_path / "long", [5, 3, 4]))[3]
    assert [each.digest for each in long[:2]] == [each.digest for each in short]
    other = read(write_dataset(tmp_path / "other", [5, 3], seed=1))[3]
    assert {each.digest for each in other}.isdisjoint(each.digest for each in short)


def test_times_follow_the_grid_or_what_the_dataset_tells(tmp_path):
    """Single precision makes no steps; a time that is off stays off; capture times are taken as they are."""
    grid = read(write_dataset(tmp_path / "grid"))[1]["timestamp"].cast(pa.int64()).to_pylist()
    assert [each - STARTED_US for each in grid] == [round(number * 1e6 / 30) for number in range(8)]
    off = write_dataset(tmp_path / "off")
    within = np.float32([0, 1 / 30, 2 / 30 + 0.01, 0.1, 4 / 30, 0, 1 / 30, 2 / 30])
    edit_rows(off, "timestamp", pa.array(within))
    late = read(off)[1]["timestamp"].cast(pa.int64()).to_pylist()
    assert [late[number] - grid[number] for number in (1, 3)] == [0, 0]
    assert late[2] - grid[2] == pytest.approx(10_000, abs=1)
    taken = [STARTED_US + 31_000 * number for number in range(8)]
    told = read(write_dataset(tmp_path / "told", capture_us=taken))[1]["timestamp"]
    assert told.cast(pa.int64()).to_pylist() == taken


def test_pictures_of_several_episodes_in_one_file(tmp_path):
    about = describe(write_dataset(tmp_path, [4, 6], cameras=["front", "wrist"]))
    assert [(each.camera, each.runs) for each in about.videos] == [
        ("front", [(0, 10)]),
        ("wrist", [(0, 10)]),
    ]


def test_pictures_that_belong_to_no_frame(tmp_path):
    """Which frame each picture is of could not be told."""
    folder = write_dataset(tmp_path, [4, 6], cameras=["front"])
    key = "videos/observation.images.front/from_timestamp"
    edit_rows(folder, key, pa.array([0.0, 5 / 30]), "meta/episodes/*/*.parquet")
    with pytest.raises(NotImportable, match="begin with number 5 of it, those before them end with 4"):
        describe(folder)


def test_names_that_are_no_list(tmp_path):
    folder = write_dataset(tmp_path)

    def change(info):
        info["features"]["action"]["names"] = {"motors": ["a", "b"]}
        info["features"][STATE]["names"] = None

    edit_info(folder, change)
    about = describe(folder)
    assert (about.action_names, about.state_names) == (("a", "b"), ("state_0", "state_1"))


def test_another_kind_of_feature_is_named(tmp_path):
    folder = write_dataset(tmp_path)
    language = {"dtype": "language", "shape": [1], "names": None}
    edit_info(folder, lambda info: info["features"].update(language_persistent=language))
    assert describe(folder).notes == ["language_persistent is left out: a session keeps no language"]


def doubles(exact):
    values = np.array([[0.5, exact]] * 8)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 2)


def test_doubles_that_single_precision_holds(tmp_path):
    folder = write_dataset(tmp_path)
    edit_info(folder, lambda info: info["features"][STATE].update(dtype="float64"))
    edit_rows(folder, STATE, doubles(0.25))
    assert read(folder)[1]["state"].to_pylist()[0] == [0.5, 0.25]
    edit_rows(folder, STATE, doubles(0.1))
    with pytest.raises(NotImportable, match="float32 does not hold"):
        read(folder)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda info: info.update(codebase_version="v2.1"), "format v2.1"),
        (lambda info: info.update(fps=0), "fps"),
        (lambda info: info.update(total_frames=9), "tells of 2 episodes and 9 frames"),
        (lambda info: info.update(total_episodes=-1), "-1 episodes"),
        (lambda info: info.update(data_path="{0.__class__}"), "not where LeRobot puts them"),
        (lambda info: info["features"].pop("index"), "no feature index"),
        (lambda info: info["features"][STATE].update(shape=[3]), "not of the shape"),
        (lambda info: info["features"][STATE].update(names=["a", "a"]), "appears twice"),
        (lambda info: info["features"]["next.reward"].update(shape=[-1]), "can't be kept"),
        (lambda info: info["features"]["next.reward"].update(shape=[9, 9, 9, 9]), "can't be kept"),
        (lambda info: info["features"].update(lost=info["features"]["next.reward"]), "no column lost"),
        (lambda info: info["features"]["next.reward"].update(dtype="image"), "in the tables"),
    ],
)
def test_descriptions_that_are_refused(tmp_path, change, why):
    folder = write_dataset(tmp_path)
    edit_info(folder, change)
    with pytest.raises(NotImportable, match=why):
        read(folder)


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("index", [0, 1, 2, 3, 4, 5, 7, 6], "index does not count"),
        ("frame_index", [0, 1, 2, 3, 4, 0, 1, 3], "frame_index does not count"),
        ("task_index", [0, 0, 0, 0, 0, 9, 9, 9], "a task that does not exist"),
        ("task_index", [0, 0, 0, 0, 0, -1, 1, 1], "a task that does not exist"),
        ("timestamp", [np.nan] * 8, "not a time"),
        ("timestamp", [1e300] * 8, "not a time"),
        ("next.reward", [1.0, None] * 4, "missing in a row"),
        ("next.reward", ["1.0", "x"] * 4, "is not float32"),
        (STATE, [[1.0, 2.0]] * 7 + [[1.0]], "not of the shape"),
        (STATE, [[1.0, 2.0]] * 7 + [None], "missing in a row"),
    ],
)
def test_rows_that_are_refused(tmp_path, name, values, why):
    """With the file that they are in."""
    folder = write_dataset(tmp_path)
    edit_rows(folder, name, pa.array(values))
    with pytest.raises(NotImportable, match=r"^data/chunk-000/file-000.parquet: .*" + why):
        read(folder)


def test_a_table_that_would_fill_memory(tmp_path):
    """It is refused from its footer, as for repairs."""
    folder = write_dataset(tmp_path)
    (path,) = folder.glob("data/*/*.parquet")
    path.write_bytes(long_text(2 * 1024**3 - 1))
    with pytest.raises(NotImportable, match="of one row group"):
        read(folder)
    path.write_bytes(equal_rows(pq.read_schema(path), 10**9))
    with pytest.raises(NotImportable, match="bytes would be"):
        read(folder)
