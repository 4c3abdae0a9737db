"""What the end-to-end tests share."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from teleop_testing.backends.processes import ServiceProcess, telemetry_process, whole_backend
from teleop_testing.machine.prepared import Forked, PreparedPython
from teleop_testing.waiting import PATIENCE_S


@pytest.fixture
def backend() -> Iterator[ServiceProcess]:
    """The whole backend as one process, with folders of its own."""
    # Not in pytest's own folder: that is closed to the account that PostgreSQL runs under.
    with tempfile.TemporaryDirectory(prefix="backend-") as folder, whole_backend(folder) as process:
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
def start(
    python: PreparedPython, environment: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., Forked]]:
    """Starts a command of Python whose output goes to a file, `output.txt`."""
    started: list[Forked] = []

    def start(*command: str) -> Forked:
        with (tmp_path / "output.txt").open("wb") as output:
            started.append(python.start(command, output=output, environment=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait(PATIENCE_S)


@pytest.fixture
def typed(environment: dict[str, str], tmp_path: Path) -> Callable[..., int]:
    """Runs a command as a shell does, for tests of the start itself; its output goes to `output.txt`."""

    def typed(*command: str) -> int:
        with (tmp_path / "output.txt").open("wb") as output:
            return subprocess.run(
                command, env=environment, stdout=output, stderr=output, timeout=PATIENCE_S
            ).returncode

    return typed


@pytest.fixture
def output(tmp_path: Path) -> Callable[[], str]:
    """What the command has printed so far."""
    return lambda: (tmp_path / "output.txt").read_text(errors="replace")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how many bad inputs were tried."""
    calls = [report for report in terminalreporter.getreports("passed") if report.when == "call"]
    tried = sum(count for report in calls for name, count in report.user_properties if name == "bad inputs")
    if tried:
        terminalreporter.write_line(f"{tried} bad inputs were tried")
