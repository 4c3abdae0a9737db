"""Each part of the format against LeRobot 0.6.1 itself, which knows nothing of ours."""

import json

import lerobot.datasets.utils as lerobots
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from lerobot.datasets.depth_utils import dequantize_depth
from lerobot.datasets.feature_utils import get_hf_features_from_features
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from teleop_dataset.v3 import layout
from teleop_dataset.v3.data import column_values, data_schema, nested_lists
from teleop_dataset.v3.depth import DEPTH_LEVELS, depth_info, depth_values
from teleop_dataset.v3.episodes import STATISTICS, statistics_per_row
from teleop_dataset.v3.info import DEFAULT_FEATURES, recorded_features
from teleop_dataset.v3.layout import LEROBOTS_LIMITS, FileNumber
from teleop_dataset.v3.numbering import TaskRows
from teleop_dataset.v3.writer import DatasetWriter

FPS = 30
NUMBERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", "float32", "float64")
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple)
FEATURES = st.dictionaries(
    st.from_regex(r"\A[a-z_.]{1,12}\Z"),
    st.one_of(
        st.fixed_dictionaries({"dtype": st.sampled_from((*NUMBERS, *FLOATS, "string")), "shape": SHAPES}),
        st.just({"dtype": "image", "shape": (8, 8, 3)}),
        st.just({"dtype": "video", "shape": (8, 8, 3)}),
    ),
    max_size=6,
)


def stored(schema):
    """Names and types in the file: `datasets` gives Arrow types of its own, which are stored as lists."""
    return [(field.name, getattr(field.type, "storage_type", field.type)) for field in schema]


def described_in(schema):
    """The features that `datasets` finds in a footer, and the index that pandas does."""
    told = {name: json.loads(value) for name, value in schema.metadata.items()}
    features = told.get(b"huggingface", {}).get("info", {}).get("features")
    return features, told.get(b"pandas", {}).get("index_columns")


@given(FEATURES)
@settings(deadline=None)
def test_data_files_have_lerobots_columns_and_footer(features):
    """Of any features: types, and the description by which `datasets` and the Hub read them."""
    theirs = get_hf_features_from_features(features).arrow_schema
    ours = data_schema(features)
    assert stored(ours) == stored(theirs)
    assert described_in(ours) == described_in(theirs)


