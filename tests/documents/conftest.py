"""What the tests of documents and examples share."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from teleop_testing.backends.processes import ServiceProcess, whole_backend


@pytest.fixture(scope="module")
def backend() -> Iterator[ServiceProcess]:
    """The whole backend as one process, with folders of its own."""
    # Not in pytest's own folder: that is closed to the account that PostgreSQL runs under.
    with tempfile.TemporaryDirectory(prefix="backend-") as folder, whole_backend(folder) as process:
        yield process


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of somebody who has activated .venv, and whose home is empty."""
    home = tmp_path_factory.mktemp("home")
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "HF_LEROBOT_HOME": str(home / "lerobot"),
        "LEROBOT_BACKEND_SPOOL": str(home / "spool"),
        "OMP_NUM_THREADS": "1",
    }
