"""Each service from its image alone: nothing but its own environment."""

import time
from uuid import uuid4

import docker
import pytest
from docker.errors import ContainerError

LIMITS = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "tmpfs": {"/tmp": ""},
    "security_opt": ["no-new-privileges"],
}
SERVICES = [("telemetry-service", 8001), ("video-ingest-service", 8002), ("export-service", 8003)]
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def database(engine: docker.DockerClient, stack):
    """A PostgreSQL of somebody else, migrated; the network it is in, and its address there."""
    name = f"alone-{uuid4().hex[:8]}"
    network = engine.networks.create(name)
    server = engine.containers.run(
        "postgres:18",
        environment={"POSTGRES_PASSWORD": "secret"},
        network=name,
        hostname="database",
        detach=True,
    )
    url = "postgresql://postgres:secret@database:5432/postgres"
    wait(lambda: server.exec_run(["pg_isready", "-h", "127.0.0.1", "-U", "postgres"]).exit_code == 0)
    command = ["python", "-m", "teleop_schema.migrate"]
    engine.containers.run(
        "lerobot-backend/setup", command, environment={"DATABASE_URL": url}, network=name, remove=True
    )
    yield name, url
    server.remove(force=True, v=True)
    network.remove()


@pytest.mark.parametrize(("service", "port"), SERVICES)
def test_a_service_starts_alone(engine, database, service, port):
    """Its image, the address of a database, and it is ready and healthy."""
    network, url = database
    container = engine.containers.run(
        f"lerobot-backend/{service}",
        environment={"DATABASE_URL": url, "LEROBOT_BACKEND_EXPOSURE": "lab"},
        network=network,
        volumes=["/files"],
        detach=True,
        **LIMITS,
    )
    try:
        code = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{port}/readyz')"
        wait(lambda: container.exec_run(["python", "-c", code]).exit_code == 0)
        wait(lambda: engine.api.inspect_container(container.id)["State"]["Health"]["Status"] == "healthy")
        container.stop(timeout=30)
        assert engine.api.inspect_container(container.id)["State"]["ExitCode"] == 0
    finally:
        container.remove(force=True, v=True)


@pytest.mark.parametrize(("service", "port"), SERVICES)
def test_a_service_says_what_its_environment_lacks(engine, stack, service, port):
    """Exit status 2, and the name of the variable."""
    with pytest.raises(ContainerError) as failure:
        engine.containers.run(f"lerobot-backend/{service}", remove=True, **LIMITS)
    assert failure.value.exit_status == 2
    assert b"DATABASE_URL" in failure.value.stderr


def wait(is_so) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.2)
