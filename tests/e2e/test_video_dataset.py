"""From stock LeRobot commands with cameras to a dataset that LeRobot opens: each row has its own pictures."""

import io
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot_robot_backend.video.files import has_unstored_video, holds_video
from lerobot_robot_virtual.arm import NAMES
from lerobot_robot_virtual.scene import read_frame_counter
from teleop_testing.backends.processes import ServiceProcess
from teleop_testing.waiting import PATIENCE_S

COMMANDS = Path(sys.executable).parent
Run = Callable[..., str]
CAMERAS = {"front": 30, "wrist": 15}
DEPTH = "observation.images.front_depth"
NS_PER_US = 1_000
PARQUET = "application/vnd.apache.parquet"
# Of statistics of pictures, white being 1, where both looked at pictures that were compressed or not, and not
# at the same ones; of single pixels at the edges of what is drawn.
PICTURES_TOLERANCE, EXTREMES_TOLERANCE = 0.03, 0.15
# Depth of what is white.
WHITE_MM = 1930
# Of statistics of everything else: in its unit; of quantiles, which LeRobot takes from histograms, a share of
# the range.
MOMENTS_TOLERANCE, QUANTILES_TOLERANCE = 1e-3, 0.03
# Of 90 rows these are between two of them, anywhere in a histogram.
OUTERMOST = ("q01", "q99")


@dataclass(frozen=True)
class Seen:
    """What a camera recorded, as the server tells it: the iteration that first saw each picture, and the
    number that is drawn into it."""

    seen_at: list[int]
    drawn: list[int]

    def by(self, iteration: int) -> int:
        """The number that an iteration of the loop saw."""
        return self.drawn[int(np.searchsorted(self.seen_at, iteration, side="right")) - 1]


@pytest.fixture
def run(python, environment):
    """Runs a command to its end; gives what it printed."""

    def run(command: str, *words: str) -> str:
        done = python.run([COMMANDS / command, *words], environment)
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout

    return run


def robot(backend: ServiceProcess) -> list[str]:
    """The flags of a virtual robot with its cameras, of which one gives depth, too, and of the backend."""
    size = "width: 160, height: 120"
    cameras = ", ".join(
        f"{name}: {{type: virtual, {size}, fps: {fps}, free_running: true, use_depth: {name == 'front'}}}"
        for name, fps in CAMERAS.items()
    )
    return [
        "--robot.type=virtual_so101_follower",
        "--robot.id=follower",
        f"--robot.cameras={{{cameras}}}",
        "--teleop.type=virtual_so101_leader",
        "--teleop.id=leader",
        f"--backend_url=ws://{backend.address}",
        "--robot_id=robot_A",
    ]


def exported(run: Run, folder: Path, backend: ServiceProcess, *words: str, session: int = 1) -> Path:
    """The session as a dataset, by the command, as soon as all video is there: until then it says so."""
    root = folder / f"exported{session}"
    deadline = time.monotonic() + PATIENCE_S
    while True:
        streams = list(folder.glob("spool/*/*"))
        if any(map(holds_video, streams)) and not any(map(has_unstored_video, streams)):
            break
        assert time.monotonic() < deadline, streams
        time.sleep(0.1)
    address = f"--backend_url=http://{backend.address}"
    about = (f"--session_id={session}", f"--repo_id=u/exported{session}", f"--root={root}", address)
    run("export-to-dataset", *about, *words)
    return root


def seen(backend: ServiceProcess, camera: str) -> Seen:
    """What the server has of a camera."""
    with httpx.Client(base_url=f"http://{backend.address}", timeout=PATIENCE_S) as http:
        videos = [
            each for each in http.get("/sessions/1/videos").json()["videos"] if each["camera_key"] == camera
        ]
        found = Seen([], [])
        for video in sorted(videos, key=lambda each: each["chunk_index"]):
            found.seen_at.extend(http.get(f"/videos/{video['id']}").json()["frame_indices"])
            with av.open(io.BytesIO(http.get(video["content"]).content)) as file:
                found.drawn.extend(
                    read_frame_counter(frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)
                )
    return found


