"""What a command adds to LeRobot's dataset comes back in the export as LeRobot itself has written it."""

import io
import json
import sys
import tarfile
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot.datasets.dataset_tools import merge_datasets, remove_feature
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from teleop_testing.waiting import PATIENCE_S, wait_for
from torch.utils.data import DataLoader

FPS = 30
DTYPES = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
]
SHAPES = {"one": (1,), "many": (3,), "table": (2, 3), "cube": (2, 1, 2)}
ADDED = {
    "intervention": {"dtype": "bool", "shape": (1,), "names": None},
    "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    "instruction": {"dtype": "string", "shape": (1,), "names": None},
    "complementary_info.pose": {"dtype": "float64", "shape": (3,), "names": ["x", "y", "z"]},
    **{
        f"{dtype}_{name}": {"dtype": dtype, "shape": shape, "names": None}
        for dtype in DTYPES
        for name, shape in SHAPES.items()
    },
}
# As lerobot-record does, with a loop that runs at exactly FPS, however busy the machine is.
SCRIPT = """
import json, sys
from types import SimpleNamespace
import numpy as np
import lerobot_robot_backend.lerobot.tap as tap
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot_robot_virtual.arm import NAMES
from lerobot_robot_virtual.devices import VirtualSO101Follower, VirtualSO101FollowerConfig

FPS = 30
root, added = sys.argv[1], json.loads(sys.argv[2])
begun = tap.time.monotonic_ns()
iteration = 0
tap.time = SimpleNamespace(monotonic_ns=lambda: begun + iteration * 1_000_000_000 // FPS)
joints = {"dtype": "float32", "shape": (len(NAMES),), "names": list(NAMES)}
added = {name: {**feature, "shape": tuple(feature["shape"])} for name, feature in added.items()}
robot = VirtualSO101Follower(VirtualSO101FollowerConfig(id="mine"))
dataset = LeRobotDataset.create(
    "u/own", FPS, {"action": joints, "observation.state": joints, **added},
    root=root, robot_type=robot.name, use_videos=False,
)
random = np.random.default_rng(7)

def value(feature):
    if feature["dtype"] == "string":
        return "집어 " * int(random.integers(0, 5)) + str(iteration)
    kind = np.dtype(feature["dtype"])
    if kind.kind == "f":
        return random.normal(size=feature["shape"]).astype(kind)
    if kind.kind == "b":
        return random.integers(0, 2, feature["shape"]).astype(kind)
    # torch, which LeRobot makes of every number, has room for 63 bits.
    most = min(np.iinfo(kind).max, 2**63 - 1)
    return random.integers(np.iinfo(kind).min, most, feature["shape"], dtype=kind, endpoint=True)

robot.connect()
for frames in (45, 0, 37):
    for number in range(frames + 10):
        observation = robot.get_observation()
        action = {name: position + 0.5 for name, position in observation.items()}
        robot.send_action(action)
        iteration += 1
        task = "pick" if iteration < 75 else "place"
        # Else the scene is reset; or the recorder waits, at first for three steps, then for seven.
        if frames and number not in (20, 21, 22, *range(30, 37)):
            vectors = {
                "action": np.float32(list(action.values())),
                "observation.state": np.float32(list(observation.values())),
            }
            dataset.add_frame({**vectors, **{n: value(f) for n, f in added.items()}, "task": task})
    if frames:
        dataset.save_episode()
dataset.finalize()
robot.disconnect()
"""


def exported(address: str, folder: Path) -> Path:
    """The only session as a dataset, once all of it has arrived, fetched as a user would."""
    with httpx.Client(base_url=f"http://{address}", timeout=PATIENCE_S) as http:
        wait_for(lambda: http.get("/sessions/1").json().get("status") == "complete")
        asked = {"session_ids": [1], "repo_id": "u/exported", "include_capture_time": False}
        answer = http.post("/exports", json=asked)
        assert answer.status_code == 202, answer.text
        url = f"/exports/{answer.json()['id']}"

        def ended() -> dict | None:
            export = http.get(url).json()
            return None if export["status"] in ("queued", "running") else export

        export = wait_for(ended)
        assert export["status"] == "done", export
        assert [column["name"] for column in export["report"]["columns"]] == list(ADDED)
        assert export["report"]["sessions"][0]["columns_left_out"] == []
        with tarfile.open(fileobj=io.BytesIO(http.get(f"{url}/archive").content)) as tar:
            tar.extractall(folder, filter="data")
    return folder / "exported"


def rows_of(root: Path) -> pa.Table:
    """As they lie in the file: where `datasets` is imported, Arrow reads arrays as types of its own."""
    table = pq.read_table(root / "data/chunk-000/file-000.parquet")
    columns = [column.combine_chunks() for column in table.columns]
    kept = [column.storage if isinstance(column, pa.ExtensionArray) else column for column in columns]
    return pa.table(kept, table.column_names)


