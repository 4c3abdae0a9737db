"""kill -9 of a recorder: what LeRobot calls lost comes back, from its bytes and from the database, and the
recording goes on with it."""

import shutil
import sys
import tarfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from lerobot_robot_virtual.scene import read_frame_counter
from teleop_testing.backends.processes import ServiceProcess
from teleop_testing.datasets.recording import record_command, sync_agent
from teleop_testing.machine.prepared import Forked
from teleop_testing.waiting import PATIENCE_S

Start = Callable[..., Forked]
COMMANDS = Path(sys.executable).parent
SAVED = 3
EPISODE_S = 4.0
# A rate that a loaded machine keeps, too: at a lower one, the export's would be the one that was measured,
# and LeRobot merges no datasets of two rates.
SMALL = {"width": 160, "height": 120, "fps": 2}
# Runs lerobot-record as its console script does; after so many episodes the operator does not come back from
# resetting the scene.
RESETTING = """
import sys
import lerobot.scripts.lerobot_record as record

loop, resets, quick = record.record_loop, [], int(sys.argv.pop(1))

def reset_or_record(**told):
    if told.get("dataset") is None:
        resets.append(1)
        if len(resets) > quick:
            told["control_time_s"] = 3600
    loop(**told)

record.record_loop = reset_or_record
sys.argv[0] = "lerobot-record"
record.main()
"""


