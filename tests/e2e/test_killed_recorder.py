"""kill -9 of a recorder: what LeRobot calls lost comes back, from its bytes and from the database."""

import json
import tarfile
import time
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from teleop_testing.backends.processes import ServiceProcess
from teleop_testing.datasets.recording import Command, record_command, sync_agent
from teleop_testing.waiting import PATIENCE_S

SAVED = 6
EPISODE_S = 2.0


@pytest.fixture
def http(backend):
    with httpx.Client(base_url=f"http://{backend.address}", timeout=PATIENCE_S) as client:
        yield client


def test_what_was_saved_is_repaired_and_the_rest_is_in_the_database(backend, http, tmp_path):
    """Episodes 0 to 5 open in LeRobot, equal to the telemetry; episode 6 is in the database to its end."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    outputs = tmp_path / "outputs"
    outputs.mkdir()
    with sync_agent(f"http://{backend.address}", outputs, tmp_path):
        record_until_killed(backend, outputs / "picking", tmp_path)
        version = wait_for_saved(http)
    repaired = http.post("/datasets/robot_A/picking/repair")
    assert repaired.status_code == 201, repaired.text
    assert repaired.json()["version"]["repaired_from"] == version["version"]
    folder = restore(http, repaired.json()["version"]["version"], tmp_path / "repaired")

    dataset = LeRobotDataset("someone/picking", root=folder)
    assert dataset.num_episodes == SAVED
    episodes, frames = recorded(http)
    rows = pq.read_table(folder / "data")
    for index in range(SAVED):
        saved = rows.filter(pc.equal(rows["episode_index"], index))
        episode = episodes[index]
        logged = frames.slice(episode["start_frame"], episode["end_frame"] - episode["start_frame"])
        for column, kind in (("observation.state", "observation"), ("action", "action")):
            written = np.stack(saved[column].to_numpy())
            np.testing.assert_array_equal(written, vectors(logged, kind))
        for row in (saved["index"][0].as_py(), saved["index"][-1].as_py()):
            assert dataset[row]["observation.images.wrist"].shape == (3, 120, 160)
    # What LeRobot had in memory only: the episode that was being recorded.
    last = episodes[SAVED]
    assert last["end_frame"] in (None, len(frames))
    assert len(frames) - last["start_frame"] > 15


def vectors(frames: pa.Table, kind: str) -> np.ndarray:
    """(frames, joints) of the columns that belong to one kind, in the table's order."""
    names = [name for name in frames.column_names if name.startswith(f"{kind}.")]
    return np.stack([frames[name].to_numpy() for name in names], axis=1).astype(np.float32)


def record_until_killed(backend: ServiceProcess, dataset: Path, folder: Path) -> None:
    """Record; the recorder is killed a second after it has saved the last episode that counts."""
    command = record_command(dataset, episodes=SAVED + 4, episode_s=EPISODE_S, width=160, height=120)
    flags = [f"--backend_url=ws://{backend.address}", "--robot_id=robot_A"]
    with Command([*command, *flags], folder, "record") as recorder:
        deadline = time.monotonic() + PATIENCE_S
        while saved_episodes(dataset) < SAVED:
            assert recorder.exit_code is None, recorder.log.read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(1.0)
        recorder.kill()


def saved_episodes(dataset: Path) -> int:
    try:
        return json.loads((dataset / "meta" / "info.json").read_text())["total_episodes"]
    except (OSError, ValueError, KeyError):
        return 0


def wait_for_saved(http: httpx.Client) -> dict:
    """The version of the dataset with all saved episodes, once the agent has brought it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        answer = http.get("/datasets/robot_A/picking/versions")
        versions = answer.json()["versions"] if answer.status_code == 200 else []
        for version in versions:
            if version["total_episodes"] == SAVED:
                assert not version["finalised"]
                return version
        assert time.monotonic() < deadline, versions
        time.sleep(0.2)


def restore(http: httpx.Client, version: int, into: Path) -> Path:
    answer = http.get("/datasets/robot_A/picking/restore", params={"version": version})
    assert answer.status_code == 200, answer.text
    with tarfile.open(fileobj=BytesIO(answer.content)) as tar:
        tar.extractall(into, filter="data")
    (info,) = into.rglob("meta/info.json")
    return info.parent.parent


def recorded(http: httpx.Client) -> tuple[list[dict], pa.Table]:
    """Episodes and frames of the session, once it has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        (session,) = http.get("/sessions").json()["sessions"]
        if session["status"] == "interrupted":
            break
        assert time.monotonic() < deadline, session
        time.sleep(0.2)
    detail = http.get(f"/sessions/{session['id']}").json()
    parquet = {"Accept": "application/vnd.apache.parquet"}
    frames = http.get(f"/sessions/{session['id']}/frames", headers=parquet)
    assert frames.status_code == 200, frames.text
    return detail["episode_list"], pq.read_table(BytesIO(frames.content))
