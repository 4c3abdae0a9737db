"""What the end-to-end tests share."""

import tempfile
from collections.abc import Iterator

import pytest
from teleop_testing.processes import ServiceProcess


@pytest.fixture
def backend() -> Iterator[ServiceProcess]:
    """The whole backend as one process, with folders of its own."""
    # Not in pytest's own folder: that is closed to the account that PostgreSQL runs under.
    with tempfile.TemporaryDirectory(prefix="backend-") as folder:
        environment = {
            "LEROBOT_BACKEND_DATA_DIR": f"{folder}/data",
            "LEROBOT_BACKEND_BACKUP_DIR": f"{folder}/backup",
        }
        with ServiceProcess("lerobot_backend", environment, "LEROBOT_BACKEND_PORT") as process:
            yield process
