"""A dataset that LeRobot has written becomes a session, and its export is the same dataset again."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import av
import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from teleop_client.exporting.cli import main as export_to_dataset
from teleop_client.importing.cli import main as import_dataset
from teleop_testing.backends.processes import ServiceProcess, whole_backend
from teleop_testing.waiting import PATIENCE_S

FPS = 30
JOINTS = [f"{joint}.pos" for joint in ("shoulder_pan", "shoulder_lift", "elbow_flex", "gripper")]
HEIGHT, WIDTH = 48, 64
ADDED = {
    "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    "intervention": {"dtype": "bool", "shape": (1,), "names": None},
    "count": {"dtype": "int64", "shape": (1,), "names": None},
    "pose": {"dtype": "float64", "shape": (3,), "names": ["x", "y", "z"]},
    "grid": {"dtype": "int16", "shape": (2, 3), "names": None},
    "said": {"dtype": "string", "shape": (1,), "names": None},
}
# What encoding a picture once more changes, of 255 codes, on average.
REENCODED = 2.5
EPISODES = [(40, ["pick"]), (25, ["place"]), (31, ["pick", "hand over"])]


@pytest.fixture(scope="module")
def backend() -> Iterator[ServiceProcess]:
    """The whole backend as one process, for all tests here."""
    with tempfile.TemporaryDirectory(prefix="backend-") as folder, whole_backend(folder) as process:
        yield process


@pytest.fixture(scope="module")
def http(backend: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=backend.url, timeout=PATIENCE_S) as client:
        yield client


def record(root: Path, *, cameras=(), codec=None, added=ADDED, episodes=EPISODES, seed=0):
    """A dataset as LeRobot's own API writes it; with values that a decimal would not survive."""
    from lerobot.configs.video import RGBEncoderConfig
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    joints = {"dtype": "float32", "shape": (len(JOINTS),), "names": JOINTS}
    pictures = {"dtype": "video", "shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]}
    features = {
        "action": joints,
        "observation.state": joints,
        **{f"observation.images.{name}": pictures for name in cameras},
        **added,
    }
    dataset = LeRobotDataset.create(
        f"lab/{root.name}",
        FPS,
        features,
        root=root,
        robot_type="so101_follower",
        use_videos=bool(cameras),
        rgb_encoder=RGBEncoderConfig(vcodec=codec) if codec else None,
    )
    fill(dataset, cameras, added, episodes, seed)
    return root


def fill(dataset, cameras, added, episodes, seed):
    random = np.random.default_rng(seed)
    for length, tasks in episodes:
        for number in range(length):
            frame = {
                "action": random.normal(size=len(JOINTS)).astype(np.float32),
                "observation.state": random.normal(size=len(JOINTS)).astype(np.float32),
                "task": tasks[number * len(tasks) // length],
            }
            for name in cameras:
                picture = np.full((HEIGHT, WIDTH, 3), number * 5, np.uint8)
                picture[:, : number % WIDTH] = random.integers(0, 255, 3)
                frame[f"observation.images.{name}"] = picture
            frame |= {name: value(random, feature, number) for name, feature in added.items()}
            dataset.add_frame(frame)
        dataset.save_episode()
    dataset.finalize()


def value(random, feature, number):
    if feature["dtype"] == "string":
        return "집어 " * (number % 3)
    kind = np.dtype(feature["dtype"])
    if kind.kind == "f":
        return random.normal(size=feature["shape"]).astype(kind)
    if kind.kind == "b":
        return random.integers(0, 2, feature["shape"]).astype(kind)
    return random.integers(np.iinfo(kind).min, np.iinfo(kind).max, feature["shape"], dtype=kind)


@pytest.fixture
def run(backend, monkeypatch, capsys):
    """Runs one of our commands as a user types it; gives what it printed."""

    def run(command, *words, status=None):
        monkeypatch.setattr("sys.argv", [command.__module__, *words, "--backend_url", backend.url])
        if status is None:
            command()
        else:
            with pytest.raises(SystemExit) as ended:
                command()
            assert ended.value.code == status
        return "".join(capsys.readouterr())

    return run


def session_of(http, name, robot="imported"):
    told = http.get(f"/datasets/{robot}/{name}/import").json()
    assert told["status"] == "done", told
    return http.get(f"/sessions/{told['session_id']}").json()


def round_trip(root, run, http, folder, *options):
    """(its session, where it was exported to, what the export printed) of a dataset that is imported."""
    told = run(import_dataset, str(root), "--name", root.name)
    session = session_of(http, root.name)
    assert f"session {session['id']}:" in told
    back = folder / "back"
    words = ("--session_id", str(session["id"]), "--repo_id", f"lab/{root.name}", "--root", str(back))
    printed = run(export_to_dataset, *words, "--no_capture_time", "--no_labels", *options)
    return session, back, printed


def rows(root: Path) -> pa.Table:
    tables = []
    for path in sorted(root.glob("data/*/*.parquet")):
        table = pq.read_table(path)
        columns = [each.combine_chunks() for each in table.columns]
        columns = [each.storage if isinstance(each, pa.ExtensionArray) else each for each in columns]
        tables.append(pa.table(columns, table.column_names))
    return pa.concat_tables(tables)


def bits(table: pa.Table, name: str):
    """A column's values, bit for bit."""
    values = table[name].combine_chunks()
    while pa.types.is_nested(values.type):
        values = values.flatten()
    return values.to_pylist() if pa.types.is_string(values.type) else values.to_numpy(False).tobytes()


def tasks(root: Path) -> list[str]:
    table = pq.read_table(root / "meta/tasks.parquet")
    return table.sort_by("task_index")["task"].to_pylist()


def check_same(root: Path, back: Path) -> None:
    """Rows bit for bit, tasks, counts, and statistics."""
    ours, theirs = rows(back), rows(root)
    assert set(ours.column_names) == set(theirs.column_names)
    for name in theirs.column_names:
        assert bits(ours, name) == bits(theirs, name), name
    assert tasks(back) == tasks(root)
    infos = [json.loads((each / "meta/info.json").read_text()) for each in (back, root)]
    for key in ("fps", "robot_type", "total_episodes", "total_frames", "total_tasks"):
        assert infos[0][key] == infos[1][key], key
    for key, feature in infos[1]["features"].items():
        mine = infos[0]["features"][key]
        assert (mine["dtype"], mine["shape"], mine["names"]) == tuple(
            feature[each] for each in ("dtype", "shape", "names")
        ), key
    check_statistics(root, back)


def check_statistics(root: Path, back: Path) -> None:
    stats = [json.loads((each / "meta/stats.json").read_text()) for each in (back, root)]
    assert set(stats[0]) == set(stats[1])
    table = rows(root)
    for key in set(stats[1]) & set(table.column_names):
        for name in ("min", "max", "count"):
            np.testing.assert_allclose(stats[0][key][name], stats[1][key][name], rtol=1e-6, err_msg=key)
        for name in ("mean", "std"):
            spread = np.subtract(stats[1][key]["max"], stats[1][key]["min"], dtype=float)
            apart = np.abs(np.subtract(stats[0][key][name], stats[1][key][name], dtype=float))
            assert (apart <= 1e-6 * spread).all(), (key, name, stats[0][key][name], stats[1][key][name])


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(video=0) if packet.size]


def test_joints_and_further_features(run, http, tmp_path):
    """Without cameras: every value of every type, and the session says where it comes from."""
    root = record(tmp_path / "joints")
    session, back, _ = round_trip(root, run, http, tmp_path)
    check_same(root, back)
    assert session["imported_from"] == {"dataset": "joints", "version": 1, "clock": "unknown"}
    assert session["status"] == "complete"
    assert [each["name"] for each in session["columns"]] == list(ADDED)
    ledger = http.get(f"/sessions/{session['id']}/ledger").json()
    assert (ledger["complete"], ledger["committed"], ledger["unaccounted"]) == (True, 96, 0)
    frames = http.get(f"/sessions/{session['id']}/frames").json()["frames"]
    assert len(frames) == 96
    assert frames[0]["columns"]["next.reward"] == pytest.approx(rows(root)["next.reward"][0].as_py())
    assert [each["tasks"] for each in session["episode_list"]] == [
        [{"first_frame": 0, "task": "pick"}],
        [{"first_frame": 40, "task": "place"}],
        [{"first_frame": 65, "task": "pick"}, {"first_frame": 81, "task": "hand over"}],
    ]


def pictures(path: Path) -> np.ndarray:
    """(pictures, height, width, 3), codes of RGB."""
    with av.open(str(path)) as file:
        return np.stack([each.to_ndarray(format="rgb24").astype(int) for each in file.decode(video=0)])


@pytest.mark.parametrize(("codec", "cameras"), [("h264", ["front"]), ("libsvtav1", ["front", "wrist"])])
def test_cameras(run, http, tmp_path, codec, cameras):
    """Pictures come back packet for packet, as the encoder of LeRobot has left them."""
    root = record(tmp_path / f"seen-{codec}", cameras=cameras, codec=codec)
    session, back, printed = round_trip(root, run, http, tmp_path)
    check_same(root, back)
    assert "re-encoded" not in printed
    assert set(session["cameras"]) == set(cameras)
    for name in cameras:
        ours, theirs = (packets(each / video_of(name)) for each in (back, root))
        assert len(ours) == 96
        assert ours == theirs
    check_stored(http, session, root)


def test_pictures_that_are_not_stored_in_their_order(run, http, tmp_path):
    """LeRobot's HEVC: the session has its file; the export encodes each episode again, and says so."""
    root = record(tmp_path / "seen-hevc", cameras=["front"], codec="hevc")
    session, back, printed = round_trip(root, run, http, tmp_path)
    check_same(root, back)
    for number in range(len(EPISODES)):
        assert (
            f"camera front of episode {number} was re-encoded: its pictures are not stored in the order"
            in " ".join(printed.split())
        )
    ours, theirs = (pictures(each / video_of("front")) for each in (back, root))
    assert len(ours) == len(theirs) == 96
    apart = np.abs(ours - theirs).mean(axis=(1, 2, 3))
    assert apart.max() < REENCODED, apart
    # Another picture than its own is further away.
    assert np.abs(ours[1:] - theirs[:-1]).mean(axis=(1, 2, 3)).min() > REENCODED
    check_stored(http, session, root)


def video_of(camera: str) -> str:
    return f"videos/observation.images.{camera}/chunk-000/file-000.mp4"


def check_stored(http, session, root: Path) -> None:
    """The chunks of the session are the files of the dataset, to the byte."""
    chunks = http.get(f"/sessions/{session['id']}/videos").json()["videos"]
    assert {each["camera_key"] for each in chunks} == set(session["cameras"])
    for chunk in chunks:
        assert chunk["quarantine"] is None
        original = root / video_of(chunk["camera_key"])
        assert http.get(chunk["content"]).content == original.read_bytes()