@given(st.sampled_from((*NUMBERS, *FLOATS)), SHAPES, st.integers(1, 5), st.data())
@settings(deadline=None)
def test_values_come_back_from_their_column(dtype, shape, rows, data):
    """As (rows, width), or (rows, all others, the last dimension), of whichever shape the feature is."""
    values = data.draw(arrays(dtype, (rows, *shape), elements={"allow_nan": False} if "f" in dtype else None))
    kind = data_schema({"x": {"dtype": dtype, "shape": shape}}).field("x").type
    flat = pa.array(values.ravel())
    if len(shape) > 1:
        column = nested_lists(flat, shape)
    else:
        column = flat if shape == (1,) else pa.FixedSizeListArray.from_arrays(flat, shape[0])
    table = pa.table([column.cast(kind)], names=["x"])
    found = column_values(table, "x")
    expected = values.reshape(rows, -1) if len(shape) == 1 else values.reshape(rows, -1, shape[-1])
    np.testing.assert_array_equal(found, expected)
    halves = pa.concat_tables([table.slice(0, rows // 2), table.slice(rows // 2)])
    np.testing.assert_array_equal(column_values(halves, "x"), expected)


@pytest.mark.parametrize("unit", ["m", "mm"])
@given(
    low=st.floats(0.001, 1.0), reach=st.floats(0.01, 20.0), shift=st.floats(0.0, 5.0), use_log=st.booleans()
)
@settings(deadline=None, max_examples=30)
def test_codes_are_the_depth_that_lerobot_makes_of_them(unit, low, reach, shift, use_log):
    """In metres to a millionth of the range, in mm to what LeRobot rounds to: a whole one."""
    info = {"video.depth_min": low, "video.depth_max": low + reach, "video.shift": shift}
    ours = depth_values({**info, "depth_unit": unit, "video.use_log": use_log})
    codes = np.arange(DEPTH_LEVELS, dtype=np.uint16)[None]
    theirs = dequantize_depth(codes, low, low + reach, shift, use_log, output_unit=unit)
    near = 1e-5 * (low + reach + shift) if unit == "m" else 0.51
    np.testing.assert_allclose(ours, np.asarray(theirs, np.float64).ravel(), atol=near, rtol=0)


def test_depth_that_nothing_describes_has_lerobots_defaults():
    """In mm: datasets that LeRobot recorded before it noted these."""
    np.testing.assert_array_equal(depth_values({}), depth_values(depth_info("mm")))


def test_files_lie_where_lerobot_looks_for_them():
    """Paths, their numbers, and the sizes after which another file begins."""
    for chunk, file in ((0, 0), (2, 999), (1234, 5)):
        number, numbered = FileNumber(chunk, file), {"chunk_index": chunk, "file_index": file}
        for path, template in (
            (number.data_path(), lerobots.DEFAULT_DATA_PATH),
            (number.episodes_path(), lerobots.DEFAULT_EPISODES_PATH),
            (number.video_path("a.b"), lerobots.DEFAULT_VIDEO_PATH),
        ):
            assert path == template.format(video_key="a.b", **numbered)
            assert FileNumber.of(path) == number
    assert (layout.INFO, layout.STATS, layout.TASKS) == (
        lerobots.INFO_PATH,
        lerobots.STATS_PATH,
        lerobots.DEFAULT_TASKS_PATH,
    )
    assert LEROBOTS_LIMITS.data_bytes == lerobots.DEFAULT_DATA_FILE_SIZE_IN_MB * 1024**2
    assert LEROBOTS_LIMITS.video_bytes == lerobots.DEFAULT_VIDEO_FILE_SIZE_IN_MB * 1024**2
    assert FileNumber(0, lerobots.DEFAULT_CHUNK_SIZE - 1).following() == FileNumber(1, 0)


@pytest.mark.parametrize("path", ["data/file-000.parquet", "data/chunk-000/file-x.parquet", "info.json"])
def test_a_file_that_is_not_numbered_is_named(path):
    """Its path is all that tells where it belongs."""
    with pytest.raises(ValueError, match=f"{path} is not numbered"):
        FileNumber.of(path)


ADDED = {
    "next.reward": {"dtype": "float32", "shape": [1], "names": None},
    "next.success": {"dtype": "bool", "shape": [1], "names": None},
    "grid": {"dtype": "float64", "shape": [2, 3], "names": None},
    "note": {"dtype": "string", "shape": [1], "names": None},
}
# Of each episode, its tasks one after the other. None is of a single row: LeRobot 0.6.1 can't save one whose
# features have two dimensions.
TASKS = ([("pick", 12)], [("place", 5), ("pick", 7), ("place", 1)], [("pick", 2)])


@pytest.fixture(scope="module")
def vectors():
    """Of every row of the dataset that both write."""
    chance = np.random.default_rng(7)
    rows = sum(count for episode in TASKS for _, count in episode)
    return {
        "action": chance.normal(size=(rows, 3)).astype(np.float32),
        "observation.state": chance.normal(size=(rows, 2)).astype(np.float32),
        "next.reward": chance.normal(size=(rows, 1)).astype(np.float32),
        "next.success": chance.random((rows, 1)) < 0.5,
        "grid": chance.normal(size=(rows, 2, 3)),
        "note": [f"row {row}" for row in range(rows)],
    }


@pytest.fixture(scope="module")
def theirs(vectors, tmp_path_factory):
    """The dataset as LeRobot writes it."""
    features = recorded_features(["x", "y"], ["a", "b", "c"], fps=FPS, capture_time=False, added=ADDED)
    own = {key: {**each, "shape": tuple(each["shape"])} for key, each in features.items()}
    root = tmp_path_factory.mktemp("lerobots") / "dataset"
    made = LeRobotDataset.create("lab/own", FPS, own, root=root, robot_type="so101", use_videos=False)
    row = 0
    for episode in TASKS:
        for task, count in episode:
            for _ in range(count):
                made.add_frame({**{key: values[row] for key, values in vectors.items()}, "task": task})
                row += 1
        made.save_episode()
    made.finalize()
    return root


@pytest.fixture(scope="module")
def ours(vectors, tmp_path_factory):
    """The same dataset as the writer writes it, in two goes."""
    root = tmp_path_factory.mktemp("ours")
    features = recorded_features(["x", "y"], ["a", "b", "c"], fps=FPS, capture_time=False, added=ADDED)
    frames = pa.table(
        {
            "action": pa.FixedSizeListArray.from_arrays(vectors["action"].ravel(), 3),
            "state": pa.FixedSizeListArray.from_arrays(vectors["observation.state"].ravel(), 2),
            "next.reward": vectors["next.reward"][:, 0],
            "next.success": vectors["next.success"][:, 0],
            "grid": nested_lists(pa.array(vectors["grid"].ravel()), (2, 3)),
            "note": vectors["note"],
        }
    )
    lengths = [sum(count for _, count in episode) for episode in TASKS]
    tasks = [[TaskRows(*each) for each in episode] for episode in TASKS]
    with DatasetWriter(root, features, fps=FPS, limits=LEROBOTS_LIMITS) as writer:
        writer.add(frames.slice(0, lengths[0]), lengths[:1], tasks[:1], {}, {})
        writer.add(frames.slice(lengths[0]), lengths[1:], tasks[1:], {}, {})
        writer.close_data()
        recorded = writer.recorded.finish(root, lambda done, total: None)
        splits = {"train": (0, len(TASKS))}
        writer.finish(recorded, {}, robot_type="so101", provenance={}, splits=splits)
    return root


def test_a_dataset_has_lerobots_files(ours, theirs):
    """Not one more, but for where it comes from; and the same documents."""
    files = [
        {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
        for root in (ours, theirs)
    ]
    assert files[0] - files[1] == {layout.PROVENANCE}
    assert files[1] <= files[0]
    infos = [(root / layout.INFO).read_text() for root in (ours, theirs)]
    assert json.loads(infos[0]) == json.loads(infos[1])
    assert list(json.loads(infos[0])) == list(json.loads(infos[1]))


@pytest.mark.parametrize("path", [FileNumber(0, 0).data_path(), layout.TASKS])
def test_a_dataset_has_lerobots_rows(ours, theirs, path):
    """Every value of every column in its place, with the same description in the footer."""
    mine, own = (pq.read_table(root / path) for root in (ours, theirs))
    assert stored(mine.schema) == stored(own.schema)
    assert mine.to_pylist() == own.to_pylist()
    assert described_in(mine.schema) == described_in(own.schema)


def test_a_dataset_has_lerobots_episodes(ours, theirs):
    """Where each lies, which tasks it has, and its statistics, in lists of the same lengths."""
    tables = [pq.read_table(root / FileNumber(0, 0).episodes_path()) for root in (ours, theirs)]
    assert stored(tables[0].schema) == stored(tables[1].schema)
    assert all(table.num_rows == len(TASKS) for table in tables)
    widths = statistics_per_row(json.loads((ours / layout.INFO).read_text())["features"])
    assert set(widths) == set(tables[0].column_names) - {"tasks"}
    for name in tables[0].column_names:
        mine, own = (table.column(name).to_pylist() for table in tables)
        if not name.startswith("stats/"):
            # LeRobot names an episode's tasks in the order of a set.
            assert [*map(sorted, mine)] == [*map(sorted, own)] if name == "tasks" else mine == own, name
            continue
        for row in range(len(TASKS)):
            assert np.size(mine[row]) == np.size(own[row]) == widths[name], name
            if name.rpartition("/")[2] in ("min", "max", "mean", "std", "count"):
                np.testing.assert_allclose(mine[row], own[row], atol=1e-5, rtol=1e-5, err_msg=name)


def test_a_dataset_has_lerobots_statistics(ours, theirs):
    """Of the same features, by the same names in the same order; only LeRobot's quantiles are estimates."""
    documents = [json.loads((root / layout.STATS).read_text()) for root in (ours, theirs)]
    assert documents[0].keys() == documents[1].keys()
    assert "note" not in documents[0]
    for key, own in documents[1].items():
        mine = documents[0][key]
        assert set(mine) == set(own) == set(STATISTICS)
        for name in ("min", "max", "mean", "std", "count"):
            np.testing.assert_allclose(mine[name], own[name], atol=1e-5, rtol=1e-5, err_msg=f"{key} {name}")


def test_lerobot_reads_what_the_writer_wrote(ours, vectors):
    """Row by row, with its task."""
    opened = LeRobotDataset("lab/ours", root=ours)
    tasks = [task for episode in TASKS for task, count in episode for _ in range(count)]
    assert (opened.num_episodes, len(opened)) == (len(TASKS), len(tasks))
    for row in (0, 11, 12, 17, len(tasks) - 1):
        found = opened[row]
        assert found["task"] == tasks[row]
        assert found["note"] == vectors["note"][row]
        for key in ("action", "observation.state", "grid"):
            # LeRobot gives every float in single precision.
            expected = vectors[key][row].astype(np.float32)
            np.testing.assert_array_equal(found[key].numpy(), expected, err_msg=key)


def test_features_without_values_are_left_out():
    """LeRobot allows no empty ones; times and ages are there only if they are asked for."""
    asked = {"fps": FPS, "capture_time": True, "observation_age": True}
    assert list(recorded_features([], ["a"], **asked)) == [
        "action",
        "capture.time_ns",
        "capture.observation_age_ms",
        *DEFAULT_FEATURES,
    ]
    assert list(recorded_features(["x"], [], fps=FPS, capture_time=False)) == [
        "observation.state",
        *DEFAULT_FEATURES,
    ]