def recorded_frames(backend: ServiceProcess) -> dict[str, np.ndarray]:
    """The session's frames as telemetry-service serves them.

    When each was taken (ns since the Unix epoch), its number, its state and action.
    """
    answer = httpx.get(
        f"http://{backend.address}/sessions/1/frames", headers={"Accept": PARQUET}, timeout=PATIENCE_S
    )
    table = pq.read_table(io.BytesIO(answer.content))
    return {
        "taken_ns": table["timestamp"].cast(pa.int64()).to_numpy() * NS_PER_US,
        "frame_index": table["frame_index"].to_numpy(),
        "observation.state": np.stack([table[f"observation.{name}"].to_numpy() for name in NAMES], axis=1),
        "action": np.stack([table[f"action.{name}"].to_numpy() for name in NAMES], axis=1),
    }


def open_dataset(root: Path) -> Any:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset(f"u/{root.name}", root=root)


def counter(item: Any, camera: str) -> int:
    """The number drawn into a row's picture, as LeRobot gives it."""
    image = item[f"observation.images.{camera}"].numpy().transpose(1, 2, 0)
    return read_frame_counter((image * 255).round().astype(np.uint8))


def test_a_teleoperation_becomes_a_dataset(backend, run, tmp_path):
    """60 Hz with free-running cameras of 30 and 15 fps: rows at 30 per second, their states those that
    telemetry-service serves, their pictures those that the server says their iteration saw."""
    run("lerobot-teleoperate", *robot(backend), "--teleop_time_s=8")
    dataset = open_dataset(exported(run, tmp_path, backend))
    frames = recorded_frames(backend)
    taken_ns = frames["taken_ns"]
    # A machine with too much to do turns the loop more slowly than that; then its rate is the dataset's.
    assert dataset.fps == 30 or (len(taken_ns) - 1) / np.ptp(taken_ns) * 1e9 < 40
    number_at = {taken_ns: number for number, taken_ns in enumerate(frames["taken_ns"].tolist())}
    cameras = {camera: seen(backend, camera) for camera in CAMERAS}
    assert len(dataset) > 5 * dataset.fps
    for row in range(len(dataset)):
        item = dataset[row]
        number = number_at[item["capture.time_ns"].item()]
        np.testing.assert_array_equal(item["observation.state"].numpy(), frames["observation.state"][number])
        np.testing.assert_array_equal(item["action"].numpy(), frames["action"][number])
        iteration = int(frames["frame_index"][number])
        for camera, found in cameras.items():
            assert counter(item, camera) == found.by(iteration), f"row {row}, iteration {iteration}, {camera}"


def recorded_twice(backend, run, folder: Path) -> tuple[Any, Any]:
    """What lerobot-record wrote, and what was exported of the same loop.

    A machine that has too much to do turns the loop more slowly than the dataset declares; then ours has the
    rate that was measured, rightly. It is asked for a slower one, which it keeps.
    """
    for session, (fps, seconds) in enumerate([(3, 15), (2, 20), (1, 30)], 1):
        settings = {
            "repo_id": f"u/recorded{session}",
            "root": folder / f"recorded{session}",
            "single_task": "pick the cube",
            "fps": fps,
            "num_episodes": 2,
            "episode_time_s": seconds,
            "reset_time_s": 0.5,
            "push_to_hub": "false",
            "rgb_encoder.vcodec": "h264",
        }
        flags = [f"--dataset.{name}={value}" for name, value in settings.items()]
        run("lerobot-record", *robot(backend), *flags, "--play_sounds=false")
        ours = exported(run, folder, backend, "--no_capture_time", session=session)
        theirs, ours = open_dataset(folder / f"recorded{session}"), open_dataset(ours)
        if ours.fps == theirs.fps:
            break
    return theirs, ours