@pytest.fixture
def http(backend):
    with httpx.Client(base_url=f"http://{backend.address}", timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
def lerobot(python, environment):
    """Runs a command of LeRobot to its end."""

    def lerobot(command: str, *words: str) -> None:
        done = python.run([COMMANDS / command, *words], environment)
        assert done.returncode == 0, done.stdout[-3000:]

    return lerobot


def test_what_was_saved_is_repaired_and_the_rest_is_in_the_database(
    backend, http, start, output, lerobot, tmp_path
):
    """Saved episodes open in LeRobot, equal to the telemetry; the next one is in the database to its end.
    Merged with the session's export, all are there twice. Recording resumes with the repaired dataset:
    the server has it as the newest version, and of the second session what that added, no more."""
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    with sync_agent(f"http://{backend.address}", outputs, tmp_path):
        record_until_killed(start, backend, http, outputs / "picking", output)
        version = wait_for_version(http, SAVED)
        assert not version["finalised"]
        repaired = http.post("/datasets/robot_A/picking/repair")
        assert repaired.status_code == 201, repaired.text
        assert repaired.json()["version"]["repaired_from"] == version["version"]
        folder = restore(http, repaired.json()["version"]["version"], tmp_path / "repaired")
        check_saved(folder, http)
        check_merged(http, lerobot, folder, tmp_path, sessions=1)
        check_cut_off(http, tmp_path / "exported-1" / "exported-1")

        shutil.rmtree(outputs / "picking")
        shutil.copytree(folder, outputs / "picking")
        resume(start, backend, outputs / "picking", output)
        resumed = wait_for_version(http, SAVED + 1)
    assert resumed["finalised"]
    assert resumed["version"] > repaired.json()["version"]["version"]
    check_resumed(http, outputs / "picking", restore(http, None, tmp_path / "restored"))
    check_merged(http, lerobot, outputs / "picking", tmp_path, sessions=2)
    check_ledgers(http)


def check_saved(folder: Path, http: httpx.Client) -> None:
    """The repaired dataset is what the first session logged of its saved episodes."""
    dataset = opened(folder)
    assert dataset.num_episodes == SAVED
    episodes, frames = recorded(http, 1, "interrupted")
    check_rows(folder, list(range(SAVED)), episodes[:SAVED], frames)
    for episode in dataset.meta.episodes:
        for row in (episode["dataset_from_index"], episode["dataset_to_index"] - 1):
            assert dataset[row]["observation.images.wrist"].shape == (3, 120, 160)
    # What LeRobot had in memory only: the episode that was being recorded.
    last = episodes[SAVED]
    assert last["cut_off"]
    assert last["start_frame"] < last["end_frame"] < len(frames)


def check_cut_off(http: httpx.Client, exported: Path) -> None:
    """The episode that LeRobot had not saved is exported as it was, without the reset, and named."""
    last = http.get("/sessions/1").json()["episode_list"][SAVED]
    rows = pq.read_table(exported / "data")
    assert pc.sum(pc.equal(rows["episode_index"], SAVED)).as_py() == last["end_frame"] - last["start_frame"]
    [session] = http.get("/exports/1").json()["report"]["sessions"]
    assert session["cut_off"] == [SAVED]


def check_resumed(http: httpx.Client, folder: Path, restored: Path) -> None:
    """The backup is the folder; the second session's only episode is the dataset's last."""
    for path in folder.rglob("*"):
        if path.is_file():
            assert (restored / path.relative_to(folder)).read_bytes() == path.read_bytes()
    episodes, frames = recorded(http, 2, "complete")
    assert [episode["episode_index"] for episode in episodes] == [0]
    check_rows(folder, [SAVED], episodes, frames)


def check_ledgers(http: httpx.Client) -> None:
    """Every frame of both sessions is there; of the killed one nobody told how many there were to be."""
    killed, resumed = (http.get(f"/sessions/{number}/ledger").json() for number in (1, 2))
    assert (killed["missing"], killed["unaccounted"], killed["status"]) == (0, 0, "interrupted"), killed
    assert resumed["complete"], resumed
    assert resumed["logged"] == resumed["committed"], resumed


def check_rows(folder: Path, numbers: list[int], episodes: list[dict], frames: pa.Table) -> None:
    """The dataset's episodes of these numbers are those of a session, value by value."""
    rows = pq.read_table(folder / "data")
    for number, episode in zip(numbers, episodes, strict=True):
        saved = rows.filter(pc.equal(rows["episode_index"], number))
        logged = frames.slice(episode["start_frame"], episode["end_frame"] - episode["start_frame"])
        for column, kind in (("observation.state", "observation"), ("action", "action")):
            written = np.stack(saved[column].to_numpy())
            np.testing.assert_array_equal(written, vectors(logged, kind))


def check_merged(
    http: httpx.Client, lerobot: Callable[..., None], folder: Path, into: Path, *, sessions: int
) -> None:
    """LeRobot's own command makes one dataset of a folder and of the sessions' export; it opens all of it."""
    ours = export(http, list(range(1, sessions + 1)), into / f"exported-{sessions}")
    roots = [str(folder), str(ours)]
    merged = into / f"merged-{sessions}"
    lerobot(
        "lerobot-edit-dataset",
        "--operation.type=merge",
        f"--operation.repo_ids={['u/' + Path(root).name for root in roots]}",
        f"--operation.roots={roots}",
        "--new_repo_id=u/merged",
        f"--new_root={merged}",
    )
    dataset, parts = opened(merged), [opened(Path(root)) for root in roots]
    assert dataset.num_episodes == sum(part.num_episodes for part in parts)
    # The same episodes twice, and what was being recorded when the recorder was killed.
    assert parts[1].num_episodes == parts[0].num_episodes + 1
    row = 0
    for part in parts:
        for index in range(len(part)):
            one, other = dataset[row], part[index]
            np.testing.assert_array_equal(
                one["observation.state"].numpy(), other["observation.state"].numpy()
            )
            for camera in ("front", "wrist"):
                assert counter(one, camera) == counter(other, camera), (row, camera)
            row += 1


def counter(item: Any, camera: str) -> int:
    """The number drawn into a row's picture, as LeRobot gives it."""
    image = item[f"observation.images.{camera}"].numpy().transpose(1, 2, 0)
    return read_frame_counter((image * 255).round().astype(np.uint8))


def opened(root: Path) -> Any:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset(f"u/{root.name}", root=root)


def export(http: httpx.Client, sessions: list[int], into: Path) -> Path:
    """The dataset of these sessions, as a folder; a busy machine records less often than it declares."""
    body = {
        "session_ids": sessions,
        "repo_id": f"u/{into.name}",
        "include_capture_time": False,
        "fps": SMALL["fps"],
    }
    url = ""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        answer = http.post("/exports", json=body) if not url else http.get(url)
        # Video may still be on its way.
        if answer.status_code < 300:
            url = f"/exports/{answer.json()['id']}"
            if answer.json()["status"] == "done":
                break
            assert answer.json()["status"] in ("queued", "running"), answer.text
        else:
            assert answer.status_code == 409, answer.text
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.2)
    with tarfile.open(fileobj=BytesIO(http.get(f"{url}/archive").content)) as tar:
        tar.extractall(into, filter="data")
    return into / into.name


