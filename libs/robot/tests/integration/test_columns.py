"""Columns beyond state and action: as a loop of one's own gives them, and as LeRobot's dataset does."""

import functools
import gc
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot_robot_backend.client import TelemetryClient
from lerobot_robot_backend.lerobot import tap as tap_module
from lerobot_robot_backend.lerobot.options import Request
from lerobot_robot_backend.lerobot.tap import Tap
from lerobot_robot_backend.shipping.reader import SpoolReader
from teleop_schema.columns import Column, positions_in, unpack_texts
from teleop_schema.limits import Limits
from teleop_testing.waiting import PATIENCE_S

NAMES = ("shoulder.pos", "elbow.pos")
JOINTS = dict.fromkeys(NAMES, 1.0)
FEATURES = {
    "action": {"dtype": "float32", "shape": (1,), "names": ["joint.pos"]},
    "observation.state": {"dtype": "float32", "shape": (1,), "names": ["joint.pos"]},
    "intervention": {"dtype": "bool", "shape": (1,), "names": None},
    "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    "exact": {"dtype": "float64", "shape": (1,), "names": None},
    "tiny": {"dtype": "int8", "shape": (1,), "names": None},
    "small": {"dtype": "int16", "shape": (1,), "names": None},
    "medium": {"dtype": "int32", "shape": (2,), "names": ["a", "b"]},
    "large": {"dtype": "int64", "shape": (1,), "names": None},
    "byte": {"dtype": "uint8", "shape": (3,), "names": None},
    "pose": {"dtype": "float64", "shape": (7,), "names": ["x", "y", "z", "qx", "qy", "qz", "qw"]},
    "touch": {"dtype": "float32", "shape": (2, 3), "names": None},
    "instruction": {"dtype": "string", "shape": (1,), "names": None},
}

# A loop of one's own, that tells what it imports while it runs.
LOOP = """
import sys, threading
from lerobot_robot_backend import TelemetryClient

looping, imported = False, []
def note(event, words):
    if looping and event == "import" and threading.current_thread() is threading.main_thread():
        imported.append(words[0])
sys.addaudithook(note)
joints = {"a.pos": 1.0, "b.pos": 2.0}
names = {"state_names": [*joints], "action_names": [*joints]}
client = TelemetryClient("ws://127.0.0.1:9", "robot_A", spool_dir=sys.argv[1], fps=30, **names)
looping = True
client.start_episode("pick")
client.log(joints, joints)
client.log(joints, joints, columns={"reward": 0.1, "instruction": "left", "done": True, "pose": [1.0, 2.0]})
client.log(joints | {"a.pos": 1e39}, joints, extra={"note": "seen"})
client.end_episode()
looping = False
client.close()
print(imported)
"""


def read(client) -> tuple[list[Column], dict[int, dict[int, bytes]]]:
    """The session's columns, and frame -> position -> bytes of the value."""
    reader = SpoolReader(client.stream_dir)
    batches = list(iter(lambda: reader.read(Limits()), None))
    columns = [event.column for batch in batches for event in batch.events if event.column]
    values = {}
    for batch in batches:
        for offset, packed in batch.columns.items():
            at = 1 + packed[0]
            values[batch.first + offset] = {}
            for position in positions_in(packed):
                size = columns[position].size_bytes
                if not columns[position].is_text:
                    values[batch.first + offset][position] = packed[at : at + size]
                at += size
            texts = [position for position in positions_in(packed) if columns[position].is_text]
            values[batch.first + offset] |= zip(texts, unpack_texts(packed[at:]), strict=True)
    return columns, values


