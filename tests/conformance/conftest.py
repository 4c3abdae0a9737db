"""Datasets that export-service made from rows in a real PostgreSQL, for LeRobot to judge."""

import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest
from huggingface_hub import constants
from teleop_testing.backends.processes import ServiceProcess
from teleop_testing.datasets.recorded import judge_episode, record_session
from teleop_testing.datasets.recorded_video import RecordedVideo, record_video
from teleop_testing.machine.prepared import PreparedPython
from teleop_testing.waiting import PATIENCE_S

COMMANDS = Path(sys.executable).parent
NAMES = [f"{joint}.pos" for joint in ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "gripper")]
FPS = 60
EPISODES = [
    (0, 90, "pick", "success"),
    (90, 120, "pick", "discarded"),
    (125, 185, "place", "failure"),
    (185, 300, "pick", None),
]


@dataclass
class Exporter:
    """export-service as a process, and the table that it reads."""

    http: httpx.Client
    connection: "psycopg.Connection[Any]"
    url: str
    folder: Path
    store: Path

    def record(self, frames: int, episodes: list[tuple[Any, ...]], **about: Any) -> int:
        """A session as telemetry-service leaves it; its id."""
        return record_session(self.url, frames, episodes=episodes, names=NAMES, **about)

    def film(self, session: int, frames: int, camera: str, **about: Any) -> RecordedVideo:
        """A camera's video of a session, as video-ingest-service leaves it."""
        return record_video(self.url, self.store, session, frames, camera, **about)

    def frame(self, session: int, index: int) -> dict[str, Any]:
        """What the table holds of one frame."""
        state, action, captured_ns = self.connection.execute(
            """SELECT state, action, (extract(epoch FROM "timestamp") * 1000000)::bigint * 1000
                 FROM teleop_frame WHERE session_id = %s AND frame_index = %s""",
            [session, index],
        ).fetchone()
        return {
            "observation.state": np.float32(state),
            "action": np.float32(action),
            "capture.time_ns": captured_ns,
        }

    def export(self, session: int | list[int], name: str, **more: Any) -> Path:
        """The dataset's folder, fetched as a user would."""
        sessions = session if isinstance(session, list) else [session]
        body = {"session_ids": sessions, "repo_id": f"lab/{name}", **more}
        answer = self.http.post("/exports", json=body)
        assert answer.status_code == 202, answer.text
        url = f"/exports/{answer.json()['id']}"
        deadline = time.monotonic() + PATIENCE_S
        while (export := self.http.get(url).json())["status"] != "done":
            assert export["status"] in ("queued", "running"), export
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with tarfile.open(fileobj=BytesIO(self.http.get(f"{url}/archive").content)) as tar:
            tar.extractall(self.folder, filter="data")
        return self.folder / name


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LeRobot's, for as long as this process runs: it asks but once where they are."""
    return tmp_path_factory.mktemp("huggingface")


@pytest.fixture(scope="module", autouse=True)
def _offline(caches: Path) -> Iterator[None]:
    """LeRobot keeps its caches apart and asks no one, in this process and in its commands.

    huggingface_hub reads the environment when it is imported, so that has happened before, and others of
    this process find it as it was.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HOME", str(caches))
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        patch.setattr(constants, "HF_HOME", str(caches))
        patch.setattr(constants, "HF_HUB_CACHE", str(caches / "hub"))
        yield


@pytest.fixture(scope="session")
def exporter(postgres: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    """A running export-service on a database of its own."""
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as admin:
        admin.execute("CREATE DATABASE conformance TEMPLATE teleop")
    url = postgres.url("conformance")
    folder, store = tmp_path_factory.mktemp("datasets"), tmp_path_factory.mktemp("store")
    environment = {
        "DATABASE_URL": url,
        "EXPORT_ROOT": str(tmp_path_factory.mktemp("exports")),
        "STORE_URL": str(store),
    }
    with (
        psycopg.connect(url, autocommit=True) as connection,
        ServiceProcess("teleop_export", environment, "EXPORT_PORT") as service,
        httpx.Client(base_url=f"http://{service.address}", timeout=PATIENCE_S) as http,
    ):
        yield Exporter(http, connection, url, folder, store)


@pytest.fixture(scope="session")
def session(exporter: Exporter) -> int:
    """Four episodes, one of them discarded; frames between them belong to none."""
    recorded = exporter.record(300, EPISODES)
    judge_episode(exporter.url, recorded, 0, operator="kim", quality=4, tags=["day"])
    judge_episode(exporter.url, recorded, 2, operator="lee", quality=2, reason="dropped")
    judge_episode(exporter.url, recorded, 3, operator="kim")
    return recorded


@pytest.fixture(scope="session")
def dataset(exporter: Exporter, session: int) -> Path:
    """Its export."""
    return exporter.export(session, "pick")


@pytest.fixture(scope="session")
def lerobot(python: PreparedPython) -> Callable[..., str]:
    """Runs a command of LeRobot: lerobot("lerobot-train", …); gives what it printed."""

    def lerobot(command: str, *words: str) -> str:
        done = python.run([COMMANDS / command, *words])
        assert done.returncode == 0, f"{command}: exit status {done.returncode}\n{done.stdout[-3000:]}"
        return done.stdout

    return lerobot
