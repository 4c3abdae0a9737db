"""The disk of the database, full to its last byte: nothing is lost, it is told, and all goes on by itself."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from lerobot_robot_backend.client import TelemetryClient
from teleop_backend.postgres import EmbeddedPostgres
from teleop_testing.backends.processes import ServiceProcess, whole_backend
from teleop_testing.machine.disks import disk_of
from teleop_testing.waiting import PATIENCE_S, wait_for

pytestmark = pytest.mark.root("a small disk is mounted")

# A new cluster takes 43 MiB, and grows by files of its log of 16 MiB each.
DISK_BYTES = 192 * 1024**2
JOINTS = tuple(f"joint_{number}.pos" for number in range(6))
FULL = "the disk of the database is full"


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the backend's PostgreSQL has its data."""
    with disk_of(tmp_path_factory.mktemp("small") / "disk", DISK_BYTES) as disk:
        yield disk


@pytest.fixture(scope="module")
def backend(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """The whole backend in one process; its files are on another disk."""
    folder = tmp_path_factory.mktemp("backend")
    with whole_backend(folder, LEROBOT_BACKEND_DATA_DIR=str(disk / "data")) as process:
        yield process


@pytest.fixture(scope="module")
def http(backend: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=backend.url, timeout=PATIENCE_S) as http:
        yield http


@pytest.fixture
def robot(backend: ServiceProcess, tmp_path: Path) -> Iterator[TelemetryClient]:
    with TelemetryClient(
        f"ws://{backend.address}",
        "robot_A",
        state_names=JOINTS,
        action_names=JOINTS,
        fps=60,
        spool_dir=tmp_path / "spool",
        min_free_bytes=0,
    ) as robot:
        yield robot


@contextmanager
def moving(robot: TelemetryClient) -> Iterator[None]:
    """The robot moves at 60 Hz while the block runs; when that begins, its first frames are stored."""
    stop = threading.Event()

    def move() -> None:
        while not stop.wait(1 / 60):
            robot.log(dict.fromkeys(JOINTS, float(robot.logged)), dict.fromkeys(JOINTS, 0.5))

    thread = threading.Thread(target=move)
    thread.start()
    try:
        wait_for(lambda: robot.acknowledged > 0)
        yield
    finally:
        stop.set()
        thread.join()


def fill(disk: Path) -> None:
    """Take every byte that is free by now."""
    with (disk / "filler").open("ab", buffering=0) as file:
        for size_bytes in (1024**2, 4096, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size_bytes))


def readiness(http: httpx.Client) -> dict[str, Any]:
    told: dict[str, Any] = http.get("/readyz").json()
    return told


def use_up_its_log(postgres: EmbeddedPostgres) -> None:
    """Have PostgreSQL begin files of its log until there is room for none, at which it ends."""
    with suppress(psycopg.OperationalError), psycopg.connect(postgres.url(), autocommit=True) as connection:
        while True:
            connection.execute("SELECT pg_logical_emit_message(true, 'a', 'b'), pg_switch_wal()")


@pytest.mark.parametrize("dies", [False, True], ids=["tables", "log"])
def test_all_goes_on_once_there_is_room(disk, backend, http, robot, dies):
    """Robots and agents wait, be it that only tables can't grow, or that PostgreSQL itself ends."""

    file = {"robot_id": "robot_A", "dataset": f"picking-{dies}", "path": "data/file-000.parquet"}

    def told(check: str) -> bool:
        fill(disk)  # what PostgreSQL has given back meanwhile, too
        return FULL in readiness(http).get(check, "")

    with moving(robot):
        wait_for(lambda: told("commits"))
        wait_for(lambda: FULL in (robot.progress.trouble or ""))
        # It may fit where rows were removed.
        first = http.post("/upload/sync", data=file, files={"file": ("a", b"PAR1")})
        assert first.status_code == 201 or first.json()["detail"] == FULL
        if dies:
            use_up_its_log(EmbeddedPostgres(disk / "data"))
            wait_for(lambda: told("watch over PostgreSQL"))
        assert readiness(http)["status"] == "unready"
        assert FULL in backend.log.read_text()
        before = robot.acknowledged
        (disk / "filler").unlink()
        wait_for(lambda: readiness(http)["status"] == "ready")
        wait_for(lambda: robot.acknowledged > before and robot.progress.trouble is None)
    robot.close()
    assert robot.drain(PATIENCE_S) == robot.logged
    again = http.post("/upload/sync", data=file, files={"file": ("a", b"PAR1")})
    assert again.status_code == (200 if first.status_code == 201 else 201)
    ledger = http.get(f"/sessions/{robot.session_id}/ledger").json()
    assert (ledger["committed"], ledger["missing"], ledger["complete"]) == (robot.logged, 0, True)
