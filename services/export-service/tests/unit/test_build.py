"""A dataset written from frames in memory, and what the verifier says when somebody tampers with it."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec import structs
from teleop_dataset.errors import VerificationFailed
from teleop_dataset.v3.layout import BYTES_PER_MB, ONE_FILE, FileLimits, FileNumber
from teleop_dataset.verify import verify
from teleop_export.errors import Cancelled, NotFinite, RecordingChanged
from teleop_export.making import build as building
from teleop_export.planning.order import make_order
from teleop_export.planning.request import ExportRequest
from teleop_export.sessions.recorded import EpisodeRow, Session

NAMES = ("a.pos", "b.pos")
FRAMES = 300
DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"


class Memory:
    """Recorded frames, read from a table."""

    def __init__(self, frames=FRAMES, names=NAMES):
        values = np.random.default_rng(0).normal(size=(2, frames, len(names))).astype(np.float32)
        captured = np.arange(frames) * 16_667 + 1_763_860_000_000_000
        self.table = pa.table(
            {
                "frame_index": np.arange(frames),
                "timestamp": pa.array(captured, pa.timestamp("us", tz="UTC")),
                "state": pa.FixedSizeListArray.from_arrays(values[0].ravel(), len(names)),
                "action": pa.FixedSizeListArray.from_arrays(values[1].ravel(), len(names)),
                "extra": pa.nulls(frames, pa.string()),
                "observation_age_us": pa.nulls(frames, pa.int64()),
            }
        )

    def read(self, session_id, first, end, *, state_width, action_width):
        index = self.table.column("frame_index").to_numpy()
        return self.table.filter(pa.array((index >= first) & (index < end)))


def order(*episodes, frames=FRAMES, names=NAMES):
    session = Session(
        id=1,
        robot_id="robot_A",
        robot_type="so101",
        fps=60.0,
        task="pick",
        state_names=names,
        action_names=names,
        status="complete",
        watermark=frames,
        committed=frames,
        episodes=tuple(EpisodeRow(number, *each) for number, each in enumerate(episodes)),
    )
    return make_order(ExportRequest(session_ids=(1,), repo_id="lab/pick"), [session])


def build(folder, made, reader, watch):
    """A dataset without video."""
    return building.build(folder, made, reader, None, None, watch)


def ignore(*_progress):
    """A watch that never stops the work."""


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A dataset of three episodes with two tasks."""
    folder = tmp_path_factory.mktemp("dataset")
    made = order((0, 100, "fold"), (120, 121), (121, 300))
    build(folder, made, Memory(), ignore)
    return folder


@pytest.fixture
def dataset(template, tmp_path):
    return shutil.copytree(template, tmp_path / "dataset")


def check(folder, frames=280):
    verify(folder, frames=frames, advance=ignore)


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


def test_rows_have_the_tasks_of_their_frames(tmp_path):
    """As LeRobot has it: a task for each row, in the order of the tasks' appearance; an episode names each of
    its tasks once. One whose frames are all left out by a lower rate is none."""
    made = order(
        (0, 100, "fold", None, ((40, "pick"), (60, "fold"), (61, "gone"), (62, "open"))), (100, 300, "pick")
    )
    made = structs.replace(made, fps=30)
    built = build(tmp_path, made, Memory(), ignore)
    rows = pd.read_parquet(tmp_path / DATA)
    tasks = pd.read_parquet(tmp_path / "meta/tasks.parquet")
    assert list(tasks.index) == ["fold", "pick", "open"]
    assert built.content.tasks == json.loads((tmp_path / "meta/info.json").read_text())["total_tasks"] == 3
    assert rows.task_index.tolist() == [0] * 20 + [1] * 10 + [0] + [2] * 19 + [1] * 100
    episodes = pq.read_table(tmp_path / EPISODES).to_pylist()
    assert [each["tasks"] for each in episodes] == [["fold", "pick", "open"], ["pick"]]
    assert [each["stats/task_index/mean"] for each in episodes] == [[pytest.approx(48 / 50)], [1]]
    check(tmp_path, frames=150)


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
    with pytest.raises(VerificationFailed, match="numbering"):
        check(dataset)


