"""One stack for the whole run, built from this checkout."""

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import docker
import pytest
from base_images import ensure_base_images
from docker.errors import DockerException
from recorder import record
from stack import REPOSITORY, Stack, compose_command
from teleop_testing.backends.processes import free_port

PROJECT = "lerobot-backend-test"
MISSING = """\
The stack's tests need a Docker engine that this user may use: {error}
Install one (Debian: apt-get install docker.io), let this user use it, and start it."""


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """Docker on this machine, with the base images that the Dockerfiles begin with."""
    try:
        client = docker.from_env(timeout=600)
        client.ping()
    except DockerException as error:
        pytest.exit(MISSING.format(error=error), returncode=1)
    ensure_base_images(client)
    yield client
    client.close()


@pytest.fixture(scope="session")
def stack(engine: docker.DockerClient) -> Iterator[Stack]:
    """The stack as `make up` leaves it, empty at first; LEROBOT_BACKEND_KEEP_STACK leaves it for a look."""
    stack = Stack(engine, PROJECT, free_port())
    stack.remove()
    stack.compose("build")
    stack.up()
    yield stack
    if "LEROBOT_BACKEND_KEEP_STACK" not in os.environ:
        stack.remove()


@pytest.fixture(scope="session")
def agent_image(engine: docker.DockerClient) -> str:
    """Name of the image that robot PCs run; compose.yaml knows nothing of it."""
    file = REPOSITORY / "deploy/robot/compose.yaml"
    needed = dict.fromkeys(("ROBOT_USER", "LEROBOT_BACKEND_URL", "LEROBOT_BACKEND_ROBOT_ID"), "not used")
    command = [*compose_command(), "--file", str(file), "build", "--quiet"]
    built = subprocess.run(command, env=os.environ | needed, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return "lerobot-backend/sync-agent"


@pytest.fixture(scope="session")
def recorded(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Ledger of a session of one episode with one camera, which the robot library recorded."""
    return record(stack.url, tmp_path_factory.mktemp("spool"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs no stack goes first: as long as one runs, Docker asks its containers for their health.

    Each time takes it 0.1 s of processor time, which is a tenth of a core for five containers.
    """
    items.sort(key=lambda item: "stack" in getattr(item, "fixturenames", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how large the images are."""
    for report in terminalreporter.getreports("passed"):
        for name, told in report.user_properties:
            if name == "image" and report.when == "call":
                terminalreporter.write_line(told)
