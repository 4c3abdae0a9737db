"""A dataset written from frames in memory, and what the verifier says when somebody tampers with it."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from teleop_dataset.errors import VerificationFailed
from teleop_dataset.v3.info import recorded_features
from teleop_dataset.v3.layout import BYTES_PER_MB, LEROBOTS_LIMITS, FileLimits, FileNumber
from teleop_dataset.v3.numbering import TaskRows
from teleop_dataset.v3.writer import DatasetWriter
from teleop_dataset.verify import verify
from teleop_dataset.verify_written import verify_written

NAMES = ("a.pos", "b.pos")
DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
LENGTHS = (100, 1, 179)


def frames(count, width):
    """Recorded frames, at 60 Hz."""
    values = np.random.default_rng(0).normal(size=(2, count, width)).astype(np.float32)
    captured = np.arange(count) * 16_667 + 1_763_860_000_000_000
    return pa.table(
        {
            "timestamp": pa.array(captured, pa.timestamp("us", tz="UTC")),
            "state": pa.FixedSizeListArray.from_arrays(values[0].ravel(), width),
            "action": pa.FixedSizeListArray.from_arrays(values[1].ravel(), width),
        }
    )


def write(folder, lengths=LENGTHS, names=NAMES, limits=LEROBOTS_LIMITS, splits=None):
    """A dataset without video, whose first episode has another task than the others."""
    features = recorded_features(names, names, fps=60, capture_time=True)
    tasks = [[TaskRows("pick" if number else "fold", length)] for number, length in enumerate(lengths)]
    with DatasetWriter(folder, features, fps=60, limits=limits) as writer:
        writer.add(frames(sum(lengths), len(names)), lengths, tasks, {}, {})
        writer.close_data()
        writer.finish(
            writer.recorded.finish(folder, ignore),
            {},
            robot_type="so101",
            provenance={},
            splits=splits or {"train": (0, len(lengths))},
        )


def ignore(*_progress):
    """A watch that never stops the work."""


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A dataset of three episodes with two tasks."""
    folder = tmp_path_factory.mktemp("dataset")
    write(folder)
    return folder


@pytest.fixture
def dataset(template, tmp_path):
    return shutil.copytree(template, tmp_path / "dataset")


def check(folder, frames=280):
    verify(folder, frames=frames, advance=ignore)
    verify_written(folder)


def change_json(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def change_column(path, name, change):
    table = pq.read_table(path)
    values = change(table.column(name).to_numpy().copy())
    number = table.column_names.index(name)
    table = table.set_column(number, table.schema.field(number), pa.array(values))
    groups = [
        group.num_rows
        for group in map(pq.ParquetFile(path).metadata.row_group, range(pq.ParquetFile(path).num_row_groups))
    ]
    with pq.ParquetWriter(path, table.schema) as writer:
        for begin, rows in zip(np.cumsum([0, *groups]).tolist(), groups, strict=False):
            writer.write_table(table.slice(begin, rows), row_group_size=rows)


def test_sound_dataset_passes(dataset):
    """The verifier has nothing against what the writer wrote."""
    check(dataset)


def test_missing_frames_are_noticed(dataset):
    """As many frames as were committed and not excluded, no more and no less."""
    with pytest.raises(VerificationFailed, match="280 frames where 281 should be"):
        check(dataset, frames=281)


def _set(values, index, value):
    values[index] = value
    return values


@pytest.mark.parametrize(
    ("column", "change", "told"),
    [
        ("index", lambda values: _set(values, 5, 7), "index is not"),
        ("episode_index", lambda values: _set(values, 100, 0), "another episode"),
        ("frame_index", lambda values: values + 1, "frame_index"),
        ("timestamp", lambda values: values + np.float32(0.003), "timestamp"),
        ("task_index", lambda values: _set(values, 0, 2), "task_index"),
    ],
)
def test_wrong_rows_are_noticed(dataset, column, change, told):
    """Each number of each row is what LeRobot takes it for."""
    change_column(dataset / DATA, column, change)
    with pytest.raises(VerificationFailed, match=told):
        check(dataset)


@pytest.mark.parametrize(
    ("column", "change", "told"),
    [
        ("episode_index", lambda values: values[::-1].copy(), "episode_index"),
        ("length", lambda values: values + 1, "inconsistent"),
        ("dataset_from_index", lambda values: values + 1, "inconsistent"),
        ("data/file_index", lambda values: values + 1, "name another file"),
    ],
)
def test_wrong_episodes_are_noticed(dataset, column, change, told):
    """Each episode row says where its frames are."""
    change_column(dataset / EPISODES, column, change)
    with pytest.raises(VerificationFailed, match=told):
        check(dataset)


@pytest.mark.parametrize(
    ("path", "change", "told"),
    [
        ("meta/info.json", lambda info: info.update(fps=60.0), "fps"),
        ("meta/info.json", lambda info: info.update(total_tasks=3), "total_tasks"),
        ("meta/info.json", lambda info: info["features"].pop("index"), "default features"),
        ("meta/stats.json", lambda stats: stats.pop("action"), "cover exactly"),
        ("meta/stats.json", lambda stats: stats["action"].update(q01=[0.0]), "shape"),
        ("meta/stats.json", lambda stats: stats["index"].update(std=[float("nan")]), "finite"),
    ],
)
def test_wrong_documents_are_noticed(dataset, path, change, told):
    """info.json and stats.json tell of this dataset and of no other."""
    change_json(dataset / path, change)
    with pytest.raises(VerificationFailed, match=told):
        check(dataset)


def test_foreign_data_file_is_noticed(dataset):
    """LeRobot reads whatever lies there."""
    shutil.copy(dataset / DATA, dataset / "data/chunk-000/file-002.parquet")
    with pytest.raises(VerificationFailed, match="does not end with an episode"):
        check(dataset)


def test_tasks_are_what_pandas_would_write(dataset):
    """LeRobot looks the task up by row and reads it from the index."""
    tasks = pd.read_parquet(dataset / "meta/tasks.parquet")
    assert tasks.index.name == "task"
    assert list(tasks.index) == ["fold", "pick"]
    assert tasks["task_index"].tolist() == [0, 1]


def test_one_joint_is_a_plain_column(tmp_path):
    """LeRobot keeps features of shape [1] as values, not as lists."""
    write(tmp_path, names=("grip.pos",))
    assert pq.read_schema(tmp_path / DATA).field("action").type == pa.float32()


def test_data_files_stay_near_their_limit(tmp_path):
    """A new file is begun before one grows too large; an episode is never cut."""
    small = FileLimits(6000 / BYTES_PER_MB, 1, one_file=False)
    write(tmp_path, limits=small)
    assert len(list(tmp_path.glob("data/*/*.parquet"))) == 3


@pytest.mark.parametrize(
    "splits", [{}, {"train": "0:2"}, {"train": "1:3"}, {"a": "0:2", "b": "1:3"}, {"a": "0:3", "b": "3:3"}]
)
def test_splits_that_do_not_cover_the_episodes_are_found(tmp_path, splits):
    """By the last look at a dataset."""
    write(tmp_path)
    path = tmp_path / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"splits": splits}))
    with pytest.raises(VerificationFailed, match="splits"):
        check(tmp_path)


def test_files_are_numbered_within_chunks():
    """A thousand files a folder, then the next."""
    assert FileNumber(0, 998).following() == FileNumber(0, 999)
    assert FileNumber(0, 999).following() == FileNumber(1, 0)
    assert FileNumber(1, 0).data_path() == "data/chunk-001/file-000.parquet"