def vectors(frames: pa.Table, kind: str) -> np.ndarray:
    """(frames, joints) of the columns that belong to one kind, in the table's order."""
    names = [name for name in frames.column_names if name.startswith(f"{kind}.")]
    return np.stack([frames[name].to_numpy() for name in names], axis=1).astype(np.float32)


def record_until_killed(
    start: Start, backend: ServiceProcess, http: httpx.Client, dataset: Path, output: Callable[[], str]
) -> None:
    """Record; the recorder is killed while the scene is reset after an episode, which LeRobot saves only
    then: every frame of it is in the dataset's folder by name, and in the database as one of the episode."""
    command = record_command(dataset, episodes=SAVED + 4, episode_s=EPISODE_S, **SMALL)
    recorder = start(sys.executable, "-c", RESETTING, str(SAVED), *command[1:], *flags(backend))
    deadline = time.monotonic() + PATIENCE_S
    while (added := unsaved_frames(dataset)) == 0 or added != paused_after(http):
        assert recorder.poll() is None, output()[-3000:]
        assert time.monotonic() < deadline, output()[-3000:]
        time.sleep(0.05)
    recorder.kill()
    recorder.wait(PATIENCE_S)


def resume(start: Start, backend: ServiceProcess, dataset: Path, output: Callable[[], str]) -> None:
    """Record one more episode, to the end."""
    command = record_command(dataset, episodes=1, episode_s=EPISODE_S, resume=True, **SMALL)
    assert start(*command, *flags(backend)).wait(PATIENCE_S) == 0, output()[-3000:]


def flags(backend: ServiceProcess) -> list[str]:
    """The backend's, and the codec that its exports have: LeRobot merges no datasets of two."""
    return [
        f"--backend_url=ws://{backend.address}",
        "--robot_id=robot_A",
        "--dataset.rgb_encoder.vcodec=h264",
    ]


def paused_after(http: httpx.Client) -> int | None:
    """After how many frames the first session's episode that will not be saved has paused."""
    answer = http.get("/sessions/1")
    episodes = answer.json()["episode_list"][SAVED:] if answer.status_code == 200 else []
    told = [each for each in episodes if each["paused_from"] is not None]
    return told[0]["paused_from"] - told[0]["start_frame"] if told else None


def unsaved_frames(dataset: Path) -> int:
    """How many frames of that episode LeRobot has added, by their pictures."""
    return len(list(dataset.glob(f"images/observation.images.front/episode-{SAVED:06d}/*.png")))


def wait_for_version(http: httpx.Client, episodes: int) -> dict:
    """The version of the dataset with so many episodes, once the agent has sent it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        answer = http.get("/datasets/robot_A/picking/versions")
        versions = answer.json()["versions"] if answer.status_code == 200 else []
        for version in versions:
            if version["total_episodes"] == episodes and version["source"] == "robot":
                return version
        assert time.monotonic() < deadline, versions
        time.sleep(0.2)


def restore(http: httpx.Client, version: int | None, into: Path) -> Path:
    wanted = {} if version is None else {"version": version}
    answer = http.get("/datasets/robot_A/picking/restore", params=wanted)
    assert answer.status_code == 200, answer.text
    with tarfile.open(fileobj=BytesIO(answer.content)) as tar:
        tar.extractall(into, filter="data")
    (info,) = into.rglob("meta/info.json")
    return info.parent.parent


def recorded(http: httpx.Client, session_id: int, status: str) -> tuple[list[dict], pa.Table]:
    """Episodes and frames of a session, once it has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while (session := http.get(f"/sessions/{session_id}").json())["status"] != status:
        assert time.monotonic() < deadline, session
        time.sleep(0.2)
    parquet = {"Accept": "application/vnd.apache.parquet"}
    frames = http.get(f"/sessions/{session_id}/frames", headers=parquet)
    assert frames.status_code == 200, frames.text
    return session["episode_list"], pq.read_table(BytesIO(frames.content))
