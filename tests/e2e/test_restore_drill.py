"""The drill: the server's database is put back to an hour ago, or lost.

Robots, agents and the store bring back everything that they still have, nothing that is stored goes, no
number is given twice, and it is told.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from lerobot_robot_backend.client import TelemetryClient
from lerobot_robot_backend.spool.stream import read_progress
from lerobot_robot_backend.video.files import has_unstored_video
from lerobot_robot_virtual.arm import REST
from lerobot_robot_virtual.scene import render
from teleop_backend.postgres import EmbeddedPostgres
from teleop_schema.session import Camera
from teleop_testing.backends.processes import ServiceProcess
from teleop_testing.datasets.dataset_folders import contents, make_dataset
from teleop_testing.datasets.recorded import NEXT_PARTITION, OLD
from teleop_testing.waiting import PATIENCE_S, wait_for

JOINTS = {"shoulder.pos": 1.0, "elbow.pos": 2.0}
FRAMES = 60
AGENT = Path(sys.executable).parent / "sync-agent"


@dataclass
class Site:
    """A backend, and a robot PC beside it."""

    backend: ServiceProcess
    server: Path
    robot: Path
    told: str = ""

    def get(self, address: str) -> Any:
        return httpx.get(f"http://{self.backend.address}{address}", timeout=PATIENCE_S).json()

    def record(self, *, ship: bool = False) -> Path:
        """The directory of a session's stream; nothing of it has been sent yet, unless it is to `ship`."""
        client = TelemetryClient(
            f"ws://{self.backend.address}", "robot_A", state_names=tuple(JOINTS), action_names=tuple(JOINTS),
            fps=30, cameras={"front": Camera(96, 128, 30.0)}, spool_dir=self.robot / "spool", ship=ship,
            min_free_bytes=0,
        )  # fmt: skip
        for frame in range(FRAMES):
            client.log(JOINTS | {"front": render("front", REST, frame, height=96, width=128)}, JOINTS)
        client.close()
        return client.stream_dir

    def agent(self, command: str, *options: str) -> subprocess.CompletedProcess[str]:
        memory = ["--robot-id", "robot_A", "--state-dir", str(self.robot / "state")]
        return subprocess.run(
            [str(AGENT), command, *memory, *options],
            env={**os.environ, "LEROBOT_BACKEND_SPOOL": str(self.robot / "spool")},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    def bring(self) -> None:
        """`sync-agent once`, until it says that all is safe: an encoder may still be at work."""
        server, outputs = f"http://{self.backend.address}", str(self.robot / "outputs")

        def once() -> bool:
            done = self.agent("once", "--backend_url", server, "--watch", outputs)
            self.told += done.stderr
            return done.returncode == 0

        wait_for(once)

    def sessions(self) -> dict[str, int]:
        """Stream -> number of each session that the server knows."""
        numbers = [session["id"] for session in self.get("/sessions")["sessions"]]
        return {self.get(f"/sessions/{number}")["stream_id"]: number for number in numbers}

    def pictures(self, number: int) -> list[tuple[str, list[int]]]:
        """Hash and frames of each chunk of a session."""
        videos = self.get(f"/sessions/{number}/videos")["videos"]
        return [(video["sha256"], self.get(f"/videos/{video['id']}")["frame_indices"]) for video in videos]

    def versions(self) -> dict[str, int]:
        """Dataset -> the version that is given out."""
        return {each["dataset"]: each["newest"]["version"] for each in self.get("/datasets")["datasets"]}

    def objects(self) -> set[str]:
        return {path.name for path in (self.server / "backup/.objects").glob("*/*/*")}


@pytest.fixture
def site(backend: ServiceProcess, tmp_path: Path) -> Site:
    """One session and one dataset are stored; a copy of the database is taken; then one more of each."""
    server = Path(backend.environment["LEROBOT_BACKEND_DATA_DIR"]).parent
    site = Site(backend, server, tmp_path)
    site.record()
    make_dataset(tmp_path / "outputs/before")
    site.bring()
    backend.stop()
    subprocess.run(["cp", "-a", server / "data", server / "base-copy"], check=True, timeout=PATIENCE_S)
    backend.start()
    site.record()
    make_dataset(tmp_path / "outputs/after", episodes=3)
    site.bring()
    site.told = ""
    return site


def check_all_is_back(site: Site, before: dict[str, int], pictures: list[Any], newer: Path) -> None:
    """Every session that was there, with each frame and picture, and the newer one; every dataset."""
    sessions = site.sessions()
    assert before.keys() < sessions.keys()
    for number in sessions.values():
        ledger = site.get(f"/sessions/{number}/ledger")
        assert ledger["complete"], ledger
        assert (ledger["committed"], ledger["cameras"][0]["awaited_from"]) == (FRAMES, None)
    assert sorted(site.pictures(sessions[stream]) for stream in before) == pictures
    assert read_progress(newer).session_id == sessions[newer.name]
    assert site.versions() == {"before": 1, "after": 1}
    for name in ("before", "after"):
        files = site.get(f"/datasets/robot_A/{name}")["files"]
        assert {file["path"] for file in files} == contents(site.robot / "outputs" / name).keys()
        verified = httpx.post(
            f"http://{site.backend.address}/datasets/robot_A/{name}/verify", timeout=PATIENCE_S
        ).json()
        assert verified["damaged"] == []
    status = json.loads(site.agent("status", "--json").stdout)
    assert {row["state"] for row in status["datasets"]} == {"stored"}


@pytest.mark.long("a recording, a loss and a restore, of which the gate has one")
def test_a_database_of_an_hour_ago(site):
    """Base copy taken, work goes on, copy put back: what was stored since comes from the robot once more."""
    before = site.sessions()
    pictures, objects = sorted(site.pictures(number) for number in before.values()), site.objects()
    site.backend.stop()
    shutil.rmtree(site.server / "data")
    (site.server / "base-copy").rename(site.server / "data")
    site.backend.start()
    assert len(site.sessions()) == len(site.versions()) == 1
    newer = site.record()
    site.bring()
    check_all_is_back(site, before, pictures, newer)
    # The older database knew of number 1 only; the store knows that 2 was given.
    assert {*site.sessions().values()} == {1, 3, 4}
    assert "no longer knows what it confirmed" in site.told
    assert site.objects() >= objects


def test_a_lost_database(site):
    """The new one refuses to start on another's files, and names the command that takes them over."""
    before = site.sessions()
    pictures, objects = sorted(site.pictures(number) for number in before.values()), site.objects()
    site.backend.stop()
    shutil.rmtree(site.server / "data")
    with pytest.raises(AssertionError, match="lerobot-backend adopt"):
        site.backend.start()
    adopting = [sys.executable, "-m", "teleop_backend", "adopt"]
    done = subprocess.run(
        adopting, env=site.backend.environment, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    assert "2 more are known only by name" in done.stdout
    assert "back: 2 dataset versions and 2 video chunks" in done.stdout
    site.backend.start()
    # If no robot had them any more: sessions have their numbers, their video all that was told of it.
    assert site.sessions() == before
    assert sorted(site.pictures(number) for number in before.values()) == pictures
    assert not any(site.get(f"/sessions/{number}/ledger")["complete"] for number in before.values())
    newer = site.record()
    site.bring()
    check_all_is_back(site, before, pictures, newer)
    assert before.items() < site.sessions().items()
    assert "another database" in site.told
    assert site.objects() >= objects


@pytest.mark.long("a recording, a loss and a restore, of which the gate has one")
def test_a_lost_database_and_no_agent(backend, tmp_path):
    """The next recording asks for what an older one brought: its samples and pictures come once more."""
    site = Site(backend, Path(backend.environment["LEROBOT_BACKEND_DATA_DIR"]).parent, tmp_path)

    def complete() -> dict[str, int]:
        sessions = site.sessions()
        return {s: n for s, n in sessions.items() if site.get(f"/sessions/{n}/ledger")["complete"]}

    older = site.record(ship=True)
    wait_for(lambda: older.name in complete())
    wait_for(lambda: not has_unstored_video(older))
    (pictures,) = [site.pictures(number) for number in complete().values()]
    backend.stop()
    shutil.rmtree(site.server / "data")
    adopting = [sys.executable, "-m", "teleop_backend", "adopt"]
    subprocess.run(adopting, env=backend.environment, capture_output=True, check=True, timeout=PATIENCE_S)
    # The streams know the address.
    backend.start()
    assert not complete()
    newer = site.record(ship=True)
    wait_for(lambda: complete().keys() == {older.name, newer.name})
    assert site.pictures(complete()[older.name]) == pictures != []


@pytest.mark.long("a recording, a loss and a restore, of which the gate has one")
def test_a_lost_store_with_an_archive(backend, tmp_path):
    """Samples that had left the database are lost with the store; the spool still has them."""
    server = Path(backend.environment["LEROBOT_BACKEND_DATA_DIR"]).parent
    site = Site(backend, server, tmp_path)
    make_dataset(tmp_path / "outputs/before")
    older = site.record()
    site.bring()
    database = EmbeddedPostgres(server / "data").url()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(OLD)
        connection.execute(NEXT_PARTITION)
    newer = site.record()
    site.bring()
    number = site.sessions()[older.name]
    archiving = [sys.executable, "-m", "teleop_telemetry.archive", "run", "--days", "30"]
    where = {"DATABASE_URL": database, "STORE_URL": str(server / "backup")}
    done = subprocess.run(
        archiving, env={**os.environ, **where}, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.stdout == f"partition 0: 1 session, {FRAMES} frames archived and dropped\n", done.stderr
    assert site.get(f"/sessions/{number}/ledger")["complete"]
    backend.stop()
    shutil.rmtree(server / "backup")
    adopting = [sys.executable, "-m", "teleop_backend", "adopt"]
    done = subprocess.run(
        adopting, env=backend.environment, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert "the archived samples of 1 session are missing" in done.stdout, done.stderr
    backend.start()
    ledger = site.get(f"/sessions/{number}/ledger")
    assert (ledger["complete"], ledger["unaccounted"]) == (False, FRAMES)
    site.bring()
    assert {*site.sessions()} == {older.name, newer.name}
    for session in site.sessions().values():
        ledger = site.get(f"/sessions/{session}/ledger")
        assert ledger["complete"], ledger
    assert site.get(f"/sessions/{number}")["archived_at"] is None