def described(root: Path) -> dict:
    """The features, as the data file tells them."""
    schema = pq.read_schema(root / "data/chunk-000/file-000.parquet")
    return json.loads(schema.metadata[b"huggingface"])["info"]["features"]


def same_statistics(ours: dict, theirs: dict, told: str) -> None:
    """LeRobot computes in single precision where that holds the values; its quantiles are estimates from
    histograms, and their mean over the episodes: only their shapes are those of ours, which are exact."""
    assert set(ours) == set(theirs), told
    spread = np.subtract(theirs["max"], theirs["min"], dtype=float)
    for name, found in theirs.items():
        assert np.shape(ours[name]) == np.shape(found), (told, name)
        if not name.startswith("q"):
            apart = np.abs(np.subtract(ours[name], found, dtype=float))
            assert (apart <= 1e-3 * spread).all(), (told, name, ours[name], found)


def same_after_merging(datasets: list[LeRobotDataset], rows: pa.Table, folder: Path) -> None:
    """LeRobot's own merge makes one dataset of an export and of what it has written itself.

    Not of arrays of two and more dimensions, at which it fails, also between datasets of its own.
    """
    arrays = [name for name, feature in ADDED.items() if len(feature["shape"]) > 1]
    flat = [
        remove_feature(dataset, arrays, folder / f"flat-{number}", f"u/flat-{number}")
        for number, dataset in enumerate(datasets)
    ]
    merged = merge_datasets(flat, "u/merged", folder / "merged")
    assert (merged.num_episodes, len(merged)) == (4, 2 * len(rows))
    found = rows_of(folder / "merged")
    assert set(found.column_names) == set(rows.column_names) - set(arrays)
    expected = {name: 2 * rows.column(name).to_pylist() for name in found.column_names}
    expected["index"] = list(range(2 * len(rows)))
    episodes = rows.column("episode_index").to_pylist()
    expected["episode_index"] = [*episodes, *(2 + number for number in episodes)]
    for name, values in expected.items():
        assert found.column(name).to_pylist() == values, name


@pytest.mark.long("LeRobot records twice")
def test_added_columns_come_back_as_lerobot_wrote_them(backend, start, output, tmp_path):
    """Rows, tasks, types, features and statistics of the export are those of the dataset that LeRobot's own
    API wrote while the plugin listened; LeRobot opens both, merges them, and makes batches of them."""
    script, own = tmp_path / "record.py", tmp_path / "own"
    script.write_text(SCRIPT)
    flags = [f"--backend_url=ws://{backend.address}", "--robot_id=robot_A"]
    command = [sys.executable, "-m", "lerobot_robot_backend.auto", *flags, str(script), str(own)]
    assert start(*command, json.dumps(ADDED)).wait(PATIENCE_S) == 0, output()
    ours = exported(backend.address, tmp_path)

    assert rows_of(ours).num_rows == 82
    assert rows_of(ours).equals(rows_of(own))
    assert described(ours) == described(own)
    tasks = [pd.read_parquet(root / "meta/tasks.parquet") for root in (ours, own)]
    assert tasks[0].equals(tasks[1])
    infos = [json.loads((root / "meta/info.json").read_text()) for root in (ours, own)]
    assert infos[0]["features"] == infos[1]["features"]
    assert list(infos[0]["features"]) == list(infos[1]["features"])
    stats = [json.loads((root / "meta/stats.json").read_text()) for root in (ours, own)]
    assert set(stats[0]) == set(stats[1])
    for key in stats[0]:
        same_statistics(stats[0][key], stats[1][key], key)
    episodes = [pq.read_table(root / "meta/episodes") for root in (ours, own)]
    # What was judged comes on top.
    names = [name for name in episodes[0].schema.names if not name.startswith("backend/")]
    assert names == episodes[1].schema.names
    for mine, theirs in zip(*(table.to_pylist() for table in episodes), strict=True):
        assert set(mine["tasks"]) == set(theirs["tasks"])
        for key in stats[0]:
            of = [
                {name.rpartition("/")[2]: each[name] for name in each if name.startswith(f"stats/{key}/")}
                for each in (mine, theirs)
            ]
            same_statistics(*of, f"{key} of episode {mine['episode_index']}")

    datasets = [LeRobotDataset("u/exported", root=ours), LeRobotDataset("u/own", root=own)]
    for row in (0, 44, 45, 81):
        for key, value in datasets[1][row].items():
            np.testing.assert_array_equal(datasets[0][row][key], value, err_msg=key)
    same_after_merging(datasets, rows_of(own), tmp_path)
    batches = [next(iter(DataLoader(dataset, batch_size=16))) for dataset in datasets]
    texts = [batch.pop("instruction") for batch in batches]
    assert texts == [rows_of(own)["instruction"].to_pylist()[:16]] * 2
    for key, feature in ADDED.items():
        if key not in batches[0]:
            continue
        shape = () if feature["shape"] == (1,) else feature["shape"]
        assert batches[0][key].shape == batches[1][key].shape == (16, *shape), key