def test_values_keep_every_bit(make_client):
    """A column's first value says what it is; each value is kept exactly, also of one that comes late."""
    with make_client() as client:
        client.log(JOINTS, JOINTS)
        client.log(JOINTS, JOINTS, columns={"reward": 0.1, "count": 2**63 - 1})
        client.log(JOINTS, JOINTS, columns={"ok": np.array([True]), "count": -1})
        client.log(JOINTS, JOINTS)
    columns, values = read(client)
    assert columns == [
        Column(0, "reward", "float64", (1,)),
        Column(1, "count", "int64", (1,)),
        Column(2, "ok", "bool", (1,)),
    ]
    assert values == {
        1: {0: np.float64(0.1).tobytes(), 1: np.int64(2**63 - 1).tobytes()},
        2: {1: np.int64(-1).tobytes(), 2: b"\x01"},
    }


def test_a_loop_waits_for_no_import(tmp_path):
    """All that logging needs is imported when the client is made: an import may take seconds."""
    command = [sys.executable, "-c", LOOP, str(tmp_path)]
    printed = subprocess.check_output(command, text=True, timeout=PATIENCE_S)
    assert printed.splitlines()[-1] == "[]"


def test_what_does_not_fit_its_column_goes_to_extra(make_client):
    """A value of another shape or kind, or too large for a record, does not cost the frame."""
    with make_client() as client:
        client.declare_column("n", "int8", (1,))
        client.declare_column("n", "int8", (1,))
        client.log(JOINTS, JOINTS, columns={"n": 128, "v": [1.0, 2.0]})
        client.log(JOINTS, JOINTS, columns={"n": 1.5, "v": [1.0], "big": np.zeros(9000), "word": 1j})
        client.log(JOINTS, JOINTS, columns={"v": "x", "said": "y" * 8000})
        client.log(JOINTS, JOINTS, columns={"said": "half \ud800"})
        client.log(JOINTS, JOINTS, columns={"said": "줘"})
        with pytest.raises(ValueError, match="m is not recorded"):
            client.declare_column("m", "complex64", (1,))
    columns, values = read(client)
    assert [(column.name, column.dtype) for column in columns] == [
        ("n", "int8"),
        ("v", "float64"),
        ("said", "string"),
    ]
    assert values == {0: {1: np.array([1.0, 2.0]).tobytes()}, 4: {2: "줘".encode()}}
    batch = SpoolReader(client.stream_dir).read(Limits())
    assert batch.extra[0] == {"columns": {"n": 128}}
    assert set(batch.extra[1]["columns"]) == {"n", "v", "big", "word"}


@pytest.fixture
def tap(tmp_path, monkeypatch) -> Tap:
    """A tap for a script that records a dataset at 30 Hz, its robot connected."""
    monkeypatch.setenv("LEROBOT_BACKEND_SPOOL", str(tmp_path / "spool"))
    client = functools.partial(TelemetryClient, ship=False, min_free_bytes=0, video="off")
    monkeypatch.setattr(tap_module, "TelemetryClient", client)
    monkeypatch.setattr(tap_module, "FINISH_S", 0.0)
    for name in ("add_frame", "save_episode", "clear_episode_buffer", "finalize"):
        monkeypatch.setattr(LeRobotDataset, name, getattr(LeRobotDataset, name))  # put back at the end
    tap = Tap(Request({"backend_url": "ws://localhost:8000", "robot_id": "robot_A"}, by_flag=True))
    robot = SimpleNamespace(
        name="arm",
        id="left",
        observation_features={"joint.pos": float},
        action_features={"joint.pos": float},
        cameras={},
        connect=lambda: None,
        disconnect=lambda: None,
        get_observation=lambda: {"joint.pos": 1.0},
        send_action=lambda action: action,
    )
    tap._robot_found(robot, SimpleNamespace(fps=30, dataset=SimpleNamespace(single_task="pick"), robot=None))
    robot.connect()
    return tap


