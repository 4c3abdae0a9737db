"""From video of two cameras to a verified dataset, beside LeRobot recording the same, and a plain remux; what
more sessions cost, what five hours take of memory, and the other formats."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
from figures import Figure, at_least, at_most
from teleop_dataset.v3.info import VideoFeature
from teleop_dataset.v3.layout import LEROBOTS_LIMITS
from teleop_export.making.picture_file import PictureFile
from teleop_export.making.picture_table import SegmentPictures
from teleop_export.making.video_writer import VideoSeries, look
from teleop_testing.backends.processes import ServiceProcess, own_postgres
from teleop_testing.datasets.recorded import record_session
from teleop_testing.datasets.recorded_video import record_video
from teleop_testing.machine.memory import peak_bytes

ROUNDS = 5
CAMERAS = ("front", "wrist")
# Standard deviation of each pixel, in levels.
KINDS = {"drawn": 0.0, "noisy": 4.0}
HEIGHT, WIDTH = 480, 640
LOOP_FPS, FPS = 60, 30
EPISODE_FRAMES = 60 * LOOP_FPS
EPISODES = 10
FRAMES = EPISODES * EPISODE_FRAMES
ROWS = FRAMES * FPS // LOOP_FPS
SEGMENT = 10 * FPS
JOINTS = [f"{joint}.pos" for joint in ("pan", "lift", "elbow", "flex", "roll", "gripper")]
# LeRobot takes its time picture by picture, so a part of the rows tells its rate.
LEROBOT_ROWS = 300
# Sessions of one episode each, and ten times as many.
FEW_SESSIONS = 10
MORE = 10
MOST_TIMES = 11
LONG_FRAMES = 5 * 3600 * LOOP_FPS
MOST_MIB = 512
# More often, asking costs the service noticeable time.
POLL_S = 0.05


def run() -> list[Figure]:
    figures = [Figure("load of the machine before (1 minute)", os.getloadavg()[0], "processes")]
    with own_postgres() as postgres:
        for kind, noise in KINDS.items():
            with tempfile.TemporaryDirectory() as folder:
                figures += measure(postgres.url(), Path(folder), kind, noise)
        with tempfile.TemporaryDirectory() as folder:
            figures += measure_growth(postgres.url(), Path(folder))
        with tempfile.TemporaryDirectory() as folder:
            figures.append(measure_memory(postgres.url(), Path(folder)))
    return figures


@dataclass(frozen=True)
class Exporting:
    """An export-service with a worker beside it, as they are deployed."""

    http: httpx.Client
    worker_pid: int

    def peak_mib(self) -> float:
        """The most memory that the worker has taken so far."""
        return peak_bytes(self.worker_pid) / 1024**2


@contextmanager
def exporting(database_url: str, folder: Path) -> Iterator[Exporting]:
    """Both as processes, on the store in `folder`."""
    environment = {
        "DATABASE_URL": database_url,
        "EXPORT_ROOT": f"{folder}/exports",
        "STORE_URL": f"{folder}/store",
        "EXPORT_WORK_HERE": "false",
    }
    with (
        ServiceProcess("teleop_export", environment, "EXPORT_PORT") as service,
        httpx.Client(base_url=f"http://{service.address}", timeout=60) as http,
    ):
        worker = subprocess.Popen(
            [sys.executable, "-m", "teleop_export.worker"],
            env=service.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield Exporting(http, worker.pid)
        finally:
            worker.terminate()
            worker.wait()


def measure(database_url: str, folder: Path, kind: str, noise: float) -> list[Figure]:
    """The figures of one kind of pictures."""
    session = record(database_url, folder, noise)
    chunks = list(folder.glob("store/.objects/*/*/*"))
    with exporting(database_url, folder) as running:
        export(running.http, [session], "warm-up", ROWS)
        rounds = []
        for number in range(ROUNDS):
            rate = ROWS / export(running.http, [session], f"round-{number}", ROWS)
            rounds.append((rate, remux(chunks, folder), copy(chunks, folder)))
        raw = {
            name: FRAMES
            / statistics.median(
                export(running.http, [session], f"{name}-{number}", FRAMES, format=name)
                for number in range(ROUNDS)
            )
            for name in ("mcap", "parquet")
        }
    lerobot = record_with_lerobot(chunks[0], folder)
    ours, plain, copied = (statistics.median(rates) for rates in zip(*rounds, strict=True))
    what = f"{kind} pictures"
    return [
        Figure(f"{what}: export of {ROWS:,} rows with two cameras, request to published", ours, "rows/s"),
        Figure(f"{what}: LeRobotDataset recording {LEROBOT_ROWS} rows, in memory", lerobot, "rows/s"),
        Figure(f"{what}: plain remux by PyAV of the same packets", plain, "rows/s"),
        Figure(f"{what}: copying alone, no statistics nor verification", copied, "rows/s"),
        at_least(f"{what}: export / LeRobot recording", ours / lerobot, "x", 20),
        at_least(f"{what}: export / plain remux", statistics.median(a / b for a, b, _ in rounds), "x", 0.7),
        Figure(f"{what}: copying / plain remux", statistics.median(c / b for _, b, c in rounds), "x"),
        Figure(f"{what}: as MCAP, two samples a picture", raw["mcap"], "samples/s"),
        Figure(f"{what}: as raw Parquet, joints alone", raw["parquet"], "samples/s"),
    ]


def measure_growth(database_url: str, folder: Path) -> list[Figure]:
    """What ten times the sessions cost."""
    sessions = [
        record(database_url, folder, KINDS["drawn"], EPISODE_FRAMES) for _ in range(FEW_SESSIONS * MORE)
    ]
    rows = EPISODE_FRAMES * FPS // LOOP_FPS
    with exporting(database_url, folder) as running:
        export(running.http, sessions[:1], "warm-up", rows)
        few, many = (
            statistics.median(
                export(running.http, sessions[:count], f"{count}-{number}", count * rows)
                for number in range(3)
            )
            for count in (FEW_SESSIONS, FEW_SESSIONS * MORE)
        )
    return [
        Figure(f"{FEW_SESSIONS} sessions of {rows:,} rows with two cameras", few, "s"),
        Figure(f"{FEW_SESSIONS * MORE} such sessions", many, "s"),
        at_most(f"growth: {MORE} times the sessions", many / few, "x the time", MOST_TIMES),
    ]


def measure_memory(database_url: str, folder: Path) -> Figure:
    """The most that a worker takes for five hours with two cameras, in one episode."""
    session = record(database_url, folder, KINDS["drawn"], LONG_FRAMES, episodes=())
    rows = LONG_FRAMES * FPS // LOOP_FPS
    with exporting(database_url, folder) as running:
        seconds = export(running.http, [session], "long", rows)
        peak_mib = running.peak_mib()
    what = f"peak memory of a worker, {LONG_FRAMES:,} samples with two cameras in {seconds:.0f} s"
    return at_most(what, peak_mib, "MiB", MOST_MIB)


def record(
    database_url: str,
    folder: Path,
    noise: float,
    frames: int = FRAMES,
    episodes: Sequence[tuple[int, int]] | None = None,
) -> int:
    """A session with two cameras as the services leave it, by default in episodes of a minute."""
    if episodes is None:
        episodes = list(pairwise(range(0, frames + 1, EPISODE_FRAMES)))
    session = record_session(database_url, frames, episodes=episodes, names=JOINTS, task="pick")
    for camera in CAMERAS:
        record_video(
            database_url,
            folder / "store",
            session,
            frames,
            camera,
            fps=FPS,
            segment=SEGMENT,
            same_pictures=True,
            height=HEIGHT,
            width=WIDTH,
            noise=noise,
        )
    return session


def export(http: httpx.Client, sessions: Sequence[int], name: str, rows: int, **more: str) -> float:
    """Seconds from when an export is asked for until it is published, as the service tells them."""
    body = {"session_ids": sessions, "repo_id": f"bench/{name}", **more}
    asked = http.post("/exports", json=body).json()
    while (made := http.get(f"/exports/{asked['id']}").json())["status"] != "done":
        assert made["status"] in ("queued", "running"), made
        time.sleep(POLL_S)
    created, finished = (datetime.fromisoformat(made[name]) for name in ("created_at", "finished_at"))
    assert made["numbers"]["frames"] == rows
    assert not any(camera["encoded"] for camera in made["report"]["cameras"])
    http.delete(f"/exports/{asked['id']}")
    return (finished - created).total_seconds()


def again(chunks: Iterable[Path]) -> list[Path]:
    """The chunk files of one camera, as often as the session has them."""
    (chunk,) = chunks
    return [chunk] * (ROWS // SEGMENT)


def remux(chunks: list[Path], folder: Path) -> float:
    """Rows/s of demuxing and muxing with PyAV, nothing else; one camera after the other."""
    begun = time.perf_counter()
    for camera in CAMERAS:
        with av.open(str(folder / f"{camera}.mp4"), "w", options={"movflags": "+faststart"}) as target:
            stream: Any = None
            shown = 0
            for path in again(chunks):
                with av.open(str(path)) as source:
                    if stream is None:
                        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
                    step = round(1 / FPS / source.streams.video[0].time_base)
                    for packet in source.demux(video=0):
                        if packet.dts is None:
                            continue
                        packet.stream = stream
                        packet.pts = packet.dts = shown * step
                        target.mux(packet)
                        shown += 1
    return ROWS / (time.perf_counter() - begun)


def copy(chunks: list[Path], folder: Path) -> float:
    """Rows/s of the export's own copying."""
    begun = time.perf_counter()
    for name in CAMERAS:
        camera = VideoFeature(name, HEIGHT, WIDTH, "h264", "yuv420p")
        series = VideoSeries(folder, camera, FPS, LEROBOTS_LIMITS, ROWS)
        for episode in range(EPISODES):
            each = ROWS // EPISODES // SEGMENT
            with ExitStack() as stack:
                paths = again(chunks)[episode * each : (episode + 1) * each]
                segments = [stack.enter_context(PictureFile(path)) for path in paths]
                parts = [SegmentPictures(segment, np.arange(segment.pictures)) for segment in segments]
                series.add(parts, look(parts, camera))
        series.close()
    return ROWS / (time.perf_counter() - begun)


def record_with_lerobot(chunk: Path, folder: Path) -> float:
    """Rows/s of LeRobotDataset.create, add_frame, save_episode; the rows wait in memory."""
    from datasets import disable_progress_bars
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    disable_progress_bars()
    with av.open(str(chunk)) as file:
        pictures = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)][:LEROBOT_ROWS]
    vector = {"dtype": "float32", "shape": (len(JOINTS),), "names": JOINTS}
    video = {"dtype": "video", "shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]}
    cameras = [f"observation.images.{name}" for name in CAMERAS]
    features = {"action": vector, "observation.state": vector, **dict.fromkeys(cameras, video)}
    values = np.zeros(len(JOINTS), np.float32)
    begun = time.perf_counter()
    dataset = LeRobotDataset.create("bench/own", FPS, features, root=folder / "lerobot")
    for picture in pictures:
        frame = {"action": values, "observation.state": values, **dict.fromkeys(cameras, picture)}
        dataset.add_frame({**frame, "task": "pick"})
    dataset.save_episode()
    dataset.finalize()
    return len(pictures) / (time.perf_counter() - begun)
