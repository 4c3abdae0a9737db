"""Bytes sent per byte recorded while lerobot-record makes a dataset, beside other ways to keep a copy."""

import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
from figures import Figure, at_most
from teleop_backend.demo.relay import relay_to
from teleop_testing.backends.processes import ingest_process, own_postgres
from teleop_testing.datasets.recording import Command, record_command, sync_agent

EPISODES = 10
EPISODE_S = 5.0
WATCHED_FILES = 100_000
FILES_AT_A_TIME = 16
EPISODES_A_DATASET = 95
SETTLE_S = 30.0
IDLE_S = 120.0
PATIENCE_S = 1800.0
POLL_S = 0.05


def run() -> list[Figure]:
    with (
        own_postgres() as postgres,
        tempfile.TemporaryDirectory() as name,
        ingest_process(postgres.url(), Path(name) / "store") as server,
    ):
        return [*bytes_sent(server.port, Path(name)), *idle(server.address, Path(name))]


def bytes_sent(port: int, folder: Path) -> list[Figure]:
    """What the agent sent of one recording, and what others would have sent of the same states."""
    outputs = folder / "outputs"
    dataset = outputs / "picking"
    outputs.mkdir()
    states = folder / "states"
    with (
        relay_to(port) as line,
        sync_agent(f"http://127.0.0.1:{line.port}", outputs, folder),
        Command(
            record_command(dataset, episodes=EPISODES, episode_s=EPISODE_S), folder, "record"
        ) as recorder,
    ):
        keep_states(dataset, states, recorder)
        wait_until_finalised(port)
        ours = line.sent_bytes
    size = sum(path.stat().st_size for path in files(dataset))
    kept = sorted(states.iterdir())
    others = {
        "each changed file again, whole": whole_files(kept),
        "rclone copy after each episode": rclone(kept, folder / "rclone"),
        "rsync after each episode": rsync(kept, folder / "rsync"),
    }
    return [
        Figure(f"dataset of {EPISODES} episodes, two cameras", size / 1e6, "MB"),
        at_most("sync-agent: bytes sent per byte recorded", ours / size, "x", 1.15),
        *(Figure(f"{way}: the same", sent / size, "x") for way, sent in others.items()),
    ]


def keep_states(dataset: Path, states: Path, recorder: Command) -> None:
    """A copy of the dataset after every saved episode, and of its end."""
    saved = 0
    while recorder.exit_code is None:
        time.sleep(POLL_S)
        now = saved_episodes(dataset)
        if now > saved:
            saved = now
            copy(dataset, states / f"{saved:03d}")
    assert recorder.exit_code == 0, recorder.log.read_text()[-2000:]
    copy(dataset, states / "finalised")


def copy(dataset: Path, target: Path) -> None:
    """A copy that keeps modification times, without temporary pictures."""
    shutil.copytree(dataset, target, ignore=shutil.ignore_patterns("images", "tmp*"))


def saved_episodes(dataset: Path) -> int:
    try:
        total: int = json.loads((dataset / "meta" / "info.json").read_text())["total_episodes"]
    except (OSError, ValueError, KeyError):
        return 0
    return total


def wait_until_finalised(port: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    url = f"http://127.0.0.1:{port}/datasets/robot_A/picking/versions"
    while not any(version["finalised"] for version in httpx.get(url).json().get("versions", [])):
        assert time.monotonic() < deadline
        time.sleep(POLL_S)


def files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def whole_files(states: list[Path]) -> int:
    """Bytes of every file of every state that differs from the state before."""
    sent = 0
    before: dict[str, bytes] = {}
    for state in states:
        now = {str(path.relative_to(state)): path.read_bytes() for path in files(state)}
        sent += sum(len(content) for path, content in now.items() if before.get(path) != content)
        before = now
    return sent


def rsync(states: list[Path], copy: Path) -> int:
    """Bytes that rsync says it sent, with its delta algorithm on."""
    if shutil.which("rsync") is None:
        return 0
    sent = 0
    for state in states:
        command = ["rsync", "-a", "--no-whole-file", "--stats", f"{state}/", f"{copy}/"]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        (line,) = [line for line in told.splitlines() if line.startswith("Total bytes sent")]
        sent += int(line.split(":")[1].replace(",", ""))
    return sent


def rclone(states: list[Path], copy: Path) -> int:
    """Bytes that rclone says it transferred."""
    if shutil.which("rclone") is None:
        return 0
    sent = 0
    for state in states:
        command = ["rclone", "copy", "--use-json-log", "--stats=1h", "-v", str(state), str(copy)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        lines = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
        sent += max((line["stats"]["bytes"] for line in lines if "stats" in line), default=0)
    return sent


def idle(address: str, folder: Path) -> list[Figure]:
    """CPU and memory of an agent beside many files that do not change, once all of them are stored."""
    outputs = folder / "many"
    template = make_dataset(folder / "template")
    count = len(files(template))
    for number in range(WATCHED_FILES // count):
        shutil.copytree(template, outputs / f"dataset-{number:04d}")
    watched = count * (WATCHED_FILES // count)
    state = folder / "many-state"
    state.mkdir()
    begun = time.monotonic()
    words = (f"http://{address}", outputs, state, "--parallel", str(FILES_AT_A_TIME))
    with sync_agent(*words, robot_id="robot_B", command="once") as agent:
        assert agent.wait(PATIENCE_S) == 0, agent.log.read_text()[-2000:]
    lasted = time.monotonic() - begun
    with sync_agent(f"http://{address}", outputs, state, robot_id="robot_B") as agent:
        time.sleep(SETTLE_S)
        process = psutil.Process(agent.pid)
        before, begun = process.cpu_times(), time.monotonic()
        time.sleep(IDLE_S)
        after, idle_s = process.cpu_times(), time.monotonic() - begun
        resident = process.memory_info().rss
    busy = after.user + after.system - before.user - before.system
    return [
        Figure(
            f"sync-agent once: {watched:,} files in {watched // count:,} datasets",
            watched / lasted,
            "files/s",
        ),
        Figure("sync-agent run beside them, idle, rescans included: CPU", 100 * busy / idle_s, "% of a core"),
        at_most("the same: memory", resident / 2**20, "MiB", 150),
    ]


def make_dataset(dataset: Path) -> Path:
    """A finalised dataset of many small files, made by LeRobot."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    vector = {"dtype": "float32", "shape": (2,), "names": ["a", "b"]}
    made = LeRobotDataset.create(
        "bench/many", 30, {"action": vector}, root=dataset, use_videos=False, data_files_size_in_mb=1e-6
    )
    for number in range(EPISODES_A_DATASET):
        made.add_frame({"action": np.full(2, number, np.float32), "task": "pick"})
        made.save_episode()
    made.finalize()
    return dataset