def frame_of(number: int) -> dict[str, np.ndarray]:
    """Values of every feature, different for each frame."""
    random = np.random.default_rng(number)
    frame = {}
    for name, feature in FEATURES.items():
        if feature["dtype"] == "string":
            frame[name] = f"집어 {number}" * number
            continue
        kind = np.dtype(feature["dtype"])
        if kind.kind == "f":
            frame[name] = random.normal(size=feature["shape"]).astype(kind)
        else:
            bits = random.integers(0, 256, kind.itemsize * int(np.prod(feature["shape"])), np.uint8)
            values = (bits & 1).astype(bool) if kind.kind == "b" else bits.view(kind)
            frame[name] = values.reshape(feature["shape"])
    return frame


def test_columns_of_a_dataset_are_recorded(tap, tmp_path):
    """Each frame that LeRobot adds to its dataset has, bit by bit, what the dataset has of it; frames between
    episodes have none, and the first frame's columns are there though nobody knew of them before."""
    dataset = LeRobotDataset.create(
        "a/b", 30, FEATURES, root=tmp_path / "dataset", use_videos=False, robot_type="arm"
    )
    robot = tap._robot
    for number in range(7):
        robot.get_observation()
        robot.send_action({"joint.pos": float(number)})
        if number not in (3, 6):  # the scene is reset
            dataset.add_frame(frame_of(number) | {"task": "pick"})
        if number in (2, 5):
            dataset.save_episode()
    dataset.finalize()
    robot.disconnect()
    columns, values = read(tap._client)
    beyond = {name: feature for name, feature in FEATURES.items() if "." not in name or "next" in name}
    beyond.pop("action")
    assert [(c.name, c.dtype, c.shape, c.names) for c in columns] == [
        (name, feature["dtype"], feature["shape"], feature["names"]) for name, feature in beyond.items()
    ]
    assert sorted(values) == [0, 1, 2, 4, 5]
    table = pq.read_table(tmp_path / "dataset/data/chunk-000/file-000.parquet")
    for row, frame in enumerate(sorted(values)):
        for column in columns:
            if column.is_text:
                assert values[frame][column.position].decode() == table[column.name][row].as_py()
                continue
            kept = np.frombuffer(values[frame][column.position], column.dtype).reshape(column.shape)
            written = np.array(table[column.name][row].as_py(), column.dtype).reshape(column.shape)
            np.testing.assert_array_equal(kept, written)
    reader = SpoolReader(tap._client.stream_dir)
    events = [event for batch in iter(lambda: reader.read(Limits()), None) for event in batch.events]
    told = [(each.kind, each.frame_index) for each in (*events, *reader.end.events) if each.column is None]
    assert told == [("episode_start", 0), ("episode_end", 3), ("episode_start", 4), ("episode_end", 6)]


JOINTS_ALONE = {key: FEATURES[key] for key in ("action", "observation.state")}


def told_episodes(client) -> list[tuple]:
    """What the session was told of its episodes: kind, frame, and the end of a pause or the outcome."""
    reader = SpoolReader(client.stream_dir)
    events = [event for batch in iter(lambda: reader.read(Limits()), None) for event in batch.events]
    return [
        (each.kind.removeprefix("episode_"), each.frame_index, each.end_frame or each.outcome)
        for each in (*events, *reader.end.events)
        if each.episode_index is not None
    ]


def joints(position: float, action: float) -> dict:
    return {"observation.state": np.float32([position]), "action": np.float32([action]), "task": "pick"}


def test_frames_that_the_dataset_does_not_take_are_a_pause(tap, tmp_path):
    """As a person takes over from a policy: the robot acts, nothing is added; all of it is recorded."""
    dataset = LeRobotDataset.create("a/b", 30, JOINTS_ALONE, root=tmp_path / "dataset", use_videos=False)
    robot = tap._robot
    for number in range(12):
        robot.get_observation()
        robot.send_action({"joint.pos": float(number)})
        if not 3 <= number < 9:
            dataset.add_frame(joints(1.0, number))
    dataset.save_episode()
    robot.disconnect()
    assert told_episodes(tap._client) == [
        ("start", 0, None),
        # It is told as it begins, too: nobody may be left to tell its end.
        ("pause", 3, None),
        ("pause", 3, 9),
        ("end", 12, None),
    ]
    assert tap._client.logged == 12
    assert dataset.meta.total_frames == 6