def test_recorded_and_exported_datasets_agree(backend, run, tmp_path):
    """One run of lerobot-record: what it wrote itself and what comes from the database are the same dataset.

    LeRobot describes pictures before they are compressed, and more of them: their statistics are close. As a
    whole dataset's quantiles it takes the mean of its episodes', so those are compared episode by episode.
    """
    theirs, ours = recorded_twice(backend, run, tmp_path)
    assert without_encoding(ours) == without_encoding(theirs)
    assert ours.meta.tasks.equals(theirs.meta.tasks)
    assert [each["length"] for each in ours.meta.episodes] == [
        each["length"] for each in theirs.meta.episodes
    ]
    for row in range(len(theirs)):
        one, other = ours[row], theirs[row]
        for key in ("index", "episode_index", "frame_index", "timestamp", "task_index"):
            assert one[key] == other[key]
        for key in ("observation.state", "action"):
            np.testing.assert_array_equal(one[key].numpy(), other[key].numpy())
        for camera in CAMERAS:
            assert counter(one, camera) == counter(other, camera), f"row {row}, {camera}"
        np.testing.assert_array_equal(one[DEPTH].numpy(), other[DEPTH].numpy())
    check_merging(run, tmp_path, theirs, ours)
    check_statistics(ours.meta.stats, theirs.meta.stats, quantiles=False)
    for one, other in zip(episode_statistics(ours.root), episode_statistics(theirs.root), strict=True):
        check_statistics(one, other, quantiles=True)


def check_merging(run: Run, folder: Path, theirs: Any, ours: Any) -> None:
    """LeRobot's own command makes one dataset of both, the same pictures twice."""
    run(
        "lerobot-edit-dataset",
        "--operation.type=merge",
        f"--operation.repo_ids=['{theirs.repo_id}', '{ours.repo_id}']",
        f"--operation.roots=['{theirs.root}', '{ours.root}']",
        "--new_repo_id=u/merged",
        f"--new_root={folder / 'merged'}",
    )
    merged = open_dataset(folder / "merged")
    assert len(merged) == 2 * len(theirs)
    for row in range(len(theirs)):
        # Each row is decoded once: that is what takes the time.
        original, copies = theirs[row], (merged[row], merged[len(theirs) + row])
        for copy in copies:
            for camera in CAMERAS:
                assert counter(copy, camera) == counter(original, camera)
            np.testing.assert_array_equal(copy[DEPTH].numpy(), original[DEPTH].numpy())


def without_encoding(dataset: Any) -> Any:
    """Features as both must have them: all of info.json but how the pictures are encoded."""
    from lerobot.configs import VIDEO_ENCODER_INFO_KEYS

    features = json.loads((dataset.root / "meta/info.json").read_text())["features"]
    for feature in features.values():
        if "info" in feature:
            feature["info"] = {k: v for k, v in feature["info"].items() if k not in VIDEO_ENCODER_INFO_KEYS}
    return features


def episode_statistics(root: Path) -> list[dict[str, dict[str, np.ndarray]]]:
    """Of each episode: statistics by feature and name."""
    found = []
    for row in pq.read_table(root / "meta/episodes").to_pylist():
        each: dict[str, dict[str, np.ndarray]] = {}
        for column, value in row.items():
            if column.startswith("stats/"):
                _, key, name = column.split("/")
                each.setdefault(key, {})[name] = np.array(value)
        found.append(each)
    return found


def check_statistics(ours: Any, theirs: Any, *, quantiles: bool) -> None:
    """Of the same features, within the tolerances."""
    assert ours.keys() == theirs.keys()
    for key, stats in theirs.items():
        pictures = key.startswith("observation.images.")
        span = 1.0 if pictures else float(np.max(stats["max"]) - np.min(stats["min"]))
        for name, value in stats.items():
            tolerance = MOMENTS_TOLERANCE
            if name.startswith("q"):
                if not quantiles or (name in OUTERMOST and not pictures):
                    continue
                tolerance = max(QUANTILES_TOLERANCE * span, MOMENTS_TOLERANCE)
            if pictures:
                tolerance = EXTREMES_TOLERANCE if name in ("min", "max") else PICTURES_TOLERANCE
                tolerance *= WHITE_MM if key == DEPTH else 1
            tolerance = 0 if name == "count" else tolerance
            np.testing.assert_allclose(ours[key][name], value, atol=tolerance, err_msg=f"{key} {name}")
