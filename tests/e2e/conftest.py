"""What the end-to-end tests share."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from teleop_testing.backends.processes import ServiceProcess, telemetry_process
from teleop_testing.waiting import PATIENCE_S


@pytest.fixture
def backend() -> Iterator[ServiceProcess]:
    """The whole backend as one process, with folders of its own."""
    # Not in pytest's own folder: that is closed to the account that PostgreSQL runs under.
    with tempfile.TemporaryDirectory(prefix="backend-") as folder:
        environment = {
            "LEROBOT_BACKEND_DATA_DIR": f"{folder}/data",
            "LEROBOT_BACKEND_BACKUP_DIR": f"{folder}/backup",
        }
        with ServiceProcess("teleop_backend", environment, "LEROBOT_BACKEND_PORT") as process:
            yield process


@pytest.fixture
def service(database_url: str) -> Iterator[ServiceProcess]:
    """A telemetry-service that runs."""
    with telemetry_process(database_url) as process:
        yield process


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """LeRobot and the spool keep everything in the test's own folder."""
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_LEROBOT_HOME": str(tmp_path / "lerobot"),
        "LEROBOT_BACKEND_SPOOL": str(tmp_path / "spool"),
    }


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a command whose output goes to a file, `output.txt`."""
    started: list[subprocess.Popen[str]] = []

    def start(*command: str) -> subprocess.Popen[str]:
        with (tmp_path / "output.txt").open("wb") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE_S)


@pytest.fixture
def output(tmp_path: Path) -> Callable[[], str]:
    """What the command has printed so far."""
    return lambda: (tmp_path / "output.txt").read_text(errors="replace")