def test_frames_that_are_added_before_they_are_acted_on(tap, tmp_path):
    """Each keeps what was added with it, in its own episode."""
    features = {**JOINTS_ALONE, "next.reward": FEATURES["next.reward"]}
    dataset = LeRobotDataset.create("a/b", 30, features, root=tmp_path / "dataset", use_videos=False)
    robot = tap._robot
    for number in range(6):
        robot.get_observation()
        dataset.add_frame(joints(1.0, number) | {"next.reward": np.float32([number])})
        robot.send_action({"joint.pos": float(number)})
        if number in (2, 5):
            dataset.save_episode()
    robot.disconnect()
    _, values = read(tap._client)
    assert {frame: np.frombuffer(each[0], np.float32)[0] for frame, each in values.items()} == {
        number: number for number in range(6)
    }
    assert [each[:2] for each in told_episodes(tap._client)] == [
        *(("start", 0), ("end", 3)),
        *(("start", 3), ("end", 6)),
    ]


def test_one_dataset_is_followed_and_the_others_are_named(tap, tmp_path, capsys):
    """What becomes of another dataset changes no episode; once the first is finalized another may follow."""
    first, good, later = (
        LeRobotDataset.create(f"u/{name}", 30, JOINTS_ALONE, root=tmp_path / name, use_videos=False)
        for name in ("first", "good", "later")
    )
    robot = tap._robot
    for number in range(4):
        robot.get_observation()
        robot.send_action({"joint.pos": float(number)})
        first.add_frame(joints(1.0, number))
        good.add_frame(joints(1.0, number))
    good.clear_episode_buffer()
    good.finalize()
    first.save_episode()
    first.finalize()
    robot.get_observation()
    robot.send_action({"joint.pos": 4.0})
    later.add_frame(joints(1.0, 4))
    later.save_episode()
    robot.disconnect()
    assert told_episodes(tap._client) == [
        *(("start", 0, None), ("end", 4, None)),
        *(("start", 4, None), ("end", 5, None)),
    ]
    tap.finish()
    told = [line for line in capsys.readouterr().err.splitlines() if "not followed" in line]
    assert told == [
        f"backend: not followed: dataset u/good ({tmp_path}/good): the session follows the episodes of "
        f"u/first ({tmp_path}/first), which took a frame first"
    ]


def test_episode_of_a_dataset_that_nobody_has_any_more_is_discarded(tap, tmp_path):
    """It was never saved; what another dataset takes then is an episode of its own, from its first frame."""
    robot = tap._robot
    for name in ("lost", "kept"):
        dataset = None
        gc.collect()
        dataset = LeRobotDataset.create("a/b", 30, JOINTS_ALONE, root=tmp_path / name, use_videos=False)
        robot.get_observation()
        robot.send_action({"joint.pos": 0.0})
        dataset.add_frame(joints(1.0, 0.0))
    dataset.save_episode()
    robot.disconnect()
    assert [each[0::2] for each in told_episodes(tap._client)] == [
        *(("start", None), ("end", "discarded")),
        *(("start", None), ("end", None)),
    ]


def test_frame_that_was_kept_back_comes_before_what_is_lost_after_it(tap):
    """A step without an observation is a gap behind the frame that still waits for its columns."""
    robot = tap._robot
    robot.get_observation()
    robot.send_action({"joint.pos": 1.0})
    tap._observed = None
    robot.send_action({"joint.pos": 2.0})
    robot.disconnect()
    reader = SpoolReader(tap._client.stream_dir)
    batches = list(iter(lambda: reader.read(Limits()), None))
    assert [(batch.first, batch.count, batch.gap) for batch in batches] == [
        (0, 1, None),
        (1, 1, "the robot gave no observation"),
    ]
