"""From rows in PostgreSQL to a verified dataset, beside LeRobot's own writer and a plain dump to Parquet."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg
import pyarrow.parquet as pq
from figures import Figure, at_least
from teleop_runtime.postgres.frames import FrameReader
from teleop_testing.backends.processes import ServiceProcess, own_postgres
from teleop_testing.datasets.recorded import record_session

ROUNDS = 3
JOINTS = [f"{joint}.pos" for joint in ("pan", "lift", "elbow", "flex", "roll", "gripper")]
EPISODE_FRAMES = 1200
EPISODES = 500
FRAMES = EPISODES * EPISODE_FRAMES
# LeRobot's writer takes its time frame by frame, so a part of the frames tells its rate.
LEROBOT_EPISODES = 15
READ_FRAMES = 65_536
POLL_S = 0.01


def run() -> list[Figure]:
    with own_postgres() as postgres, tempfile.TemporaryDirectory() as folder:
        session = record(postgres.url())
        environment = {"DATABASE_URL": postgres.url(), "EXPORT_ROOT": f"{folder}/exports"}
        with (
            ServiceProcess("teleop_export", environment, "EXPORT_PORT") as service,
            httpx.Client(base_url=f"http://{service.address}", timeout=60) as http,
        ):
            export(http, session, "warm-up")
            rounds = [
                (export(http, session, f"round-{number}"), plain(postgres.url(), session, Path(folder)))
                for number in range(ROUNDS)
            ]
            lerobot = write_with_lerobot(postgres.url(), session, Path(folder))
    ours, dump = (statistics.median(rates) for rates in zip(*rounds, strict=True))
    return [
        Figure(
            f"export of {FRAMES:,} frames in {EPISODES} episodes, from request to published", ours, "frames/s"
        ),
        Figure("ADBC read and Parquet write of the same frames, nothing else", dump, "frames/s"),
        Figure(f"LeRobotDataset's own writer on the first {LEROBOT_EPISODES} episodes", lerobot, "frames/s"),
        at_least("export / LeRobot's writer", ours / lerobot, "x", 100),
        at_least("export / plain dump", statistics.median(a / b for a, b in rounds), "x", 0.5),
    ]


def record(database_url: str) -> int:
    """A session as telemetry-service leaves it."""
    ends = range(EPISODE_FRAMES, FRAMES + 1, EPISODE_FRAMES)
    episodes = [(end - EPISODE_FRAMES, end) for end in ends]
    session = record_session(database_url, FRAMES, episodes=episodes, names=JOINTS, task="pick")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE teleop_frame")
    return session


def export(http: httpx.Client, session: int, name: str) -> float:
    """Frames/s of an export, as its client sees it."""
    begun = time.perf_counter()
    asked = http.post("/exports", json={"session_ids": [session], "repo_id": f"bench/{name}"}).json()
    while (made := http.get(f"/exports/{asked['id']}").json())["status"] != "done":
        assert made["status"] in ("queued", "running"), made
        time.sleep(POLL_S)
    assert made["numbers"]["frames"] == FRAMES
    return FRAMES / (time.perf_counter() - begun)


def plain(database_url: str, session: int, folder: Path) -> float:
    """Frames/s of the least that anybody has to do: read the rows, write them to one file."""
    begun = time.perf_counter()
    writer: Any = None
    with FrameReader(database_url) as reader:
        for first in range(0, FRAMES, READ_FRAMES):
            table = read(reader, session, first, first + READ_FRAMES)
            writer = writer or pq.ParquetWriter(folder / "plain.parquet", table.schema)
            writer.write_table(table)
    writer.close()
    return FRAMES / (time.perf_counter() - begun)


def write_with_lerobot(database_url: str, session: int, folder: Path) -> float:
    """Frames/s of LeRobotDataset.create, add_frame, save_episode; the frames wait in memory."""
    from datasets import disable_progress_bars
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    disable_progress_bars()
    frames = LEROBOT_EPISODES * EPISODE_FRAMES
    with FrameReader(database_url) as reader:
        table = read(reader, session, 0, frames)
    state, action = (np.stack(table.column(name).to_numpy()) for name in ("state", "action"))
    captured_ns = table.column("timestamp").to_numpy().astype("datetime64[ns]").astype(np.int64)
    vector = {"dtype": "float32", "shape": (len(JOINTS),), "names": JOINTS}
    features = {
        "action": vector,
        "observation.state": dict(vector),
        "capture.time_ns": {"dtype": "int64", "shape": (1,), "names": None},
    }
    begun = time.perf_counter()
    dataset = LeRobotDataset.create("bench/own", 60, features, root=folder / "lerobot", use_videos=False)
    for row in range(frames):
        dataset.add_frame(
            {
                "action": action[row],
                "observation.state": state[row],
                "capture.time_ns": captured_ns[row : row + 1],
                "task": "pick",
            }
        )
        if (row + 1) % EPISODE_FRAMES == 0:
            dataset.save_episode()
    dataset.finalize()
    return frames / (time.perf_counter() - begun)


def read(reader: FrameReader, session: int, first: int, end: int) -> Any:
    return reader.read(session, first, end, state_width=len(JOINTS), action_width=len(JOINTS))
