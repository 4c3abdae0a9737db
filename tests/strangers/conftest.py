"""What tests with clients of other people share."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from teleop_testing.backends.processes import ServiceProcess, telemetry_process, whole_backend
from teleop_testing.waiting import PATIENCE_S

HERE = Path(__file__).parent
INSTALL = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]


@pytest.fixture
def service(database_url: str) -> Iterator[ServiceProcess]:
    """A telemetry-service that runs, with its own limits and time-outs."""
    with telemetry_process(database_url) as process:
        yield process


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """The one-process default."""
    with whole_backend(tmp_path_factory.mktemp("backend")) as process:
        yield process


@pytest.fixture(scope="session")
def npm(tmp_path_factory: pytest.TempPathFactory):
    """Copies a folder with a package.json, and installs beside it what it locks."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node or npm is missing: apt-get install nodejs npm")

    def install(source: Path) -> Path:
        folder = tmp_path_factory.mktemp(source.name) / source.name
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("node_modules"))
        done = subprocess.run(
            INSTALL, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
        assert done.returncode == 0, done.stderr
        return folder

    return install


@pytest.fixture(scope="session")
def clients(npm) -> Path:
    """The folder of the clients, with what those of Node need."""
    return npm(HERE) / "clients"