def test_tasks_are_what_pandas_would_write(dataset):
    """LeRobot looks the task up by row and reads it from the index."""
    tasks = pd.read_parquet(dataset / "meta/tasks.parquet")
    assert tasks.index.name == "task"
    assert list(tasks.index) == ["fold", "pick"]
    assert tasks["task_index"].tolist() == [0, 1]


def test_capture_time_is_kept(dataset):
    """Nanoseconds since 1970, while `timestamp` is on the grid."""
    table = pq.read_table(dataset / DATA)
    assert table.column("capture.time_ns")[100].as_py() == (1_763_860_000_000_000 + 120 * 16_667) * 1000
    assert table.column("timestamp")[99].as_py() == np.float32(99 / 60)


def test_one_joint_is_a_plain_column(tmp_path):
    """LeRobot keeps features of shape [1] as values, not as lists."""
    build(tmp_path, order(names=("grip.pos",)), Memory(names=("grip.pos",)), ignore)
    assert pq.read_schema(tmp_path / DATA).field("action").type == pa.float32()


def test_vanished_frames_stop_the_export(tmp_path):
    """Fewer rows than planned are never padded."""
    with pytest.raises(RecordingChanged, match="only 299 of"):
        build(tmp_path, order(), Memory(FRAMES - 1), ignore)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_value_that_is_no_number_stops_the_export(tmp_path, value):
    """The error names feature and frames."""
    memory = Memory()
    values = memory.table.column("state").combine_chunks().flatten().to_numpy().copy()
    values[250 * len(NAMES)] = value
    memory.table = memory.table.set_column(2, "state", pa.FixedSizeListArray.from_arrays(values, len(NAMES)))
    with pytest.raises(NotFinite, match=r"observation.state .* frames 200 to 299"):
        build(tmp_path, order((0, 200), (200, 300)), memory, ignore)


def test_watch_stops_the_work(tmp_path):
    """Whatever it raises ends the export."""

    def stop(stage, done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        build(tmp_path, order(), Memory(), stop)


def test_data_files_stay_near_their_limit(tmp_path, monkeypatch):
    """A new file is begun before one grows too large; an episode is never cut."""
    small = FileLimits(6000 / BYTES_PER_MB, 1, one_file=False)
    monkeypatch.setattr("teleop_export.planning.order.LEROBOTS_LIMITS", small)
    build(tmp_path, order((0, 100), (100, 101), (101, 300)), Memory(), ignore)
    assert len(list(tmp_path.glob("data/*/*.parquet"))) == 3


def test_splits_are_ranges_of_episodes(tmp_path):
    """In info.json, and the dataset is verified with them."""
    made = structs.replace(
        order((0, 100), (100, 101), (101, 300)), splits=(("train", 0, 2), ("val", 2, 3)), streaming_safe=True
    )
    build(tmp_path, made, Memory(), ignore)
    info = json.loads((tmp_path / "meta/info.json").read_text())
    assert info["splits"] == {"train": "0:2", "val": "2:3"}
    assert info["data_files_size_in_mb"] == ONE_FILE.data_mb


@pytest.mark.parametrize(
    "splits", [{}, {"train": "0:2"}, {"train": "1:3"}, {"a": "0:2", "b": "1:3"}, {"a": "0:3", "b": "3:3"}]
)
def test_splits_that_do_not_cover_the_episodes_are_found(tmp_path, splits):
    """By the last look at a dataset."""
    build(tmp_path, order((0, 100), (100, 101), (101, 300)), Memory(), ignore)
    path = tmp_path / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"splits": splits}))
    with pytest.raises(VerificationFailed, match="splits"):
        verify(tmp_path, frames=300, advance=ignore)


def test_files_are_numbered_within_chunks():
    """A thousand files a folder, then the next."""
    assert FileNumber(0, 998).following() == FileNumber(0, 999)
    assert FileNumber(0, 999).following() == FileNumber(1, 0)
    assert FileNumber(1, 0).data_path() == "data/chunk-001/file-000.parquet"
